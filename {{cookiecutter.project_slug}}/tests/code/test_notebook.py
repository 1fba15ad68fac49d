"""The notebook runs from top to bottom with the package as it is."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs(path):
    NotebookClient(
        nbformat.read(path, as_version=4), timeout=120, resources={"metadata": {"path": path.parent}}
    ).execute()
