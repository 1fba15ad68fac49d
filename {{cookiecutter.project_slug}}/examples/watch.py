"""Show predictions as they arrive, and dead letters separately: a table on a terminal, lines elsewhere."""

import argparse
import collections
import json
import shutil
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, TopicPartition

from {{ cookiecutter.__package }}.base import errors
from {{ cookiecutter.__package }}.serving import broker
from {{ cookiecutter.__package }}.serving.broker import Stream

ROWS = 12


def line(message):
    """A message as one line: its key and its content."""
    key = (message.key() or b"").decode(errors="replace")
    headers = dict(message.headers() or [])
    if "reason" in headers:
        return f"{key:24} {headers['reason'].decode()}"
    answer = json.loads(message.value())
    return f"{key:24} " + "  ".join(f"{name} {value}" for name, value in answer.items() if name != "prediction_id")


def draw(counts, latest, started):
    """The whole table, overwriting the previous one."""
    width = shutil.get_terminal_size().columns
    rate = sum(counts.values()) / max(time.monotonic() - started, 1e-9)
    lines = [f"{rate:,.0f} a second since {time.monotonic() - started:,.0f} s (Ctrl-C stops it)"]
    for topic, rows in latest.items():
        lines += ["", f"{topic}: {counts[topic]:,}", *rows]
    print("\x1b[H\x1b[J" + "\n".join(text[:width] for text in lines), flush=True)


def main():
    """`make watch`: show predictions and dead letters from now on, or the first COUNT of them."""
    parser = argparse.ArgumentParser(prog="make watch", description=main.__doc__)
    parser.add_argument(
        "--count", type=int, default=0, help="stop after this many, from the first one (make watch COUNT=20)"
    )
    given = parser.parse_args()
    topics = Stream.load()
    broker.require_topics(topics.predictions, topics.dead_letters, partitions=topics.partitions)
    # It assigns all partitions to itself: a consumer group would share them.
    consumer = Consumer(broker.settings(**{"group.id": "watch", "enable.auto.commit": False}))
    start = OFFSET_BEGINNING if given.count else OFFSET_END
    names = (topics.predictions, topics.dead_letters)
    there = consumer.list_topics(timeout=10).topics
    consumer.assign([TopicPartition(name, number, start) for name in names for number in there[name].partitions])
    counts = collections.Counter()
    latest = {name: collections.deque(maxlen=ROWS) for name in names}
    started, drawn = time.monotonic(), 0.0
    try:
        while not given.count or sum(counts.values()) < given.count:
            for message in consumer.consume(500, 0.2):
                if message.error() is None:
                    counts[message.topic()] += 1
                    latest[message.topic()].append(line(message))
                    if not sys.stdout.isatty():
                        print(f"{message.topic():12} {line(message)}", flush=True)
            if sys.stdout.isatty() and time.monotonic() - drawn > 0.2:
                draw(counts, latest, started)
                drawn = time.monotonic()
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    errors.run(main)
