"""A demo of the default project: bake, install, train, serve, predict, stop."""

import argparse
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent


def step(title, *command, cwd=ROOT):
    """Print a command and run it; exit with its code if it fails."""
    print(f"\n$ {title}", flush=True)
    done = subprocess.run(command, cwd=cwd)
    if done.returncode:
        sys.exit(done.returncode)


def wait(url, server, seconds=30):
    """Return once `url` answers; exit if the server ends or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    server.terminate()
    sys.exit(f"error: the service did not answer at {url}; its message is above")


def main():
    """Bake the default project into `build/` and run each step."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", default="9696")
    parser.add_argument("--pipenv", required=True)
    given = parser.parse_args()
    build = ROOT / "build"
    project = build / "ride-duration"
    build.mkdir(exist_ok=True)
    bake = (sys.executable, "-m", "cookiecutter", "--no-input", "--default-config", "-f", "-o", str(build), str(ROOT))
    step("cookiecutter . --output-dir build", *bake)
    step("make setup", "make", "--no-print-directory", "setup", f'PIPENV="{given.pipenv}"', cwd=project)
    step("make pipeline", "make", "--no-print-directory", "pipeline", cwd=project)
    print("\n$ make serve", flush=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MODEL_", "MLFLOW_"))}
    command = ["make", "--no-print-directory", "serve", f"PORT={given.port}"]
    server = subprocess.Popen(command, cwd=project, env=environment)
    try:
        wait(f"http://127.0.0.1:{given.port}/readyz", server)
        step("make predict", "make", "--no-print-directory", "predict", f"PORT={given.port}", cwd=project)
    finally:
        server.terminate()
        server.wait()
    print(f"\nThe project is in {project.relative_to(ROOT)}: read its README, or serve it again with `make serve`.")


if __name__ == "__main__":
    main()
