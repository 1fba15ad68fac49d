"""The block of every pipeline: run one command of the project, in the project's own environment.

The pipeline's file says which, in the block's `configuration`. Words in braces are variables of the pipeline, or values that
the block before has passed on: `--run={linear[run_id]}`.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

if "custom" not in globals():
    from mage_ai.data_preparation.decorators import custom

OF_MAGE = ("MAGE_", "JWT_SECRET", "DEFAULT_OWNER_", "POSTGRES_")
"""The beginnings of variables that a command of the project need not know."""

GRACE = 60
"""Seconds after SIGTERM until a command that has not ended is killed."""


@custom
def command(*before, **variables):
    """Run the command and show its output meanwhile; pass on the last line that is JSON, with the block's name.

    Raises:
        RuntimeError: it failed, with the reason that it gave, or took longer than `timeout` seconds.
    """
    project, configuration = Path(variables["repo_path"]).parents[1], variables["configuration"]
    block, limit = variables["block_uuid"], configuration["timeout"]
    known = variables | {each["block"]: each for each in before if each}
    words = [word.format_map(known) for word in shlex.split(configuration["command"])]
    python = os.environ.get("PROJECT_PYTHON", f"{project}/.venv/bin/python")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OF_MAGE)}
    environment |= {
        "PYTHONPATH": f"{project}/src",
        "PYTHONUNBUFFERED": "1",
        "TRIGGER": f"mage {variables['pipeline_uuid']}",
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "encoding": "utf-8"}
    running = subprocess.Popen([python, *words], cwd=project, env=environment, start_new_session=True, **pipes)
    # What the command has started itself gets the signals too.
    timer = threading.Timer(limit, os.killpg, (running.pid, signal.SIGTERM))
    last = threading.Timer(limit + GRACE, os.killpg, (running.pid, signal.SIGKILL))
    timer.start()
    last.start()
    lines = [""]
    with contextlib.suppress(ValueError):  # in a thread that is not the main one
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for line in running.stdout:
            print(line, end="", flush=True)
            lines += [line.strip()] if line.strip() else []
        code, late = running.wait(), not timer.is_alive()
    finally:
        timer.cancel()
        last.cancel()
        running.kill()
    if code and late:
        raise RuntimeError(f"{block} was stopped after {limit} s, its time limit")
    if code:
        reasons = [line.removeprefix("error: ") for line in lines if line.startswith(("error: ", "ALARM "))]
        raise RuntimeError(f"{block} ended with {code}: {'; '.join(reasons[-5:] or lines[-1:])}")
    told = [line for line in lines if line.startswith("{")]
    return (json.loads(told[-1]) if told else {}) | {"block": block}
