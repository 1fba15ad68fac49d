"""The entry point of every command, `python -m <package> <command>`; without a command it lists them, from a table of pyproject.toml."""

import gc
import importlib
import os
import signal
import sys
import textwrap

from .base import errors, params
from .base.errors import UserError, near


def main() -> int | None:
    """Run `main` of the module that the first argument names and load nothing else; without an argument, list the commands.

    Raises:
        UserError: there is no such command.
    """
    commands = params.commands()
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        lines = [f"{name:14} {_purpose(module)}" for name, module in commands.items()]
        print("\n".join(textwrap.fill(line, 79, subsequent_indent=" " * 15) for line in lines))
        return 0
    name = sys.argv[1]
    if name not in commands:
        raise UserError(f"{name!r} is no command{near(name, commands, '; `make` lists them')}")
    # Libraries swallow what is raised while they are imported. Nothing is written by then, so Ctrl-C may just exit.
    interrupt = signal.getsignal(signal.SIGINT)
    if callable(interrupt):
        signal.signal(signal.SIGINT, lambda *_: os._exit(errors.leave()))
    # What is imported stays: without this, the garbage collector's looks at it take a third of the time of a short command.
    gc.disable()
    command = importlib.import_module(f"{__package__}.{commands[name]}").main
    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGINT, interrupt)
    # MLflow takes the first word for the source of a run.
    sys.argv[:2] = [f"python -m {__package__} {name}"]
    return command()  # type: ignore[no-any-return]


def _purpose(module: str) -> str:
    """The first line of a module's docstring, read without importing it."""
    source = params.PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    return source.read_text(encoding="utf-8").split('"""')[1].splitlines()[0]


if __name__ == "__main__":
    errors.run(main)
