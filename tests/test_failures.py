"""Real failures: a full disk, a read-only folder, Ctrl-C, a damaged model. Each prints one line and leaves no partial output."""

import functools
import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import NAMED, SHARED

ISOLATED = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
needs_mounts = pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*ISOLATED, "mount -t tmpfs tmpfs /mnt"]).returncode != 0,
    reason="needs a kernel that lets a test mount a file system of its own (unshare --map-root-user --mount)",
)


def only_line(done):
    """The one line that a failed command prints, without make's own."""
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture
def project(bake):
    return bake(**NAMED, maturity_level="1").borrow_environment()


@needs_mounts
@pytest.mark.parametrize("kilobytes", [1_200, *(pytest.param(size, marks=pytest.mark.slow) for size in (1_600, 2_300))])
def test_training_on_a_full_disk_says_so_and_leaves_no_model(project, kilobytes):
    """The disk is full while the store is made, or once the run is being logged."""
    script = (
        f"mount -t tmpfs -o size={kilobytes}k tmpfs /mnt && cp -a . /mnt/ && cd /mnt && make --no-print-directory train;"
        "code=$?; test -e /mnt/model && echo a model was left; exit $code"
    )
    done = project.run(*ISOLATED, script, PYTHONPATH="/mnt/src")
    line = only_line(done)
    assert "space" in line or "full" in line
    assert "a model was left" not in done.stdout


@needs_mounts
def test_training_in_a_read_only_folder_says_so(project):
    script = "mount --bind $0 $0 && mount -o remount,bind,ro $0 && cd $0 && make --no-print-directory train"
    assert "read-only" in only_line(project.run(*ISOLATED, script, str(project.path)))


def importing(pid):
    """Wait until a process is loading libraries; before that, Python itself has not begun to listen for signals."""
    for _ in range(600):
        with open(f"/proc/{pid}/maps") as maps:
            if "numpy" in maps.read():
                return
        time.sleep(0.01)
    raise AssertionError("it loads none")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="what a process has loaded is told by Linux's /proc")
@pytest.mark.parametrize("after", ["", pytest.param("rows to train on", marks=pytest.mark.slow), "exported as"])
def test_ctrl_c_while_training_is_one_line_and_leaves_no_model(project, after):
    """While modules are imported, while the estimator is fitted, and while the run is logged."""
    environment = {**os.environ, "PYTHONPATH": str(project.path / "src"), "PYTHONUNBUFFERED": "1"}
    command = [str(SHARED / ".venv" / "bin" / "python"), "-m", "night_bus", "train"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Tests that run in the background ignore Ctrl-C.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=project.path, env=environment, preexec_fn=listen, **pipes)
    if after:
        next(line for line in process.stdout if after in line)
    else:
        importing(process.pid)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "error: stopped by Ctrl-C; nothing half-written was left behind\n"
    assert [path.name for path in project.path.iterdir() if "model" in path.name] == []
