"""Measure what one unit costs, on one core where that can be, and write the tables of `docs/scale.md` from it.

Needs `wrk` and `taskset` (Debian's packages wrk and util-linux) and two cores: one for what is measured, one for the load.
"""

import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import serve
from batch import JOB
from report import PYTHON, ROOT, bake, environment, machine, measure
from stream import COMMON

PAGE = ROOT / "docs" / "scale.md"
RATES = (1_000, 10_000, 100_000)
"""Predictions a second."""

BUSY = 0.6
"""The share of a core or a worker that is planned for: the rest is for peaks, and for what a neighbour fails to do."""

CORE_HOUR, GB_MONTH = 0.05, 0.08
"""Example prices in dollars: of an hour of a core with 4 GB, and of a month of a gigabyte on a disk."""

ROWS = """
import sys, pyarrow as pa, pyarrow.parquet as p; from ride_duration import problem; from ride_duration.data import schema
with p.ParquetWriter(sys.argv[1], schema.table(problem.sample(1, seed=1)).schema) as file:
    for seed in range(int(sys.argv[2])): file.write_table(schema.table(problem.sample(500_000, seed=seed)))
"""
READ = """
import time; from ride_duration.monitoring import logged
t = time.perf_counter(); lines = sum(1 for _ in logged.rows()); print(lines / (time.perf_counter() - t), lines)
"""
WORKERS = (
    COMMON.replace("topics = kafka.Stream.load()", "topics = kafka.Stream.load().model_copy(update={'partitions': 8})")
    + """
count, workers = int(sys.argv[1]), int(sys.argv[2])
send(count)
watch = Consumer(kafka.settings(**{'group.id': topics.group}))
parts = [TopicPartition(topics.events, number) for number in range(8)]
def done(): return sum(max(each.offset, 0) for each in watch.committed(parts, timeout=10))
def free():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]
def resident(pid): return int(open(f'/proc/{pid}/statm').read().split()[1]) * 4096 / 1e6
running = [subprocess.Popen([sys.executable, '-m', 'ride_duration', 'stream', '--port', str(free())], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(workers)]
seen = []
while not seen or seen[-1][1] < count:
    seen.append((time.perf_counter(), done())); time.sleep(0.1)
    assert all(each.poll() is None for each in running)
memory = sum(resident(each.pid) for each in running) / workers
for each in running: each.terminate()
for each in running: each.wait()
broker.kill()
within = [at for at in seen if 0.1 * count <= at[1] <= 0.95 * count]
print((within[-1][1] - within[0][1]) / (within[-1][0] - within[0][0]), memory)
"""
)


def web(folder, seconds):
    """Requests a second and p99 of one worker on one core, megabytes of a service and of each worker, bytes of a logged prediction."""
    serve.watched(folder)
    project = folder / "ride-duration"
    script = serve.lua(folder, serve.RECORD)
    own = environment(project)
    base = ["env", f"PYTHONPATH={own['PYTHONPATH']}", f"MLFLOW_TRACKING_URI={own['MLFLOW_TRACKING_URI']}"]
    command = [PYTHON, "-m", "ride_duration", "web", "--port", serve.PORT]
    results = {}
    for workers in (1, 2):
        pinned = [*base, f"WEB_CONCURRENCY={workers}", "taskset", "-c", "0", *command]
        results[workers] = serve.measure(pinned, project, "/predict", serve.RECORD, script, seconds, serve.PORT)
    logs = list((project / "predictions").glob("*.jsonl"))
    lines = sum(path.read_bytes().count(b"\n") for path in logs)
    size = sum(path.stat().st_size for path in logs)
    speed, _ = measure(project, READ)
    rate, _, last, _, memory = results[1]
    return {
        "requests": rate,
        "p99": last,
        "service_mb": memory,
        "worker_mb": results[2][4] - memory,
        "line_bytes": size / lines,
        "lines_read": speed,
    }


def batch(folder):
    """Rows a second on one core, bytes of a scored row, megabytes."""
    project = bake(folder, deployment="batch")
    measure(project, ROWS, folder / "rows.parquet", 8)
    command = ["taskset", "-c", "0", PYTHON, "-c", JOB, folder / "rows.parquet", folder / "scored.parquet"]
    done = subprocess.run(command, cwd=project, env=environment(project), capture_output=True, text=True, check=True)
    rows, memory, size = map(float, done.stdout.split())
    return {"rows": rows, "row_bytes": size, "job_mb": memory}


def stream(folder, events):
    """Events a second of one to four workers, and megabytes of each."""
    project = bake(folder, deployment="streaming")
    found = [measure(project, WORKERS, events, workers) for workers in (1, 2, 3, 4)]
    return {"events": [rate for rate, _ in found], "stream_mb": [memory for _, memory in found]}


def training(folder, millions):
    """Seconds of training on a million rows and peak megabytes of all its processes, by engine."""
    project = bake(folder)
    measure(project, ROWS, folder / "train.parquet", 2 * millions)
    found = {}
    for engine in ("memory", "disk", "spark"):
        command = [PYTHON, "-m", "ride_duration", "train", "--engine", engine, "--data", folder / "train.parquet"]
        started, peak = time.monotonic(), 0.0
        work = subprocess.Popen(command, cwd=project, env=environment(project), stdout=subprocess.DEVNULL)
        while work.poll() is None:
            peak = max(peak, serve.memory(work.pid))
            time.sleep(0.2)
        if work.returncode:
            sys.exit(f"{command} failed")
        found[engine] = [(time.monotonic() - started) / millions, peak]
    return {"training": found}


def units(page):
    """The figures that a page has."""
    return json.loads(re.search(r"<!-- units (.*?) -->", page, flags=re.S)[1])


def tables(found):
    """The parts of the page that are made from the figures: name -> lines."""
    rows = [
        ("requests/s of a worker of the web service on one core, with the log and an A/B split", f"{found['requests']:,.0f}"),
        ("its 99th percentile under that load", f"{found['p99']:,.0f} ms"),
        ("memory of the service with one worker; of each further one", f"{found['service_mb']:,.0f} MB; {found['worker_mb']:,.0f} MB"),
        ("bytes of the log a prediction", f"{found['line_bytes']:,.0f}"),
        ("logged predictions read back a second, on one core", f"{found['lines_read']:,.0f}"),
        ("rows/s of a batch job on one core", f"{found['rows']:,.0f}"),
        ("bytes of a scored row in Parquet", f"{found['row_bytes']:,.0f}"),
        *(
            (f"events/s of {count} stream worker{'s' * (count > 1)} on this machine; memory of each", f"{rate:,.0f}; {memory:,.0f} MB")
            for count, (rate, memory) in enumerate(zip(found["events"], found["stream_mb"], strict=True), 1)
        ),
        *(
            (f"seconds of `make train ENGINE={engine}` a million rows; peak memory of all its processes", f"{seconds:,.1f}; {peak:,.0f} MB")
            for engine, (seconds, peak) in found["training"].items()
        ),
    ]  # fmt: skip
    measured = ["| unit | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    names = ["predictions/s", *(f"{rate:,}" for rate in RATES)]
    plans = [plan(found, rate) for rate in RATES]
    planned = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    planned += [f"| {name} | {' | '.join(each[name] for each in plans)} |" for name in plans[0]]
    return {"units": measured, "plan": planned}


def plan(found, rate):
    """What a number of predictions a second needs: name -> text."""
    web_cores = math.ceil(rate / (found["requests"] * BUSY))
    workers = math.ceil(rate / (found["events"][0] * BUSY))
    day = rate * 86_400
    log = day * found["line_bytes"] / 1e9
    hours = day / found["rows"] / 3_600
    month = 730 * CORE_HOUR * web_cores, 90 * log * GB_MONTH
    return {
        "web: cores": f"{web_cores:,}",
        "web: replicas of 4 cores": f"{max(2, math.ceil(web_cores / 4)):,}",
        "web: memory of all workers": f"{(web_cores * found['worker_mb'] + max(2, math.ceil(web_cores / 4)) * (found['service_mb'] - found['worker_mb'])) / 1000:,.1f} GB",
        "streaming: workers, a core each": f"{workers:,}",
        "streaming: partitions, two for each worker": f"{2 * workers:,}",
        "streaming: memory of all workers": f"{workers * found['stream_mb'][0] / 1000:,.1f} GB",
        "batch: core hours for a day's rows": f"{hours:,.2f}",
        "batch: written a day": f"{day * found['row_bytes'] / 1e9:,.1f} GB",
        "log: written a day": f"{log:,.0f} GB",
        "log: 90 days": f"{90 * log / 1000:,.1f} TB",
        "monitor: core hours to read a day": f"{day / found['lines_read'] / 3_600:,.1f}",
        "web: dollars a month for cores; for 90 days of log": f"{month[0]:,.0f}; {month[1]:,.0f}",
    }


def written(page, found):
    """The page with its tables made from the figures."""
    for name, lines in tables(found).items():
        made = "".join(f"{line}\n" for line in lines)
        page = re.sub(rf"(<!-- {name}: made -->\n).*?(<!-- end -->)", lambda m, made=made: m[1] + made + m[2], page, flags=re.S)  # fmt: skip
    return page


def main():
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--millions", type=int, default=3)
    given = parser.parse_args()
    found = {"machine": machine()}
    for name, work in (
        ("web", lambda folder: web(folder, given.seconds)),
        ("batch", batch),
        ("stream", lambda folder: stream(folder, given.events)),
        ("training", lambda folder: training(folder, given.millions)),
    ):
        with tempfile.TemporaryDirectory() as scratch:
            found |= work(pathlib.Path(scratch))
        print(name, found, flush=True)
    page = PAGE.read_text(encoding="utf-8")
    rounded = json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.4g}"))
    page = re.sub(r"<!-- units .*? -->", f"<!-- units {json.dumps(rounded)} -->", page, flags=re.S)
    PAGE.write_text(written(page, rounded), encoding="utf-8")


if __name__ == "__main__":
    main()
