"""LightGBM in a fresh bake by the steps of docs/estimators.md: first without code, then with a short name."""

import json
import re

import pytest
from conftest import NAMED, ROOT, service
from test_projects import post

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "estimators.md").read_text(encoding="utf-8")


def settings(project, toml):
    """Replace the project's `[model]` table by a block of the page."""
    text = project.text("params.toml")
    table, parameters = toml.split("\n\n", 1)
    text = re.sub(r"^\[model\]\n[^\[]*", table + "\n\n" + parameters + "\n", text, count=1, flags=re.M)
    (project.path / "params.toml").write_text(text, encoding="utf-8")


def test_lightgbm_is_added_trained_and_served(bake, tmp_path):
    project = bake(**NAMED, maturity_level="1")
    # The package is added to a separate environment of the project.
    own = {"PIP_NO_COMPILE": "0"}
    done = project.make("setup", timeout=900, **own)
    assert done.returncode == 0, done.stdout + done.stderr
    (command,) = re.findall(r"```sh\n(.*?)\n```", PAGE)
    done = project.make(*command.split()[1:], timeout=900, **own)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lightgbm" in json.loads(project.text("Pipfile.lock"))["train"]
    _, block = re.findall(r"```toml\n(.*?)\n```", PAGE, flags=re.S)
    settings(project, block)
    done = project.make("train")
    assert done.returncode == 0, done.stderr
    assert "fitted lightgbm.LGBMRegressor" in done.stdout
    assert "exported as model.onnx" in done.stdout
    record = {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6}
    with service(project) as port:
        assert 1 < post(port, record)["duration"] < 60
    # The short name from the page.
    (entry,) = re.findall(r"```python\n(.*?)\n```", PAGE, flags=re.S)
    path = project.path / "src" / "night_bus" / "estimators.py"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("\n\nTREES = (", f"\n\n\n{entry}\n\nTREES = (", 1), encoding="utf-8")
    text = project.text("params.toml").replace('"lightgbm.LGBMRegressor"\n', '"lightgbm"\n', 1)
    text = text.replace('[model."lightgbm.LGBMRegressor"]', "[model.lightgbm]")
    (project.path / "params.toml").write_text(text, encoding="utf-8")
    done = project.make("train")
    assert done.returncode == 0, done.stderr
    assert "fitted lightgbm in" in done.stdout
    done = project.make("lint")
    assert done.returncode == 0, done.stdout + done.stderr
