"""The story's tracking store: a tracking server of its own, with log-in, on which the story is a maintainer."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from {{ cookiecutter.__package }}.base import params


@contextlib.contextmanager
def store(folder, environment):
    """Run a server for the duration of a with block; yields the environment variables with which the story's commands find it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    known, command = environment | {"MLFLOW_TRACKING_URI": address}, [sys.executable, "-m", params.PACKAGE.name]

    def run(*words):
        done = subprocess.run([*command, *words], cwd=folder, env=known, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout

    run("server", "--secrets")
    with (folder / "server.log").open("w") as log:
        words = [*command, "server", "--port", str(port)]
        server = subprocess.Popen(words, cwd=folder, env=known, stdout=log, stderr=log, start_new_session=True)
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                if server.poll() is not None:
                    sys.exit((folder / "server.log").read_text())
                time.sleep(0.2)
        said = run("teams", "--name", "story", "--team", "story", "--role", "maintainer")
        variables = dict(line.split("=", 1) for line in said.splitlines() if line.startswith("MLFLOW_"))
        if variables.get("MLFLOW_TRACKING_URI") != address:
            sys.exit(f"the story's server made no user of it: {said}")
        yield variables
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
