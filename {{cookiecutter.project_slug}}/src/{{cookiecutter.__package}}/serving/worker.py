"""The stream worker: events in, predictions out with the event's id as key, at least once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from .. import problem
from ..base.errors import Parser, UserError, first_line
from ..data import schema
from ..model.predictor import PREDICTION, Predicts
from . import broker, health, served_model
from .broker import Stream
from .health import Health

EVENT = TypeAdapter(schema.Keyed)
SESSION_MS = 6_000
"""A worker that dies without leaving the group is replaced after this long; brokers allow no less by default."""


LARGEST = 900_000
"""The maximum bytes of an event in a dead letter: brokers accept a million by default, headers included."""


class Output(NamedTuple):
    """A message to send: a prediction, or a dead letter."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]] | None = None


def answer(messages: Sequence[Message], predictor: Predicts, topics: Stream) -> list[Output]:
    """One output per message: a prediction for an event, a dead letter with the reason for anything else.

    If a batch fails as a whole, its events are answered one by one, so that a bad one does not block the others.
    """
    outputs: list[Output] = []
    answered: list[Message] = []
    events: list[Any] = []
    for message in messages:
        value = message.value()
        try:
            events.append(EVENT.validate_json(value or b"null"))
            answered.append(message)
        except ValidationError as error:
            empty = "(body): the event is a tombstone" if value is None else "(body): the event is empty"
            outputs.append(_dead(message, schema.reason(error) if value else empty, topics.dead_letters))
    if outputs:
        predictor.refused(len(outputs))
    try:
        return outputs + _predictions(events, answered, predictor, topics)
    except Exception as error:  # problem.features or problem.answer may raise anything for one of these events
        if len(answered) > 1:
            return outputs + [each for message in answered for each in answer([message], predictor, topics)]
        return [*outputs, _dead(answered[0], f"{type(error).__name__}: {first_line(error)}", topics.dead_letters)]


def _predictions(
    events: Sequence[Any], answered: Sequence[Message], predictor: Predicts, topics: Stream
) -> list[Output]:
    if not events:
        return []
    keys = [_key(event, message) for event, message in zip(events, answered, strict=True)]
    names = [_name(key, message.value() or b"") for key, message in zip(keys, answered, strict=True)]
    ids = np.array([getattr(event, problem.ID) for event in events], object)
    answers = predictor.predict(schema.columns(events) | {problem.ID: ids, PREDICTION: np.array(names, object)})
    form = "{" + ", ".join(f'"{name}": %s' for name in (*answers, PREDICTION)) + "}"
    rows = zip(*map(_texts, answers.values()), (f'"{name}"' for name in names), strict=True)
    if max(map(len, keys)) > LARGEST:
        raise ValueError(f"{problem.ID} is longer than {LARGEST:,} bytes")
    return [Output(topics.predictions, key, (form % row).encode()) for key, row in zip(keys, rows, strict=True)]


def _key(event: Any, message: Message) -> bytes:
    """An event's id, else the key of its message, else its partition and offset."""
    given = getattr(event, problem.ID)
    if given is not None:
        return str(given).encode()
    return message.key() or f"{message.topic()}-{message.partition()}-{message.offset()}".encode()


def _name(key: bytes, value: bytes) -> str:
    """A prediction's id: the same for the same event, no matter how often it is read or sent."""
    return hashlib.blake2b(key + b"\0" + value, digest_size=16).hexdigest()


def _texts(values: NDArray[Any]) -> list[str]:
    """Each value as JSON; by column this is ten times faster than a dictionary per event."""
    if values.dtype == object:
        known = {value: json.dumps(value) for value in set(values.tolist())}
        return [known[value] for value in values.tolist()]
    return to_json(values.tolist(), inf_nan_mode="null").decode()[1:-1].split(",")


def _dead(message: Message, reason: str, topic: str) -> Output:
    """A dead letter: key and value of the event as they came, truncated if a broker would not accept them whole."""
    key, value = message.key(), message.value()
    told = {
        "reason": reason[:1_000],
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
    }
    if len(key or b"") + len(value or b"") > LARGEST:
        told |= {"bytes": len(value or b""), "sha256": hashlib.sha256(value or b"").hexdigest()}
        key = key and key[: LARGEST // 2]
        value = value and value[: LARGEST - len(key or b"")]
    return Output(topic, key, value, [(name, str(each).encode()) for name, each in told.items()])


class Worker:
    """A member of the consumer group. Offsets are committed only after the broker has every output of a batch.

    Args:
        predictor: the model.
        topics: names, batch size and linger.
        state: what `/readyz` and `/metrics` report.
    """

    def __init__(self, predictor: Predicts, topics: Stream, state: Health) -> None:
        self._predictor, self._topics, self._state = predictor, topics, state
        self._stop, self._doubted = False, False
        self._failed: list[KafkaError] = []
        group = {
            "group.id": topics.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": SESSION_MS // 3,
        }
        # Without a time limit, the producer keeps trying as long as the broker is unavailable; with one request at a
        # time, a retry cannot overtake an older answer of the same key.
        acknowledged = {
            "acks": "all",
            "linger.ms": 5,
            "message.timeout.ms": 0,
            "compression.type": "lz4",
            "max.in.flight.requests.per.connection": 1,
        }
        self._consumer = Consumer(broker.settings(error_cb=self._on_error, **group))
        self._producer = Producer(broker.settings(error_cb=self._on_error, **acknowledged))

    def stop(self, *_: object) -> None:
        """Finish the current batch, then leave the group (SIGTERM and Ctrl-C call this)."""
        self._stop = True

    def run(self) -> None:
        """Answer events until `stop`."""
        self._consumer.subscribe([self._topics.events], on_assign=self._on_assign, on_revoke=self._on_revoke)
        try:
            while not self._stop:
                self._state.beat()
                batch = self._consumer.consume(self._topics.batch_size, self._topics.linger_seconds)
                for error in filter(None, (message.error() for message in batch)):
                    self._on_error(error)
                messages = [message for message in batch if message.error() is None]
                if messages:
                    self._answer(messages)
                self._ask()
        finally:
            self._consumer.close()

    def _answer(self, messages: Sequence[Message]) -> None:
        outputs = answer(messages, self._predictor, self._topics)
        for output in outputs:
            self._send(output)
        while self._producer.flush(1) > 0:
            self._state.beat()
            self._ask()
            if self._stop and not self._state.reachable:
                # Nothing is lost: the next worker reads again what is not committed.
                print("the broker cannot be reached: uncommitted events are answered after a restart", file=sys.stderr)
                return
        if self._failed:
            raise UserError(
                f"the broker refuses predictions: {self._failed[0].str()}; nothing of this batch is committed"
            )
        self._commit(messages)
        dead = sum(output.topic == self._topics.dead_letters for output in outputs)
        self._state.count(messages, dead, self._lag(messages))

    def _send(self, output: Output) -> None:
        while True:
            try:
                self._producer.produce(
                    output.topic,
                    output.value,
                    output.key,
                    headers=output.headers,
                    on_delivery=self._on_delivery,
                )
                return
            except BufferError:  # the queue is full: wait until some are sent
                self._producer.poll(0.1)

    def _commit(self, messages: Sequence[Message]) -> None:
        topic = self._topics.events
        offsets = [TopicPartition(topic, partition, offset + 1) for partition, offset in _last(messages).items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as failure:
            # Its partitions have moved to another worker meanwhile, which answers these events again: harmless.
            print(f"warning: not committed ({failure.args[0].str()}): these events are answered again", file=sys.stderr)

    def _lag(self, messages: Sequence[Message]) -> dict[int, int]:
        """Waiting events by partition, according to the broker's last response."""
        lag = {}
        for partition, offset in _last(messages).items():
            with contextlib.suppress(KafkaException):
                _, high = self._consumer.get_watermark_offsets(
                    TopicPartition(self._topics.events, partition), cached=True
                )
                lag[partition] = max(high - offset - 1, 0)
        return lag

    def _ask(self) -> None:
        """If the client reports the broker as unavailable, ask: the report comes twice, and also after its return."""
        if not self._doubted and self._state.reachable:
            return
        try:
            self._consumer.list_topics(self._topics.events, timeout=1)
            self._doubted = False
            self._state.reached()
        except KafkaException:
            self._state.lost(broker.settings()["bootstrap.servers"])

    def _on_assign(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._state.assign(partition.partition for partition in partitions)

    def _on_revoke(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._state.revoke(partition.partition for partition in partitions)

    def _on_delivery(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed.append(error)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._SSL):
            self._stop = True
            self._state.refused = error.str()
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._doubted = True


def _last(messages: Sequence[Message]) -> dict[int, int]:
    """Partition -> offset of its last message."""
    return {message.partition() or 0: message.offset() or 0 for message in messages}


@contextlib.contextmanager
def stopped_by_signals(worker: Worker) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C stop the worker between two batches."""
    before = {each: signal.signal(each, worker.stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def main() -> None:
    """`make stream`: answer events until SIGTERM or Ctrl-C; `/metrics`, `/livez`, `/readyz` on a side port."""
    parser = Parser(prog="make stream", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9697, help="side port (make stream PORT=9700)")
    given = parser.parse_args()
    topics = Stream.load()
    served_model.begin()
    predictor = served_model.answering()
    broker.require_topics(topics.events, topics.predictions, topics.dead_letters, partitions=topics.partitions)
    state = Health(predictor)
    worker = Worker(predictor, topics, state)
    with health.serve(state, given.host, given.port), stopped_by_signals(worker):
        where = broker.settings()["bootstrap.servers"]
        print(
            f"answering {topics.events} at {where} with model {predictor.card['model_version']}; "
            f"metrics on http://{given.host}:{given.port}/metrics (Ctrl-C stops it)",
            flush=True,
        )
        started = time.perf_counter()
        worker.run()
    if state.refused:
        raise UserError(
            f"the broker at {where} refuses this worker: {state.refused}; check KAFKA_SECURITY_PROTOCOL and KAFKA_SASL_..."
        )
    print(f"left the group after {state.events:,} events in {time.perf_counter() - started:,.0f} s")
