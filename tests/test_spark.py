"""The same model on Spark: the same answers, the same refusals. Needs Java 17 (`apt-get install openjdk-17-jre-headless`)."""

import json
import re
import shutil

import pytest
from conftest import NAMED, ROOT
from test_in_use import edit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("alone"),
    pytest.mark.skipif(not shutil.which("java"), reason="needs Java 17: apt-get install openjdk-17-jre-headless"),
]
ROWS = """
import json, sys, pyarrow.parquet as p
def rows(name):
    t = p.read_table(name)
    return sorted(json.dumps({k: v for k, v in r.items() if k not in ('scored_at', 'row_number')}, default=str) for r in t.to_pylist())
print(json.dumps([rows(name) for name in sys.argv[1:]]))
"""


@pytest.fixture
def project(alone, bake):
    """A project with a champion, a sample and Spark."""
    project = bake(**NAMED, deployment="batch").borrow_environment()
    for words in (["pipeline"], ["data"], ["spark"]):
        done = project.make(*words, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
    return project


def both(project, source):
    """Score with both engines; gives the four sets of rows."""
    for engine, output in (("arrow", "a/part.parquet"), ("spark", "b")):
        done = project.make("score", f"ENGINE={engine}", f"INPUT={source}", f"OUTPUT={output}", "MAX_REJECTED=1")
        assert done.returncode == 0, done.stderr
    names = ["a/part.parquet", "b", "a/part.parquet.rejected.parquet", "b.rejected.parquet"]
    done = project.run(".venv/bin/python", "-c", ROWS, *[name for name in names if (project.path / name).exists()])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_both_engines_give_the_same_rows_for_a_parquet_file(project):
    spoil = (
        "import pyarrow as pa, pyarrow.parquet as p; t = p.read_table('data/sample.parquet')\n"
        "miles = [m if i % 100 else -1.0 for i, m in enumerate(t['trip_distance'].to_pylist())]\n"
        "p.write_table(t.set_column(4, 'trip_distance', pa.array(miles)), 'data/spoilt.parquet')"
    )
    assert project.run(".venv/bin/python", "-c", spoil).returncode == 0
    arrow, spark, arrow_refused, spark_refused = both(project, "data/spoilt.parquet")
    assert (len(arrow), len(arrow_refused)) == (19_800, 200)
    assert arrow == spark
    assert arrow_refused == spark_refused
    assert "model_run_id" in project.make("about", "FILE=b").stdout


def test_both_engines_ask_the_challenger_for_the_same_keys(alone, bake):
    project = bake(**NAMED, deployment="batch", maturity_level="3").borrow_environment()
    assert project.make("pipeline").returncode == 0
    edit(project, r"^min_child_weight = 5", "min_child_weight = 6")
    for words in (["pipeline"], ["ab", "SHARE=0.3"], ["data"], ["spark"]):
        done = project.make(*words, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
    arrow, spark, *_ = both(project, "data/sample.parquet")
    assert arrow == spark
    tried = sum(json.loads(row)["role"] == "challenger" for row in arrow)
    assert abs(tried - 0.3 * len(arrow)) < 4 * (0.3 * 0.7 * len(arrow)) ** 0.5


def test_both_engines_give_the_same_rows_for_a_csv_file(project):
    lines = ["PULocationID,DOLocationID,trip_distance,lpep_pickup_datetime,note", "74,166,2.6,2024-01-10T08:30:00,x"]
    lines += ["74,166", "abc,166,1,,", '1,2,3,,"two\nlines"', "1,2,1e400,,", "1,2,-1,2024-01-10T08:30:00Z,y"]
    (project.path / "rides.csv").write_text("\n".join(lines) + "\n")
    arrow, spark, arrow_refused, spark_refused = both(project, "rides.csv")
    assert (len(arrow), len(arrow_refused)) == (2, 4)
    assert arrow == spark
    assert arrow_refused == spark_refused


def test_a_folder_in_s3_is_scored_into_s3_and_a_second_job_leaves_nothing_of_the_first(project, s3):
    sample = (project.path / "data" / "sample.parquet").read_bytes()
    for day in ("01", "02"):
        s3.put_object(Bucket="rides", Key=f"in/day=2024-01-{day}/part.parquet", Body=sample)

    def scored(**words):
        given = [f"{name}={value}" for name, value in words.items()]
        done = project.make("score", "ENGINE=spark", "INPUT=s3://rides/in", "OUTPUT=s3://rides/out", *given)
        assert done.returncode == 0, done.stderr
        assert "model_version" in project.make("about", "FILE=s3://rides/out").stdout
        keys = [each["Key"] for each in s3.list_objects_v2(Bucket="rides", Prefix="out/")["Contents"] if each["Size"]]
        assert not [each for each in s3.list_objects_v2(Bucket="rides")["Contents"] if "partial" in each["Key"]]
        return [key for key in keys if key.endswith(".parquet")]

    assert len(scored()) == 2
    assert len(scored(SINCE="2024-01-02")) == 1


def test_what_fails_leaves_the_old_output_as_it_was(project):
    for name in ("in/a.parquet", "in/b.parquet"):
        (project.path / "in").mkdir(exist_ok=True)
        shutil.copy(project.path / "data" / "sample.parquet", project.path / name)
    assert project.make("score", "ENGINE=spark", "INPUT=in", "OUTPUT=out").returncode == 0
    before = {path.name: path.read_bytes() for path in (project.path / "out").iterdir()}
    (project.path / "in" / "b.parquet").write_bytes((project.path / "in" / "b.parquet").read_bytes()[:-100])
    done = project.make("score", "ENGINE=spark", "INPUT=in", "OUTPUT=out")
    assert done.returncode != 0
    assert "b.parquet is not a readable parquet" in done.stderr
    assert {path.name: path.read_bytes() for path in (project.path / "out").iterdir()} == before
    assert not [path.name for path in project.path.iterdir() if path.name.startswith("out.")]


def test_mlflow_s_own_spark_udf_of_the_registered_model_gives_the_same_answers(project):
    code = """
import mlflow, pandas as pd, numpy as np
from pyspark.sql import SparkSession
from night_bus import problem
from night_bus.data import schema
from night_bus.model import bundle, fetch
from night_bus.model.predictor import Predictor
from night_bus.tracking import store
store.connect()
raw = problem.sample(2_000, seed=5)
columns = {f.name: raw[f.name] for f in schema.FIELDS}
spark = SparkSession.builder.master('local[2]').config('spark.sql.session.timeZone', 'UTC').getOrCreate()
udf = mlflow.pyfunc.spark_udf(spark, 'models:/night-bus@champion', result_type='duration double, model_version string', env_manager='local')
rows = spark.createDataFrame(pd.DataFrame(columns)).repartition(1)
got = rows.withColumn('answer', udf(*[rows[name] for name in columns])).select('answer.duration').toPandas()['duration'].to_numpy()
expected = Predictor(bundle.read(fetch.folder('models:/night-bus@champion'))).predict(columns)['duration']
print(float(np.abs(np.sort(got) - np.sort(expected)).max()))
"""
    done = project.run(".venv/bin/python", "-c", code)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.splitlines()[-1]) < 1e-6


def test_the_lines_of_the_guide_show_the_answers_of_the_registered_model(project):
    page = (ROOT / "docs" / "other-tools.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n([^`]*SparkSession[^`]*)```", page)
    words = {"PYTHONPATH": "", "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    done = project.run(".venv/bin/python", "-c", lines.replace("ride-duration", "night-bus"), **words)
    assert done.returncode == 0, done.stderr[-3000:]
    head, first = re.findall(r"^\|(.*)\|$", done.stdout, flags=re.M)[:2]
    assert [name.strip() for name in head.split("|")] == ["trip_distance", "duration", "model_version"]
    assert 1 < float(first.split("|")[1]) < 60
