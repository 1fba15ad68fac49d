"""Measure a training on the rows of a month, against the time of its fit alone and against pandas with XGBoost."""

import argparse
import pathlib
import statistics
import tempfile

from report import bake, machine, measure, section

SAMPLE = """
import sys, pyarrow.parquet as p; from ride_duration import problem; from ride_duration.data import schema
p.write_table(schema.table(problem.sample(int(sys.argv[2]), seed=1)), sys.argv[1])
"""
OURS = """
import pathlib, re, resource, subprocess, sys, time
t = time.perf_counter()
done = subprocess.run([sys.executable, '-m', 'ride_duration', 'train', '--engine', 'ENGINE', '--data', sys.argv[1]], check=True, stdout=subprocess.PIPE, text=True)
seconds = time.perf_counter() - t
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
print(seconds, peak, *re.findall(r'fitted xgboost in ([0-9.]+) s', done.stdout), *re.findall(r'rmse ([0-9.]+)', done.stdout)[:1])
"""
PLAIN = """
import resource, subprocess, sys, time
code = '''
import sys, time
import numpy as np, pandas as pd, tomllib
from xgboost import XGBRegressor
frame = pd.read_parquet(sys.argv[1])
frame['duration'] = (frame.lpep_dropoff_datetime - frame.lpep_pickup_datetime).dt.total_seconds() / 60
frame = frame[(frame.duration >= 1) & (frame.duration <= 60)].sort_values('lpep_pickup_datetime', kind='stable')
at = frame.lpep_pickup_datetime.dt
frame['hour'], frame['weekday'] = at.hour + at.minute / 60 + at.second / 3600, at.weekday
names = ['PULocationID', 'DOLocationID', 'trip_distance', 'hour', 'weekday']
older = int(len(frame) * 0.8)
settings = tomllib.load(open('params.toml', 'rb'))['model']['xgboost']
model = XGBRegressor(**settings, n_jobs=2)
t = time.perf_counter()
model.fit(frame[names][:older].astype('float32'), frame.duration[:older])
fit = time.perf_counter() - t
error = model.predict(frame[names][older:].astype('float32')) - frame.duration[older:].to_numpy()
print(fit, float(np.sqrt(np.mean(error ** 2))))
'''
t = time.perf_counter()
done = subprocess.run([sys.executable, '-c', code, sys.argv[1]], check=True, stdout=subprocess.PIPE, text=True)
seconds = time.perf_counter() - t
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000, done.stdout.strip())
"""


def main():
    """Measure both alternately for a few rounds and write the medians."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project = bake(pathlib.Path(scratch))
        data = pathlib.Path(scratch) / "month.parquet"
        measure(project, SAMPLE, data, given.rows)
        contest = {"`make train`": OURS.replace("ENGINE", "memory")}
        contest |= {f"`make train ENGINE={engine}`": OURS.replace("ENGINE", engine) for engine in ("disk", "spark")}
        contest["pandas and XGBoost: read, fit, one metric"] = PLAIN
        results = {name: [] for name in contest}
        for _ in range(given.rounds):
            for name, code in contest.items():
                results[name].append(measure(project, code, data))
                print(name, results[name][-1], flush=True)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in results.items()
    }
    rows = "\n".join(
        f"| {name} | {seconds:.1f} | {fit:.1f} | {seconds / fit:.1f} | {peak:,.0f} | {rmse:.4f} |"
        for name, (seconds, peak, fit, rmse) in medians.items()
    )
    section(
        "Training",
        f"""`benchmarks/train.py` ({machine()}): {given.rows:,} generated rides in Parquet, the same parameters, median of {given.rounds} alternating
rounds. `make train` also checks every rule of a record, converts the model and compares it with the estimator on all
validation rows, computes bootstrap intervals and explanation counts, and logs the run. Peak MB is that of the largest process: with Spark, executors and
driver on one machine are several.

| program | seconds | fit alone | all / fit | peak MB | RMSE |
|---|---|---|---|---|---|
{rows}""",
    )


if __name__ == "__main__":
    main()
