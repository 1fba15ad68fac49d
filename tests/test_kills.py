"""Jobs and workers that are killed at any moment: no partial output, no loss, and repeats with the same result."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time

import pytest
from conftest import NAMED, answers_at, free_port, listens, wait

pytestmark = pytest.mark.slow
KILLS = 20
EVENTS = 200_000


def content(project, folder):
    """The scored rows of every file, without the time at which they were scored."""
    code = (
        "import sys, pathlib, hashlib, pyarrow.parquet as p\n"
        "for f in sorted(pathlib.Path(sys.argv[1]).rglob('*.parquet')):\n"
        "    t = p.ParquetFile(f).read().drop_columns('scored_at')\n"
        "    print(f.name, t.num_rows, hashlib.sha256(t.to_pandas().to_csv().encode()).hexdigest())"
    )
    done = project.run(".venv/bin/python", "-c", code, str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_twenty_kills_of_a_batch_job_never_leave_a_partial_output(bake):
    project = bake(**NAMED, deployment="batch", maturity_level="1").borrow_environment()
    assert project.make("train").returncode == 0
    make = (
        "import pathlib, pyarrow as pa, pyarrow.parquet as p; from night_bus import problem\n"
        "for i in range(4):\n"
        "    t = pa.table(dict(problem.sample(200_000, seed=i))); pathlib.Path('rides').mkdir(exist_ok=True)\n"
        "    p.write_table(pa.concat_tables([t, t]), f'rides/{i}.parquet')"
    )
    assert project.run(".venv/bin/python", "-c", make).returncode == 0
    assert project.make("score", "INPUT=rides", "OUTPUT=whole").returncode == 0
    whole = content(project, project.path / "whole")
    rng, seen, target = random.Random(1), 0, project.path / "killed"
    command = [".venv/bin/python", "-m", "night_bus", "batch", "--input", "rides", "--output", "killed"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for _ in range(KILLS):
        before = set(target.glob(".*.partial"))
        job = subprocess.Popen(command, cwd=project.path, env=project.environment(), **quiet)
        while not set(target.glob(".*.partial")) - before and job.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2))
        job.kill()
        job.wait()
        found = content(project, target)
        seen += len(found.splitlines())
        assert set(found.splitlines()) <= set(whole.splitlines())
        if found == whole:
            for path in target.glob("*.parquet"):
                path.unlink()
    assert project.make("score", "INPUT=rides", "OUTPUT=killed").returncode == 0
    assert content(project, target) == whole
    assert [path.name for path in target.iterdir() if "partial" in path.name] == []
    print(f"{KILLS} kills, {seen} whole files seen between them")
    assert seen >= KILLS // 2


@contextlib.contextmanager
def broker(project, port):
    """A broker that keeps its events in S3, so that they are still there after it is killed."""
    variables = {
        "BROKER_STORAGE": "s3://rides/",
        "AWS_ENDPOINT": os.environ["AWS_ENDPOINT_URL"],
        "AWS_ALLOW_HTTP": "true",
    }
    with project.running("broker", f"PORT={port}", until=lambda _: listens(port), **variables) as process:
        yield process


def test_five_kills_of_workers_and_a_restart_of_the_broker_lose_no_event(bake, s3):
    project = bake(**NAMED, deployment="streaming", maturity_level="1").borrow_environment()
    assert project.make("train").returncode == 0
    port = free_port()
    address = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"}
    rng = random.Random(1)

    def start():
        side = free_port()
        command = [".venv/bin/python", "-m", "night_bus", "stream", "--port", str(side)]
        # The log of a worker that dies is part of what went wrong, if anything did.
        log = (project.path / f"worker-{side}.log").open("w")
        return subprocess.Popen(
            command, cwd=project.path, env=project.environment(**address), stdout=log, stderr=log
        ), side

    with contextlib.ExitStack() as running:
        first = running.enter_context(broker(project, port))
        workers = [start(), start()]
        running.callback(lambda: [process.kill() for process, _ in workers])
        wait(lambda: all(answers_at(f"http://127.0.0.1:{side}/readyz") for _, side in workers), 60)
        produce = subprocess.Popen(
            project.make_command("produce", f"COUNT={EVENTS}", "RATE=4000", "BAD=0.001"),
            cwd=project.path,
            env=project.environment(**address),
            stdout=subprocess.DEVNULL,
        )
        for kill in range(5):
            time.sleep(rng.uniform(2, 8))
            victim = rng.randrange(2)
            workers[victim][0].kill()
            workers[victim][0].wait()
            workers[victim] = start()
            if kill == 2:
                os.killpg(first.pid, signal.SIGKILL)
                first.wait()
                time.sleep(1)
                running.enter_context(broker(project, port))
        assert produce.wait(600) == 0
        code = (
            "import json, sys, time; from confluent_kafka import *; from night_bus.serving import broker as kafka\n"
            "c = Consumer(kafka.settings(**{'group.id': 'x'})); names = ('predictions', 'dead-letters')\n"
            "there = c.list_topics(timeout=10).topics\n"
            "c.assign([TopicPartition(n, i, OFFSET_BEGINNING) for n in names for i in there[n].partitions])\n"
            "found, repeats, other, quiet = {}, 0, 0, time.time()\n"
            "while time.time() - quiet < 120 and (len(found) < int(sys.argv[1]) or time.time() - quiet < 10):\n"
            "    for m in c.consume(1000, 1):\n"
            "        quiet = time.time()\n"
            "        if m.key() in found: repeats += 1; other += found[m.key()] != m.value()\n"
            "        found[m.key()] = m.value()\n"
            "print(json.dumps([len(found), repeats, other]))"
        )
        done = project.run(".venv/bin/python", "-c", code, str(EVENTS), timeout=900, **address)
    assert done.returncode == 0, done.stderr
    answered, repeats, different = json.loads(done.stdout)
    print(f"{answered:,} of {EVENTS:,} events answered, {repeats:,} repeats, {different} of them different")
    assert answered == EVENTS
    assert different == 0
