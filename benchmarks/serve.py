"""Measure the generated service and comparable services in one run, on one machine, with one model.

Needs `wrk` (a Debian package) and the bake of `make environment`; FastAPI and uvicorn come with its training packages.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from report import PROJECT, PYTHON, ROOT, bake, environment, machine, plot, section

PORT = "9701"
RECORD = {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6, "lpep_pickup_datetime": "2024-01-10T08:30:00"}
BARE = """
from flask import Flask
app = Flask(__name__)
@app.post("/predict")
def predict():
    return {"duration": 16.3463, "model_version": "1", "prediction_id": "959aacf317474391ae8b7ccc26438a87"}
"""
ESTIMATOR = """
import datetime, joblib, numpy as np, uuid
from fastapi import FastAPI
from pydantic import BaseModel
estimator = joblib.load({path!r})
app = FastAPI()
class Record(BaseModel):
    PULocationID: int
    DOLocationID: int
    trip_distance: float
    lpep_pickup_datetime: datetime.datetime
@app.post("/predict")
def predict(record: Record):
    t = record.lpep_pickup_datetime
    row = [record.PULocationID, record.DOLocationID, record.trip_distance, t.hour + t.minute / 60 + t.second / 3600, t.weekday()]
    duration = float(estimator.predict(np.array([row], np.float32))[0])
    return {{"duration": duration, "model_version": "1", "prediction_id": uuid.uuid4().hex}}
"""
PREPARE = """
import json, joblib, pathlib, sys
from ride_duration import estimators, problem
from ride_duration.base import params
from ride_duration.data import clean, read
from ride_duration.data.split import split
settings = params.load()
older, _ = split(clean.clean(*read.rows(settings.data)), settings.data.validation_share)
estimator = estimators.fit(problem.features(older.columns), older.target, settings)
estimator.set_params(n_jobs=1)
joblib.dump(estimator, sys.argv[1])
"""


def memory(pid):
    """Resident megabytes of a process and its children."""
    pages, children = 0, [pid]
    while children:
        one = children.pop()
        try:
            pages += int(pathlib.Path(f"/proc/{one}/statm").read_text().split()[1])
            # A process may be started by any thread, as Java does.
            for task in pathlib.Path(f"/proc/{one}/task").iterdir():
                children += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * 4096 / 1e6


def measure(command, cwd, path, body, script, seconds, port):
    """Start a service; requests a second, milliseconds of p50 and p99, seconds to the first answer, resident megabytes."""
    started = time.monotonic()
    server = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(WEB_CONCURRENCY="2"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}{path}"
    try:
        while True:
            try:
                request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=5) as response:
                    response.read()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() - started > 90:
                    sys.exit(f"{command} did not answer")
                time.sleep(0.02)
        first = time.monotonic() - started
        time.sleep(5)  # the process that queries the registry for a level 3 service takes seconds to load
        load = ["wrk", "--latency", "-t1", "-c32", f"-d{seconds}s", "-s", script, url]
        subprocess.run([*load[:4], "-d2s", *load[5:]], capture_output=True, check=True)
        done = subprocess.run(load, capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in done:
            sys.exit(f"{command}: {done}")
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done)[1])
        half, last = (milliseconds(*re.search(rf"{share}%\s+([\d.]+)(us|ms|s)\b", done).groups()) for share in (50, 99))
        return rate, half, last, first, memory(server.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
        time.sleep(3)  # workers close the port after their parent has exited


def milliseconds(number, unit):
    """A duration as wrk prints it, such as 3.20ms or 812.00us, as milliseconds."""
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def installed(names):
    """Installed megabytes of some distributions of the lock, by pip's records of their files."""
    code = (
        "import sys, importlib.metadata as m\n"
        "total = 0\n"
        "for n in sys.argv[1:]:\n"
        "    try: d = m.distribution(n)\n"
        "    except m.PackageNotFoundError: continue\n"
        "    total += sum(f.locate().stat().st_size for f in d.files or [] if f.suffix != '.pyc' and f.locate().exists())\n"
        "print(total / 1e6)"
    )
    return float(subprocess.run([PYTHON, "-c", code, *names], capture_output=True, text=True, check=True).stdout)


def prepare(folder):
    """Train and register the model, and write the programs and models to compare with into `folder`."""
    pipeline = ["make", "-s", "pipeline", f'PIPENV="{ROOT}/.pipenv/bin/pipenv"']
    subprocess.run(pipeline, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    estimator = str(folder / "model.joblib")
    (folder / "bare.py").write_text(BARE)
    (folder / "fast.py").write_text(ESTIMATOR.format(path=estimator))
    options = {"cwd": PROJECT, "env": environment(), "check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([PYTHON, "-c", PREPARE, estimator], **options)
    subprocess.run([PYTHON, "-m", "ride_duration", "source", str(folder / "model")], **options)
    watched(folder)


def watched(folder):
    """Bake a project of level 3 whose challenger answers a tenth of the keys; each prediction is logged."""
    project = bake(folder, maturity_level="3")
    settings = project / "params.toml"
    settings.write_text(settings.read_text().replace("min_child_weight = 5", "min_child_weight = 6"))
    options = {"cwd": project, "env": environment(project), "check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([PYTHON, "-m", "ride_duration", "pipeline"], **options)
    settings.write_text(settings.read_text().replace("min_child_weight = 6", "min_child_weight = 5"))
    subprocess.run([PYTHON, "-m", "ride_duration", "share", "ab", "--share", "0.1", "--version", "2"], **options)


def services(folder):
    """Name of a service -> command, working folder, path and body of a request."""
    gunicorn = [PYTHON, "-m", "gunicorn", "--config", str(PROJECT / "gunicorn.conf.py"), "--bind", f"127.0.0.1:{PORT}"]
    ours = ["env", f"MODEL_URI={folder / 'model'}", PYTHON, "-m", "ride_duration", "web", "--port", PORT]
    uvicorn = [PYTHON, "-m", "uvicorn", "fast:app", "--workers", "2", "--port", PORT, "--log-level", "error"]
    project = folder / "ride-duration"
    own = environment(project)
    level3 = ["env", f"PYTHONPATH={own['PYTHONPATH']}", f"MLFLOW_TRACKING_URI={own['MLFLOW_TRACKING_URI']}", *ours[2:]]
    mlflow = [PYTHON, "-m", "mlflow", "models", "serve", "-m", "models:/ride-duration@champion"]
    return {
        "this service": (ours, PROJECT, "/predict", RECORD),
        "this service at level 3: prediction log and A/B split": (level3, project, "/predict", RECORD),
        "a bare Flask route that returns a constant": ([*gunicorn, "bare:app"], folder, "/predict", RECORD),
        "FastAPI + uvicorn with the estimator": (uvicorn, folder, "/predict", RECORD),
        "mlflow models serve": (
            [*mlflow, "--env-manager", "local", "-p", PORT, "-w", "2"],
            PROJECT,
            "/invocations",
            {"dataframe_records": [RECORD]},
        ),
    }


def lua(folder, body):
    """The script that tells wrk which request to send."""
    script = folder / "post.lua"
    headers = "wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\n"
    script.write_text(f"{headers}wrk.body={json.dumps(json.dumps(body))}\n")
    return str(script)


def main():
    """Measure the services alternately for a few rounds and write the medians."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("skipped: serve.py needs wrk (apt-get install wrk)")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        prepare(folder)
        contest = services(folder)
        results = {name: [] for name in contest}
        for _ in range(given.rounds):
            for name, (command, cwd, path, body) in contest.items():
                figures = measure(command, cwd, path, body, lua(folder, body), given.seconds, PORT)
                results[name].append(figures)
                print(name, [round(figure, 2) for figure in figures], flush=True)
    write(results, given)


def write(results, given):
    """Write the table and the plot."""
    lock = json.loads((PROJECT / "Pipfile.lock").read_text())
    sizes = installed(lock["default"]), installed({**lock["default"], **lock["train"]})
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in results.items()
    }
    spread = {name: (min(row[0] for row in rows), max(row[0] for row in rows)) for name, rows in results.items()}
    mine = medians["this service"]
    rows = "\n".join(
        f"| {name} | {spread[name][0]:,.0f} | {rate:,.0f} | {spread[name][1]:,.0f} | {mine[0] / rate:.2f} | {half:.1f} | {last:.1f} "
        f"| {first:.1f} | {first / mine[3]:.1f} | {resident:,.0f} |"
        for name, (rate, half, last, first, resident) in medians.items()
    )
    plot("serve", {name: figures[0] for name, figures in medians.items()}, "requests per second")
    section(
        "Serving",
        f"""`benchmarks/serve.py` ({machine()}): one record per request, 2 workers, 32 connections, `wrk` for {given.seconds} s, {given.rounds} alternating
rounds, the default bake's model; this service reads it from a folder, as in the image; at level 3 it follows the registry, logs each
prediction and lets a challenger answer a tenth of the keys. Figures are medians of the rounds; for requests/s also the lowest and highest.

| service | lowest | requests/s | highest | ours / theirs | p50 ms | p99 ms | s to first prediction | theirs / ours | resident MB |
|---|---|---|---|---|---|---|---|---|---|
{rows}

![Requests per second](serve.png)

Installed size of the serving packages: {sizes[0]:,.0f} MB; with MLflow, scikit-learn and the other training packages:
{sizes[1]:,.0f} MB ({sizes[1] / sizes[0]:.1f} times as much).""",
    )


if __name__ == "__main__":
    main()
