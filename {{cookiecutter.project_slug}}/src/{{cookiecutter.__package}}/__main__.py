"""Every command's way in, `python -m <package> <command>`: it loads that command's module and nothing else."""

import importlib
import os
import pkgutil
import signal
import sys

from . import __path__ as folders
from . import cli
from .cli import UserError


def main() -> int | None:
    """Run `main` of the module that the first argument names.

    Raises:
        UserError: there is no such module, or it is no command.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    known = name in {module.name for module in pkgutil.iter_modules(folders)}
    # Libraries swallow what is raised while they are imported. Nothing is written by then, so Ctrl-C may just leave.
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(cli.leave()))
    command = getattr(importlib.import_module(f"{__package__}.{name}"), "main", None) if known else None
    signal.signal(signal.SIGINT, interrupt)
    if command is None or name == "__main__":
        raise UserError(f"{name!r} is not a command of this project: `make` lists what there is")
    del sys.argv[1]
    code: int | None = command()
    return code


if __name__ == "__main__":
    cli.run(main)
