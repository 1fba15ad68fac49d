"""Long-running tests: the demo from the README, every Python that the project supports, real trips."""

import json
import math
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from conftest import DEPLOYMENTS, NAMED, PYTHONS, ROOT, free_port, service
from packaging.markers import Marker
from test_projects import post

pytestmark = pytest.mark.slow
TRIPS = os.environ.get("TRIPS", "")


def python(version):
    """A Python of that version, on PATH or among pyenv's; None where there is none."""
    places = [shutil.which(f"python{version}"), *pathlib.Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    for place in filter(None, places):
        if subprocess.run([place, "-c", "import venv"], capture_output=True).returncode == 0:
            return str(place)
    return None


def test_the_demo_prints_a_prediction_and_stops_the_service():
    port = free_port()
    command = ["make", "--no-print-directory", "demo", f"PORT={port}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (answer,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"duration"')]
    assert 1 < answer["duration"] < 60
    with pytest.raises(OSError, match="refused"):
        post(port, {})


@pytest.mark.parametrize("version", PYTHONS[1:])
def test_a_project_installs_and_passes_its_tests_on_a_later_python(bake, version):
    found = python(version)
    if found is None:
        pytest.skip(f"needs Python {version} on PATH")
    project = bake(**NAMED)
    for target in ("setup", "lint", "test"):
        done = project.make(target, f"PYTHON={found}", timeout=600)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"python{version}" in next(project.path.glob(".venv/lib/*")).name


SOURCE_ONLY = {"pyspark"}
"""Python alone, and published without a wheel."""


MACHINES = {
    "linux": ("linux", "Linux", "x86_64", ["manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1))]),
    "linux-arm": ("linux", "Linux", "aarch64", ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(28, 16, -1))]),
    "macos": ("darwin", "Darwin", "arm64", [f"macosx_{major}_0_{kind}" for major in range(15, 10, -1) for kind in ("arm64", "universal2")]),
    "windows": ("win32", "Windows", "AMD64", ["win_amd64"]),
}  # fmt: skip
"""The environment markers of a machine, and its wheel tags."""


@pytest.mark.parametrize(
    ("version", "machine"),
    [*((each, "linux") for each in PYTHONS), *((PYTHONS[-2], each) for each in list(MACHINES)[1:])],
)
def test_every_locked_package_has_a_wheel_for_what_is_promised(bake, tmp_path, version, machine):
    """The files that pip would install there, by the lock's hashes, from the index of this machine."""
    pip = [sys.executable, "-m", "pip", "--timeout", "20", "--retries", "1"]
    if subprocess.run([*pip, "index", "versions", "pip"], capture_output=True).returncode != 0:
        pytest.skip("no package index answers")
    target = {"python_version": version, "python_full_version": f"{version}.0"}
    system, name, processor, wheels = MACHINES[machine]
    target |= {"sys_platform": system, "platform_system": name, "platform_machine": processor}
    target["os_name"] = "nt" if system == "win32" else "posix"
    pins = {}
    for deployment in DEPLOYMENTS:
        lock = json.loads(bake(deployment=deployment, tracking="remote", maturity_level="4").text("Pipfile.lock"))
        pins |= {name: pin for category, block in lock.items() if category != "_meta" for name, pin in block.items()}
    wanted = [
        f"{name}{pin['version']} {' '.join(f'--hash={digest}' for digest in pin['hashes'])}"
        for name, pin in pins.items()
        if name not in SOURCE_ONLY and ("markers" not in pin or Marker(pin["markers"]).evaluate(target))
    ]
    assert len(wanted) > 150
    (tmp_path / "requirements.txt").write_text("\n".join(wanted))
    command = [*pip, "install", "--quiet", "--dry-run", "--no-deps", "--only-binary=:all:", "--target", "nowhere"]
    command += ["--python-version", version, "--implementation", "cp", "--requirement", "requirements.txt"]
    command += [word for wheel in wheels for word in ("--platform", wheel)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, [line for line in done.stderr.splitlines() if line.startswith("ERROR")]


@pytest.mark.skipif(
    not TRIPS, reason="needs real trips: set TRIPS to a Parquet file of the Taxi and Limousine Commission"
)
def test_real_trips_over_http_give_the_logged_metric(bake):
    """Every validation row posted by itself, and all of them as lists, give the run's rmse to four digits."""
    project = bake(**NAMED, maturity_level="1").borrow_environment()
    done = project.make("train", f"DATA={TRIPS}")
    assert done.returncode == 0, done.stderr
    logged = json.loads(project.text("model/model.json"))["metrics"]["rmse"]
    assert logged <= 4.8
    code = (
        "import json, sys; from night_bus.base import params; from night_bus.data import clean, read; from night_bus.data.split import split;"
        "p = params.load();"
        f"_, v = split(clean.clean(*read.rows(p.data, {TRIPS!r})), p.data.validation_share);"
        "rows = [dict(zip(v.columns, row)) for row in zip(*(c.astype(str).tolist() if c.dtype.kind == 'M' else c.tolist()"
        " for c in v.columns.values()))]; json.dump([rows, v.target.tolist()], sys.stdout)"
    )
    rows, actual = json.loads(project.run(".venv/bin/python", "-c", code).stdout)
    with service(project) as port:
        singly = [post(port, row)["duration"] for row in rows]
        lists = [post(port, rows[start : start + 500]) for start in range(0, len(rows), 500)]
    together = [answer["duration"] for answers in lists for answer in answers]
    assert singly == together
    rmse = math.sqrt(sum((a - b) ** 2 for a, b in zip(actual, singly, strict=True)) / len(actual))
    print(f"{len(rows)} rows: rmse {rmse:.6f} over HTTP, {logged:.6f} logged")
    assert round(rmse, 4) == round(logged, 4)
