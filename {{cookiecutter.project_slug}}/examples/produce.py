"""Send events like a fleet of vehicles or a shop: at a given rate, and optionally with a share of bad ones."""

import argparse
import itertools
import json
import sys
import time

from confluent_kafka import KafkaException, Producer

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import errors
from {{ cookiecutter.__package }}.data import clean, schema
from {{ cookiecutter.__package }}.serving import broker
from {{ cookiecutter.__package }}.serving.broker import Stream
from {{ cookiecutter.__package }}.tools.write_sample import records

SAMPLE_ROWS = 5_000
PATIENCE_SECONDS = 120
"""How long the broker may be unavailable while events are sent."""


def events(bad_share):
    """Yield events as JSON without end; some of them, at a regular interval, lack their first field."""
    sample = clean.clean("sample", problem.sample(SAMPLE_ROWS, int(time.time())))
    first = schema.FIELDS[0].name
    stamp = f"{time.time():.0f}"
    for number, record in enumerate(itertools.cycle(list(records(sample.columns)))):
        event = {problem.ID: f"{stamp}-{number}", **record}
        if int((number + 1) * bad_share) > int(number * bad_share):
            del event[first]
        yield event


def main():
    """`make produce`: send COUNT events at RATE per second, a share BAD of them invalid."""
    parser = argparse.ArgumentParser(prog="make produce", description=main.__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many (make produce COUNT=1000)")
    parser.add_argument("--rate", type=float, default=50, help="how many a second, 0 for all at once (RATE=0)")
    parser.add_argument("--bad", type=float, default=0, help="share that cannot be answered, 0 to 1 (BAD=0.1)")
    given = parser.parse_args()
    topics = Stream.load()
    broker.require_topics(topics.events, partitions=topics.partitions)
    failed = []
    producer = Producer(broker.settings(**{"linger.ms": 5, "message.timeout.ms": PATIENCE_SECONDS * 1000}))
    started = time.monotonic()
    for number, event in enumerate(itertools.islice(events(given.bad), given.count)):
        if given.rate:
            time.sleep(max(started + number / given.rate - time.monotonic(), 0))
        content = json.dumps(event).encode()
        while True:
            try:
                producer.produce(
                    topics.events,
                    content,
                    event[problem.ID],
                    on_delivery=lambda error, _: failed.append(error) if error else None,
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(PATIENCE_SECONDS + 1)
    if failed:
        raise errors.UserError(f"{len(failed):,} events were not accepted: {failed[0].str()}")
    seconds = time.monotonic() - started
    print(f"sent {given.count:,} events to {topics.events} in {seconds:.1f} s (watch the answers: make watch)")


if __name__ == "__main__":
    try:
        errors.run(main)
    except KafkaException as error:
        sys.exit(f"error: {error.args[0].str()}")
