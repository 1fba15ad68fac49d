"""The story's tracking store: a file of its own."""

import contextlib


@contextlib.contextmanager
def store(folder, _):
    """The environment variables with which the story's commands find the store."""
    yield {"MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').as_posix()}"}
