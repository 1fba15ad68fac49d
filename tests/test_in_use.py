"""Level 3 in one sitting: models are refused, tried and promoted while a service answers, and every answer is accounted for."""

import collections
import contextlib
import csv
import http.client
import json
import math
import os
import random
import re
import signal
import threading
import time
import urllib.request

import pytest
from conftest import NAMED, answers_at, free_port, service, wait, worker
from test_projects import post
from test_remote import team_server

pytestmark = pytest.mark.slow

RECORD = {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6}


class Requests:
    """Requests that never stop, from four clients, each with an id of its own; what they got, by id."""

    def __init__(self, port):
        self.port, self.answers, self.failed, self.times = port, {}, [], []
        self._over = threading.Event()

    def __enter__(self):
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, client):
        connection, number = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20), 0
        while not self._over.is_set():
            record = {**RECORD, "ride_id": f"{client}-{number}", "PULocationID": 1 + number % 265}
            started = time.monotonic()
            try:
                connection.request("POST", "/predict", json.dumps(record), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                content = json.loads(answer.read())
                assert answer.status == 200, content
                self.answers[record["ride_id"]] = content
                self.times.append((started, time.monotonic() - started))
            except Exception as error:
                if self._over.is_set():
                    return
                self.failed.append(repr(error))
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                time.sleep(0.05)
            number += 1

    def versions(self):
        """What answered lately."""
        return {answer["model_version"] for answer in list(self.answers.values())[-20:]}


def edit(project, old, new):
    """Change params.toml."""
    path = project.path / "params.toml"
    text = path.read_text(encoding="utf-8")
    assert re.search(old, text, flags=re.M), old
    path.write_text(re.sub(old, new, text, flags=re.M), encoding="utf-8")


def logged(project):
    """The lines of the prediction log that are whole, by the prediction's id."""
    rows = {}
    for path in (project.path / "predictions").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            rows[row["prediction_id"]] = row
    return rows


def served(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=10) as answer:
        return json.load(answer)


@contextlib.contextmanager
def serving(project, port):
    """`make serve` with two workers."""
    up = f"http://127.0.0.1:{port}/readyz"
    with project.running("serve", f"PORT={port}", until=lambda _: answers_at(up), WEB_CONCURRENCY="2") as process:
        yield process


def test_a_service_follows_what_the_gate_and_people_decide_and_loses_nothing(bake, tmp_path):
    project = bake(**NAMED, deployment="web", maturity_level="3").borrow_environment()
    edit(project, r"^n_estimators = \d+", "n_estimators = 20")
    first = project.make("pipeline")
    assert "version 1 is champion" in first.stdout, first.stderr
    port = free_port()
    with serving(project, port), Requests(port) as requests:
        # Worse than the champion: refused, and the reason is in the registry's log.
        edit(project, r"^n_estimators = 20", "n_estimators = 4")
        done = project.make("pipeline")
        assert done.returncode != 0
        assert "is worse than" in done.stderr
        assert "refuse" in project.make("log").stdout
        # As good as the champion: challenger.
        edit(project, r"^n_estimators = 4", "n_estimators = 20")
        edit(project, r"^seed = 42", "seed = 42 ")
        edit(project, r"^min_child_weight = 5", "min_child_weight = 6")
        done = project.make("pipeline")
        assert "undecided" in done.stdout, done.stdout + done.stderr
        assert "version 2 is challenger" in done.stdout
        assert requests.versions() == {"1"}
        # Better: champion, and the running workers answer with it within ten seconds.
        edit(project, r"^n_estimators = 20", "n_estimators = 90")
        done = project.make("pipeline")
        assert "version 3 is champion; it replaced version 1" in done.stdout, done.stdout + done.stderr
        wait(lambda: requests.versions() == {"3"}, 12)
        assert project.make("rollback").returncode == 0
        moved = time.monotonic()
        wait(lambda: requests.versions() == {"1"}, 12)
        print(f"a rollback was followed within {time.monotonic() - moved:.1f} s")
        assert requests.failed == []
    # A challenger at 20 %.
    assert project.make("ab", "SHARE=0.2", "VERSION=3").returncode == 0
    with serving(project, port):
        roles = ask_once(port, range(10_000))
        assert abs(roles.count("challenger") - 2_000) < 4 * math.sqrt(10_000 * 0.2 * 0.8)
    with serving(project, port) as process:
        assert ask_once(port, range(500)) == roles[:500], "a restart sends keys elsewhere"
        assert served(port)["challenger"] == "3"
        with Requests(port) as requests:
            time.sleep(3)
            os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.5)
    found = logged(project)
    answered = {answer["prediction_id"] for answer in requests.answers.values()}
    assert answered
    assert answered <= set(found)
    # What came true, and the report: version 3 is the better one.
    with (tmp_path / "truth.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["prediction_id", "duration"])
        for name, row in found.items():
            wide = 2 if row["model_version"] == "3" else 5
            came = row["answer"]["duration"] + random.Random(name).gauss(0, wide)
            table.writerow([name, f"{min(max(came, 1), 60):.3f}"])  # as training would use it
    for _ in range(2):
        done = project.make("truth", f"DATA={tmp_path / 'truth.csv'}")
        assert f"{len(found):,} of {len(found):,} predictions have theirs" in done.stdout, done.stderr
    assert "0 of" in project.make("quality").stdout
    report = project.make("ab-report")
    assert report.stdout.startswith("better: the challenger's squared error is lower than the champion's by "), (
        report.stdout + report.stderr
    )
    assert "as expected" in report.stdout
    name = next(iter(answered))
    traced = project.make("trace", f"PREDICTION={name}").stdout
    assert re.search(rf"prediction_id +{name}\n", traced)
    assert re.search(r"data_fingerprint +\w", traced)
    assert (
        "version 1 served at" in project.make("log", f"AT={time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}").stdout
    )


def test_a_team_s_service_follows_its_registry_and_a_member_s_better_model_waits_for_a_maintainer(bake):
    project = bake(**NAMED, deployment="web", tracking="remote", maturity_level="3").borrow_environment()
    edit(project, r"^n_estimators = \d+", "n_estimators = 20")
    with team_server(project) as team:
        member, maintainer, viewer = (team.variables(name) for name in ("mo", "max", "vera"))
        assert "version 1 is champion" in project.make("pipeline", **maintainer).stdout
        # Who only serves needs to read, and no more.
        with service(project, **viewer) as port:
            edit(project, r"^n_estimators = 20", "n_estimators = 90")
            done = project.make("pipeline", **member)
            assert "version 2 is challenger" in done.stdout, done.stdout + done.stderr
            assert "a maintainer may promote it: make promote VERSION=2" in done.stdout
            assert post(port, RECORD)["model_version"] == "1"
            why = "REASON=fewer errors"
            assert "maintainer" in project.make("ab", "SHARE=0.5", why, **member).stderr
            assert project.make("ab", "SHARE=1", why, **maintainer).returncode == 0
            wait(lambda: post(port, RECORD)["role"] == "challenger", 12)
            assert project.make("promote", "VERSION=2", why, **maintainer).returncode == 0
            wait(lambda: (post(port, RECORD)["model_version"], post(port, RECORD)["role"]) == ("2", "champion"), 12)
            assert project.make("rollback", why, **maintainer).returncode == 0
            wait(lambda: post(port, RECORD)["model_version"] == "1", 12)


def ask_once(port, numbers):
    """Who answered records with these ids, a hundred in a request."""
    roles, numbers = [], list(numbers)
    for start in range(0, len(numbers), 100):
        records = [{**RECORD, "ride_id": f"key-{number}"} for number in numbers[start : start + 100]]
        body = json.dumps(records).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            roles += [row["role"] for row in json.load(answer)]
    return roles


def test_a_worker_of_the_stream_follows_and_logs_what_it_answers(bake):
    project = bake(**NAMED, deployment="streaming", maturity_level="3").borrow_environment()
    edit(project, r"^n_estimators = \d+", "n_estimators = 20")
    assert project.make("pipeline").returncode == 0
    with worker(project) as address:
        for version in ("1", "2"):
            done = project.make("produce", "COUNT=300", KAFKA_BOOTSTRAP_SERVERS=address)
            assert done.returncode == 0, done.stderr
            wait(lambda version=version: by_version(project)[version] >= 300, 60)
            if version == "1":
                edit(project, r"^n_estimators = 20", "n_estimators = 90")
                assert "version 2 is champion" in project.make("pipeline").stdout
                time.sleep(10)
    assert by_version(project) == {"1": 300, "2": 300}
    assert "600 predictions written" in project.make("predictions", "OUTPUT=log.parquet").stdout


def by_version(project):
    return collections.Counter(row["model_version"] for row in logged(project).values())


def test_the_scored_files_of_jobs_are_their_log(bake, tmp_path):
    project = bake(**NAMED, deployment="batch", maturity_level="3").borrow_environment()
    assert project.make("pipeline").returncode == 0
    edit(project, r"^min_child_weight = 5", "min_child_weight = 6")
    assert "version 2 is challenger" in project.make("pipeline").stdout
    assert project.make("ab", "SHARE=0.3").returncode == 0
    assert project.make("data").returncode == 0
    done = project.make("score", "INPUT=data/sample.parquet", "OUTPUT=scored/sample.parquet")
    assert done.returncode == 0, done.stderr
    report = project.make("quality").stdout
    assert re.search(r"\| 1 \| champion \|", report)
    assert re.search(r"\| 2 \| challenger \|", report)
    rows = int(
        re.search(r"([\d,]+) predictions written", project.make("predictions", "OUTPUT=log.parquet").stdout)[1].replace(
            ",", ""
        )
    )
    assert rows > 19_000
