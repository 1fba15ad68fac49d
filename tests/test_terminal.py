"""The output of commands on a terminal."""

import os
import re
import subprocess
import sys

import pytest
from conftest import NAMED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminal of this kind")
def test_a_terminal_counts_the_seconds_of_a_training_and_shows_no_library_s_warnings(bake):
    project = bake(**NAMED, maturity_level="0").borrow_environment()
    ours, theirs = os.openpty()
    command = project.make_command("train")
    streams = {"stdin": subprocess.DEVNULL, "stdout": theirs, "stderr": theirs}
    with subprocess.Popen(command, cwd=project.path, env=project.environment(), **streams) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:
            pass  # Linux's end of a terminal
    os.close(ours)
    assert process.returncode == 0, shown
    text = shown.decode()
    assert re.search(r"\b2 s\r", text)
    assert "rows to train on" in text
    assert not re.search(r"(?i)warning|deprecat|\x1b\[", text), text
    # Each line is written over the seconds, and nothing of them stays.
    left = [line.split("\r")[-1] for line in text.replace("\r\n", "\n").split("\n")]
    assert not any(re.fullmatch(r"\d+ s", line) for line in left)
    assert left[-1] == ""
