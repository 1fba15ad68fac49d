"""A deployment under constant load, and its answers by the key of each record."""

import collections
import contextlib
import csv
import http.client
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request

from conftest import broker, free_port, serving, streaming, wait

IMAGE = f"registry.example.org/night-bus@sha256:{'0' * 64}"


def record(key):
    """The record for a key."""
    where = {"PULocationID": 1 + sum(key.encode()) % 265, "DOLocationID": 166}
    return {"ride_id": key, **where, "trip_distance": 2.6, "lpep_pickup_datetime": "2024-02-01 08:00:00"}


def rows(project, name):
    """The rows of a Parquet file of a project."""
    code = (
        "import json, sys, pyarrow.parquet as p\n"
        "for row in p.read_table(sys.argv[1]).to_pylist(): print(json.dumps(row, default=str))"
    )
    return [json.loads(line) for line in project.run(".venv/bin/python", "-c", code, name).stdout.splitlines()]


class InUse:
    """The shared parts of the three deployments.

    Attributes:
        answers: the model version and the role of each answered key.
        failed: the failed requests.
    """

    clients = 1
    patience = 20
    """The maximum number of seconds until it answers with another champion, on a busy machine."""

    def __init__(self, project, who):
        self.project, self.variables = project, {**who, "IMAGE": IMAGE, "WEB_CONCURRENCY": "2"}
        self.answers, self.failed, self._over = {}, [], threading.Event()

    @contextlib.contextmanager
    def around(self):
        """The parts that must run before it starts and that keep running when it ends."""
        yield self

    @contextlib.contextmanager
    def asked(self):
        """Send requests continuously, for the length of a with block."""
        self._over.clear()
        stamp = f"{time.time():.0f}"
        threads = [threading.Thread(target=self._ask, args=(f"{stamp}-{number}",)) for number in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def versions(self):
        """The versions that answered recently."""
        return {answer["model_version"] for answer in list(self.answers.values())[-20:]}

    def roles(self, keys):
        """The versions that answer these keys."""
        self.ask(keys)
        return [self.answers[key]["role"] for key in keys]


class Web(InUse):
    """`make serve` with HTTP clients; `pause` is the number of seconds between two requests of a client."""

    clients, patience = 4, 12

    def __init__(self, project, who):
        super().__init__(project, who)
        self.port, self.times, self.pause = free_port(), [], 0.03

    def running(self):
        """The service, for the length of a with block."""
        return serving(self.project, self.port, **self.variables)

    def _ask(self, client):
        connection, number = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20), 0
        while not self._over.is_set():
            key, started, number = f"{client}-{number}", time.monotonic(), number + 1
            try:
                connection.request("POST", "/predict", json.dumps(record(key)), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                content = json.loads(answer.read())
                assert answer.status == 200, content
                self.answers[key] = content
                self.times.append((started, time.monotonic() - started))
            except Exception as error:
                self.failed.append(repr(error))
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            time.sleep(self.pause)

    def ask(self, keys):
        """Send the records of these keys, a hundred per request."""
        for start in range(0, len(keys), 100):
            some = keys[start : start + 100]
            body = json.dumps([record(key) for key in some]).encode()
            url, kind = f"http://127.0.0.1:{self.port}/predict", {"Content-Type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(url, body, kind), timeout=20) as answer:
                self.answers.update(zip(some, json.load(answer), strict=True))

    def slowest(self, since, until):
        """Of each second of a time, in how many seconds 99 % of its requests were answered: the longest."""
        seconds = collections.defaultdict(list)
        for started, took in self.times.copy():
            if since <= started < until:
                seconds[int(started - since)].append(took)
        return max(sorted(each)[int(0.99 * len(each))] for each in seconds.values())

    def killed(self):
        """The service's process group is killed while it handles requests."""
        with self.running() as process, self.asked():
            time.sleep(3)
            os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.5)


EXCHANGE = """
import json, sys, threading
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from night_bus.serving import broker

topics = broker.Stream.load()
broker.require_topics(topics.events, topics.predictions, topics.dead_letters, partitions=topics.partitions)

def send():
    producer = Producer(broker.settings())
    for line in sys.stdin:
        producer.produce(topics.events, line.strip(), json.loads(line)["ride_id"])
        producer.poll(0)
    producer.flush(30)

threading.Thread(target=send, daemon=True).start()
consumer = Consumer(broker.settings(**{"group.id": "asks"}))
names = topics.predictions, topics.dead_letters
there = consumer.list_topics(timeout=10).topics
consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for name in names for number in there[name].partitions])
while True:
    for message in consumer.consume(500, 0.1):
        reason = dict(message.headers() or []).get("reason", b"").decode()
        print(message.key().decode(), reason or message.value().decode(), sep="\\t", flush=True)
"""
"""Sends each line it reads as an event, and prints each prediction and each dead letter."""


class Streaming(InUse):
    """`make stream` with a broker and a sender of events."""

    def __init__(self, project, who):
        super().__init__(project, who)
        self.sent = set()

    def running(self):
        """The worker, for the length of a with block."""
        return streaming(self.project, self._address, **self.variables)

    @contextlib.contextmanager
    def around(self):
        """The broker, and a client that sends events and reads predictions."""
        with broker(self.project) as self._address:
            command = [str(self.project.path / ".venv/bin/python"), "-c", EXCHANGE]
            piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            environment = self.project.environment(**self.variables, KAFKA_BOOTSTRAP_SERVERS=self._address)
            with subprocess.Popen(command, cwd=self.project.path, env=environment, **piped) as self._peer:
                reads = threading.Thread(target=self._read)
                reads.start()
                yield self
                self._peer.kill()
                reads.join()

    def _read(self):
        for line in self._peer.stdout:
            key, content = line.rstrip("\n").split("\t")
            if content.startswith("{"):
                self.answers[key] = json.loads(content)
            else:
                self.failed.append(f"{key}: {content}")

    def _send(self, keys):
        for key in keys:
            self._peer.stdin.write(json.dumps(record(key)) + "\n")
        self._peer.stdin.flush()
        self.sent.update(keys)

    def _ask(self, client):
        number = 0
        while not self._over.wait(0.02):
            self._send([f"{client}-{number + more}" for more in range(5)])
            number += 5

    def ask(self, keys):
        """Send an event for each of these keys and wait for the outcome."""
        for key in keys:
            self.answers.pop(key, None)
        self._send(keys)
        wait(lambda: all(key in self.answers for key in keys), 120)

    def killed(self):
        """The worker is killed while events arrive; another one continues, and each event gets its prediction."""
        with self.running() as process, self.asked():
            time.sleep(5)
            os.killpg(process.pid, signal.SIGKILL)
            time.sleep(2)
        with self.running():
            wait(lambda: self.sent <= set(self.answers), 120)


class Batch(InUse):
    """`make score`, one job after another; a job uses one version from start to end."""

    patience = 60

    def _score(self, name, keys):
        asked, scored = self.project.path / f"{name}.csv", self.project.path / "scored" / f"{name}.parquet"
        with asked.open("w", newline="") as file:
            table = csv.DictWriter(file, list(record("")))
            table.writeheader()
            table.writerows(map(record, keys))
        return "score", f"INPUT={asked.name}", f"OUTPUT=scored/{scored.name}"

    @contextlib.contextmanager
    def running(self):
        """Nothing runs between two jobs."""
        yield

    def _ask(self, client):
        number = 0
        while not self._over.is_set():
            try:
                self.ask([f"{client}-{number}-{row}" for row in range(200)])
            except AssertionError as error:
                self.failed.append(str(error))
            number += 1

    def ask(self, keys):
        """One job for these keys."""
        name = f"asked-{time.time_ns()}"
        done = self.project.make(*self._score(name, keys), **self.variables)
        assert done.returncode == 0, done.stderr
        self._read(name)

    def _read(self, name):
        self.answers.update({row["ride_id"]: row for row in rows(self.project, f"scored/{name}.parquet")})

    def killed(self):
        """A job's process group is killed: there is no output, and running the command again writes all of it."""
        keys = [f"killed-{number}" for number in range(200_000)]
        words = self._score("killed", keys)
        piped = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
        command, environment = self.project.make_command(*words), self.project.environment(**self.variables)
        with subprocess.Popen(command, cwd=self.project.path, env=environment, **piped) as process:
            wait(lambda: list((self.project.path / "scored").glob(".killed.parquet.*")), 120)
            os.killpg(process.pid, signal.SIGKILL)
        assert not (self.project.path / "scored" / "killed.parquet").exists()
        done = self.project.make(*words, **self.variables)
        assert "200,000 rows scored" in done.stdout, done.stderr
        self._read("killed")


DEPLOYMENTS = {"web": Web, "streaming": Streaming, "batch": Batch}
