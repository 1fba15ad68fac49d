"""Commands end with one line and an exit code, never with a traceback."""

import errno
import signal
import subprocess
import sys

import pytest

from {{ cookiecutter.__package }}.base import errors, params
from {{ cookiecutter.__package }}.base.errors import UserError


def failing(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("no such month"), 1, "no such month"),
        (KeyboardInterrupt(), 130, "Ctrl-C"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "model"), 1, "model: permission denied"),
    ],
)
def test_what_a_person_can_mend_is_one_line_on_stderr(error, code, said, capsys):
    with pytest.raises(SystemExit) as stop:
        errors.run(failing(error))
    assert stop.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_ctrl_c_ends_a_command_even_where_a_library_makes_an_error_of_it(capsys):
    def main():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as interrupt:
            raise ImportError("half a module") from interrupt

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as stop:
            errors.run(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stop.value.code == 130
    assert "Ctrl-C" in capsys.readouterr().err


def test_success_is_exit_code_0():
    with pytest.raises(SystemExit) as stop:
        errors.run(lambda: None)
    assert stop.value.code == 0


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        errors.run(lambda: 1 // 0)


def typed(*words):
    """`python -m <package>` with words, as a finished process."""
    command = [sys.executable, "-m", params.PACKAGE.name, *words]
    return subprocess.run(command, cwd=params.ROOT / "src", capture_output=True, text=True)


def test_an_argument_that_is_none_of_the_choices_is_one_line_that_has_them():
    done = typed("train", "--engine", "sparc")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --engine: invalid choice: 'sparc'")
    assert "memory" in line


def test_the_package_alone_lists_its_commands():
    done = typed()
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == list(params.commands())
    assert all(len(line) < 80 for line in lines)


def test_a_command_that_is_misspelt_is_named_with_what_is_near():
    done = typed("trian")
    assert done.returncode == 1
    assert done.stderr == "error: 'trian' is no command; did you mean train?\n"
