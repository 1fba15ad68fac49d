"""Where the story's runs and models go: a file of its own."""

import contextlib


@contextlib.contextmanager
def store(folder, _):
    """Gives the variables with which the story's commands find it."""
    yield {"MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').as_posix()}"}
