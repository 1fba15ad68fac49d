"""Measure a scoring job against the model alone, MLflow's ways to score a file, and the same job on ten times the rows."""

import argparse
import json
import pathlib
import shutil
import statistics
import tempfile

from report import bake, machine, measure, plot, section

SAMPLE = """
import sys, pyarrow as pa, pyarrow.parquet as p; from ride_duration import problem
t = pa.table(dict(problem.sample(200_000, seed=1)))
for name, times in ((sys.argv[1], 1), (sys.argv[2], 10)):
    with p.ParquetWriter(name, t.schema) as file:
        for _ in range(times * int(sys.argv[3])): file.write_table(t)
p.write_table(t, sys.argv[4])
frame = t.drop_columns('lpep_dropoff_datetime').slice(0, 50_000).to_pandas()
open(sys.argv[5], 'w').write('{"dataframe_split": ' + frame.to_json(orient='split', index=False, date_format='iso') + '}')
"""
JOB = """
import pathlib, sys, time, resource; from ride_duration.data import storage; from ride_duration.serving import job, served_model
units = job.plan(storage.find(sys.argv[1]), storage.place(sys.argv[2]))
class Quiet:
    run_id = ''
    def file(self, *_): pass
work = job.Job(served_model.build(), job.Batch(), Quiet())
t = time.perf_counter(); counts = work.run(units, force=True); t = time.perf_counter() - t
assert not counts.failed and not counts.rejected, counts
size = pathlib.Path(sys.argv[2]).stat().st_size
print(counts.rows / t, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, size / counts.rows)
"""
MODEL = """
import sys, time, pyarrow.parquet as p
from concurrent.futures import ThreadPoolExecutor
from ride_duration.data import schema
from ride_duration.model import bundle, fetch
from ride_duration.model.predictor import Predictor
predictor = Predictor(bundle.read(fetch.folder()))
t = p.read_table(sys.argv[1]); columns = {f.name: t[f.name].to_numpy() for f in schema.FIELDS}
began = time.perf_counter()
def score(first): predictor.predict({name: values[first:first + 65_536] for name, values in columns.items()})
with ThreadPoolExecutor(int(sys.argv[2])) as pool:
    list(pool.map(score, range(0, len(t), 65_536)))
print(len(t) / (time.perf_counter() - began))
"""
NATIVE = """
import sys, time, pyarrow.parquet as p
from ride_duration import estimators, problem
from ride_duration.base import params
from ride_duration.data import clean, read, schema
from ride_duration.data.split import split
settings = params.load(); older, _ = split(clean.clean(*read.rows(settings.data)), settings.data.validation_share)
estimator = estimators.fit(problem.features(older.columns), older.target, settings)
t = p.read_table(sys.argv[1]); columns = {f.name: t[f.name].to_numpy() for f in schema.FIELDS}
estimator.set_params(n_jobs=int(sys.argv[2])); t = time.perf_counter()
problem.answer(estimator.predict(problem.features(columns)))
print(len(columns['trip_distance']) / (time.perf_counter() - t))
"""
PANDAS = """
import sys, time, mlflow, pandas as pd; from ride_duration.tracking import store
store.connect(); model = mlflow.pyfunc.load_model('models:/ride-duration@champion')
t = time.perf_counter(); frame = pd.read_parquet(sys.argv[1])
names = list(model.metadata.get_input_schema().input_names())
answers = model.predict(frame[names]); frame.join(answers).to_parquet(sys.argv[2])
print(len(frame) / (time.perf_counter() - t))
"""
CLI = """
import subprocess, sys, time
t = time.perf_counter()
subprocess.run([sys.executable, '-m', 'mlflow', 'models', 'predict', '-m', 'models:/ride-duration@champion', '-i', sys.argv[1],
    '-o', sys.argv[2], '-t', 'json', '--env-manager', 'local'], check=True, capture_output=True)
print(50_000 / (time.perf_counter() - t))
"""
SPARK = """
import subprocess, sys, time
t = time.perf_counter()
done = subprocess.run([sys.executable, '-m', 'ride_duration', 'batch', '--engine', 'spark', '--force', '--input', sys.argv[1],
    '--output', sys.argv[2]], capture_output=True, text=True)
if done.returncode: sys.exit(done.stderr)
print(float(done.stdout.split('(')[-1].split(' rows/s')[0].replace(',', '')))
"""


def main():
    """Measure each alternately for a few rounds and write the medians."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=4, help="the small file has so many times 200,000 rows")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        project = bake(folder, deployment="batch")
        small, large, one, text, out = (
            folder / name for name in ("1.parquet", "10.parquet", "s.parquet", "s.json", "o.parquet")
        )
        measure(project, SAMPLE, small, large, given.times, one, text)
        contest = {
            "this project, all cores": (JOB, large, out),
            "the model alone, arrays in memory, all cores": (MODEL, small, 2),
            "the model alone, one core": (MODEL, small, 1),
            "XGBoost directly, arrays in memory, all cores": (NATIVE, small, 2),
            "pandas and `mlflow.pyfunc`": (PANDAS, small, out),
            "`mlflow models predict`": (CLI, text, folder / "o.json"),
            "this project on Spark, `local[*]`": (SPARK, large, folder / "spark"),
        }
        if not shutil.which("java"):
            print("skipped: Spark needs Java 17 (apt-get install openjdk-17-jre-headless)")
            del contest["this project on Spark, `local[*]`"]
        results = {name: [] for name in contest}
        memory = {1: [], 10: []}
        for _ in range(given.rounds):
            for name, words in contest.items():
                results[name].append(measure(project, *words)[0])
                print(name, round(results[name][-1]), flush=True)
            for times, source in ((1, small), (10, large)):
                memory[times].append(measure(project, JOB, source, out)[1])
    medians = {name: statistics.median(rates) for name, rates in results.items()}
    peak = {times: statistics.median(figures) for times, figures in memory.items()}
    mine = medians["this project, all cores"]
    rows = "\n".join(f"| {name} | {rate:,.0f} | {mine / rate:.2f} |" for name, rate in medians.items())
    plot("batch", {name.replace("`", ""): rate for name, rate in medians.items()}, "rows per second")
    section(
        "Batch",
        f"""`benchmarks/batch.py` ({machine()}): the default bake's model, generated rides in Parquet, {given.times * 2_000_000:,} rows for this
project and Spark, a tenth for the others (50,000 in JSON for `mlflow models predict`, including its start), median of
{given.rounds} alternating rounds. Rates include reading and writing files, except for the model alone and XGBoost directly.

| program | rows/s | ours / theirs |
|---|---|---|
{rows}

![Rows per second](batch.png)

Peak memory: {peak[1]:,.0f} MB for {given.times * 200_000:,} rows, {peak[10]:,.0f} MB for ten times as many ({peak[10] / peak[1]:.2f} times).""",
    )
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
