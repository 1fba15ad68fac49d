"""Many rounds of operation at level 4, some of them killed; test_rounds.py runs this in a project, with the project's Python.

A life is a training by hand, a roll-out by steps, and a new champion that is watched and kept. Each life is killed at
another write to the tracking store, the registry or the disk; then rounds go on in a process that nobody kills. Prints a line
for each life that did not end as one that was left alone, and the number of lives.

With `many`, sixty quiet rounds in one process: prints what that has grown by in the last forty.
"""

import itertools
import json
import os
import re
import shutil
import sys
import threading
import uuid
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from night_bus import problem
from night_bus.base import params
from night_bus.data import clean, data_lock
from night_bus.model import live
from night_bus.model.predictor import PREDICTION
from night_bus.monitoring import logged, monitor_page
from night_bus.pipeline import operate, retrain, rollout
from night_bus.registry import champion_log, versions
from night_bus.serving import served_model
from night_bus.tracking import conventions, store

WRITES = [
    (MlflowClient, "create_run"),
    (MlflowClient, "set_tag"),
    (MlflowClient, "set_terminated"),
    (MlflowClient, "create_registered_model"),
    (MlflowClient, "delete_registered_model"),
    (MlflowClient, "create_model_version"),
    (MlflowClient, "set_registered_model_tag"),
    (MlflowClient, "set_registered_model_alias"),
    (MlflowClient, "delete_registered_model_alias"),
    (retrain.pyarrow.parquet, "write_table"),
    (data_lock, "keep"),
    (monitor_page, "write"),
    (monitor_page, "expose"),
]
KEPT = ("mlflow.db", "mlruns", "mlartifacts", "data", "data.lock", "predictions", ".cache", "model", "reports")
ROUNDS = 12


def kill_at(owner, name, number):
    """Exit as if killed by SIGKILL, at that call of this process."""
    inner, seen = getattr(owner, name), 0

    def call(*args, **kwargs):
        nonlocal seen
        seen += 1
        if seen == number:
            print(f"killed at {name} {number} {str(args[1:4])[:100]}", flush=True)
            os._exit(9)
        return inner(*args, **kwargs)

    setattr(owner, name, call)


def traffic(answering, seed):
    """Answer some records and log each answer."""
    rows = clean.clean("traffic", problem.sample(200, seed))
    names = np.array([str(uuid.uuid4()) for _ in range(len(rows))], object)
    answering.predict({**rows.columns, PREDICTION: names})


def life():
    """Run rounds until the new champion is kept."""
    for number in range(ROUNDS):
        if any(each["action"] == "keep" for each in rollout.notes()):
            return
        # New records in each round: a key is always assigned to the same model, so an uneven split of few keys would stay uneven.
        traffic(served_model.answering(), number)
        begun = any(each["action"] == "retrain" for each in rollout.notes())
        for line in operate.once(new=True, wanted="" if begun else "a better one"):
            print("   ", line, flush=True)


def ended():
    """The state of store, registry and disk after a life."""
    notes = [(each["action"], each["now"]) for each in reversed(rollout.notes()) if each["action"] != "retrain"]
    found = store.connect().search_model_versions(f"name = '{conventions.model_name()}'")
    said = live.experiment(conventions.model_name())
    rows = list(logged.rows())
    return {
        "versions": sorted(str(each.version) for each in found),
        "aliases": {name: str(version) for name, version in versions.model().aliases.items()},
        "share": said.share,
        "log": notes,
        "lines": len({row["prediction_id"] for row in rows}) == len(rows) > 0,
        "data": sorted(data_lock.entries()),
    }


def child(work, before=None, *args):
    """Do some work in a process of its own, after what is to be done there before; gives its exit code."""
    sys.stdout.flush()
    process = os.fork()
    if not process:
        code = 1
        try:
            if before:
                before(*args)
            work()
            code = 0
        except BaseException as error:  # any error is printed, and the process ends here
            print(f"    {type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def copy(source, target):
    """Copy the files that a life changes from one folder to another, replacing those there."""
    for name in KEPT:
        if (target / name).is_dir():
            shutil.rmtree(target / name)
        (target / name).unlink(missing_ok=True)
        if (source / name).exists():
            (shutil.copytree if (source / name).is_dir() else shutil.copy)(source / name, target / name)


def many():
    """Run rounds without an alarm; print the growth of memory in MB, open files, threads, and files per round."""

    def size():
        status = Path("/proc/self/status").read_text()
        memory = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
        files = sum(len(found) for _, _, found in os.walk(params.ROOT))
        return np.array([memory, len(os.listdir("/proc/self/fd")), threading.active_count(), files])

    # One predictor, as in a service, with an open log.
    answering = served_model.answering()
    for number in range(60):
        traffic(answering, 7)
        list(operate.once(new=True))
        if number == 19:
            before = size()
    memory, files, threads, kept = size() - before
    print(f"grown by {memory:.0f} MB, {files:.0f} open files, {threads:.0f} threads, {kept / 40:.2f} files a round")


def killed():
    """Run lives, each killed at a different write."""
    saved = Path(sys.argv[2])
    copy(params.ROOT, saved)
    champion_log.STALE_SECONDS = -1  # the lock of a dead process is released at once
    outcome = saved / "outcome.json"

    def judged():
        life()
        outcome.write_text(json.dumps(ended()))

    assert child(judged) == 0
    expected, lives, wrong = json.loads(outcome.read_text()), 0, 0
    print("expected", expected, flush=True)
    for owner, name in WRITES:
        for number in itertools.count(1):
            copy(saved, params.ROOT)
            if child(life, kill_at, owner, name, number) != 9:
                break
            outcome.unlink()
            code = child(judged)
            found = json.loads(outcome.read_text()) if outcome.exists() else {}
            lives += 1
            if code or found != expected:
                wrong += 1
                print(f"WRONG after {name} {number}: {code} {found}", flush=True)
    print(f"{lives} lives, {wrong} ended otherwise", flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    {"killed": killed, "many": many}[sys.argv[1]]()
