"""Receive the registry's webhook calls, and print those with a valid and recent signature."""

import argparse
import threading

from {{ cookiecutter.__package }}.base import errors
from {{ cookiecutter.__package }}.tracking_server import calls


def main():
    """Listen until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9698)
    calls.listen("127.0.0.1", parser.parse_args().port, lambda body: print(body.decode(), flush=True))
    threading.Event().wait()


if __name__ == "__main__":
    errors.run(main)
