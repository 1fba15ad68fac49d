"""Measure the generated service against its peers in one run, on one machine, with one model.

Needs `wrk` (a Debian package) and the bake of `make environment`; FastAPI and uvicorn come with its training packages.
Writes `docs/benchmarks.md` and `docs/serve.png`.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROJECT = ROOT / "build" / "a space" / "ride-duration"
PYTHON = str(PROJECT / ".venv" / "bin" / "python")
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
from ride_duration import data, params, problem, registry, train
settings = params.load()
older, _ = data.split(data.load(settings.data), settings.data.validation_share)
estimator = train.fit(problem.features(older.columns), older.target, settings, lambda line: None)
estimator.set_params(n_jobs=1)
joblib.dump(estimator, sys.argv[1])
"""


def environment():
    """This process's environment for a service with two workers."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MODEL_", "MLFLOW_", "PYTHON"))}
    # MLflow starts its server by name.
    clean["PATH"] = f"{PROJECT}/.venv/bin:{clean['PATH']}"
    return clean | {
        "PYTHONPATH": "src",
        "WEB_CONCURRENCY": "2",
        "MLFLOW_TRACKING_URI": f"sqlite:///{PROJECT}/mlflow.db",
    }


def memory(pid):
    """Resident megabytes of a process and its children."""
    pages, children = 0, [pid]
    while children:
        one = children.pop()
        try:
            pages += int(pathlib.Path(f"/proc/{one}/statm").read_text().split()[1])
            children += map(int, pathlib.Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except FileNotFoundError:
            continue
    return pages * 4096 / 1e6


def measure(command, cwd, path, body, script, seconds, port):
    """Start a service; requests a second by wrk, seconds to the first answer, resident megabytes."""
    started = time.monotonic()
    server = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(),
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
        load = ["wrk", "-t1", "-c32", f"-d{seconds}s", "-s", script, url]
        subprocess.run([*load[:3], "-d2s", *load[4:]], capture_output=True, check=True)
        done = subprocess.run(load, capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in done:
            sys.exit(f"{command}: {done}")
        return float(re.search(r"Requests/sec:\s+([\d.]+)", done)[1]), first, memory(server.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
        time.sleep(3)  # workers close the port after their parent has gone


def installed(names):
    """Installed megabytes of some distributions of the lock, as pip's records have them."""
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


def main():
    """Measure each service three times in turn and write the medians."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    subprocess.run(
        ["make", "-s", "pipeline", f"PIPENV={ROOT}/.pipenv/bin/pipenv"],
        cwd=PROJECT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (folder / "bare.py").write_text(BARE)
        (folder / "fast.py").write_text(ESTIMATOR.format(path=str(folder / "model.joblib")))
        subprocess.run(
            [PYTHON, "-c", PREPARE, str(folder / "model.joblib")], cwd=PROJECT, env=environment(), check=True
        )
        model = folder / "model"
        copy = [PYTHON, "-m", "ride_duration", "source", str(model)]
        subprocess.run(copy, cwd=PROJECT, env=environment(), check=True, stdout=subprocess.DEVNULL)
        frame = {"dataframe_records": [RECORD]}
        gunicorn = [PYTHON, "-m", "gunicorn", "--config", str(PROJECT / "gunicorn.conf.py"), "--bind", "127.0.0.1:9701"]
        services = {
            "this service": (
                ["env", f"MODEL_URI={model}", PYTHON, "-m", "ride_duration", "web", "--port", "9701"],
                PROJECT,
                "/predict",
                RECORD,
            ),
            "bare Flask, a constant": ([*gunicorn, "bare:app"], folder, "/predict", RECORD),
            "FastAPI + uvicorn, estimator": (
                [PYTHON, "-m", "uvicorn", "fast:app", "--workers", "2", "--port", "9701", "--log-level", "error"],
                folder,
                "/predict",
                RECORD,
            ),
            "mlflow models serve": (
                [
                    PYTHON,
                    "-m",
                    "mlflow",
                    "models",
                    "serve",
                    "-m",
                    "models:/ride-duration@champion",
                    "--env-manager",
                    "local",
                    "-p",
                    "9701",
                    "-w",
                    "2",
                ],
                PROJECT,
                "/invocations",
                frame,
            ),
        }
        results = {name: [] for name in services}
        for _ in range(given.rounds):
            for name, (command, cwd, path, body) in services.items():
                script = folder / "post.lua"
                script.write_text(
                    f"wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.body={json.dumps(json.dumps(body))}\n"
                )
                results[name].append(measure(command, cwd, path, body, str(script), given.seconds, 9701))
                print(name, [round(figure, 2) for figure in results[name][-1]], flush=True)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in results.items()
    }
    lock = json.loads((PROJECT / "Pipfile.lock").read_text())
    sizes = installed(lock["default"]), installed({**lock["default"], **lock["train"]})
    write(medians, sizes, given)


def write(medians, sizes, given):
    """Write the table and the plot."""
    mine = medians["this service"]
    rows = "\n".join(
        f"| {name} | {rate:,.0f} | {mine[0] / rate:.2f} | {first:.1f} | {first / mine[1]:.1f} | {resident:,.0f} |"
        for name, (rate, first, resident) in medians.items()
    )
    text = f"""# Benchmarks

Ratios count; absolute figures belong to the machine ({os.cpu_count()} cores, Python {platform.python_version()}), which
also ran the load. `benchmarks/serve.py`: one record a request, 2 workers, 32 connections, `wrk` for {given.seconds} s,
median of {given.rounds} rounds in turn, the default bake's model; ours comes from a folder, as in the image.

| service | requests/s | ours / theirs | s to first prediction | theirs / ours | resident MB |
|---|---|---|---|---|---|
{rows}

![Requests a second](serve.png)

Installed size of what serving needs: {sizes[0]:,.0f} MB; with MLflow, scikit-learn and the other packages that train:
{sizes[1]:,.0f} MB ({sizes[1] / sizes[0]:.1f} times as much).
"""
    (ROOT / "docs" / "benchmarks.md").write_text(text, encoding="utf-8")
    plot = (
        "import json, sys; from matplotlib.figure import Figure; d = json.loads(sys.argv[1]);"
        "f = Figure(figsize=(7, 2.6), layout='constrained'); a = f.subplots(); a.barh(list(d)[::-1], list(d.values())[::-1]);"
        "a.set_xlabel('requests a second'); f.savefig(sys.argv[2], dpi=100)"
    )
    rates = json.dumps({name: figures[0] for name, figures in medians.items()})
    subprocess.run([PYTHON, "-c", plot, rates, str(ROOT / "docs" / "serve.png")], check=True)
    print(text)


if __name__ == "__main__":
    main()
