"""One model in three deployments: the same records get the same answers, and the same ones are refused with the same reason."""

import csv
import json
import random
import shutil
import subprocess

import pytest
from conftest import NAMED, free_port, service, worker
from test_projects import post_json

RECORDS = 10_000
GOOD = {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6, "lpep_pickup_datetime": "2024-01-10T08:30:00"}
HOSTILE = [
    {"PULocationID": 0},
    {"PULocationID": 266},
    {"PULocationID": -7},
    {"PULocationID": 74.5},
    {"PULocationID": "north"},
    {"DOLocationID": "1; drop table"},
    {"trip_distance": -0.01},
    {"trip_distance": 200.1},
    {"trip_distance": "far"},
    {"lpep_pickup_datetime": "yesterday at noon"},
    {"lpep_pickup_datetime": "2024-01-10T08:30:00Z"},
    {"lpep_pickup_datetime": "2024-02-30T08:30:00"},
    {"PULocationID": 0, "trip_distance": -1},
]
"""The values that both a JSON client and a CSV file can send."""

SAID = ["duration", "low", "high"]


def records():
    """Good records over the whole range of every field, with a hostile one in twenty."""
    rng = random.Random(9696)
    for number in range(RECORDS):
        record = {
            "ride_id": f"r{number}",
            "PULocationID": rng.randint(1, 265),
            "DOLocationID": rng.randint(1, 265),
            "trip_distance": rng.choice([0, 200, round(rng.expovariate(0.3), 2)]),
            "lpep_pickup_datetime": f"20{rng.randint(10, 39)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T"
            f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}",
        }
        if rng.random() < 0.1:
            del record["lpep_pickup_datetime"]
        yield record | (rng.choice(HOSTILE) if rng.random() < 0.05 else {})


def over_http(project, sent):
    """Answer or reason by id, from the service."""
    found = {}
    with service(project) as port:
        for start in range(0, len(sent), 500):
            part = sent[start : start + 500]
            status, answers = post_json(port, part)
            if status == 200:
                found |= {record["ride_id"]: numbers(answer) for record, answer in zip(part, answers, strict=True)}
                continue
            for record in part:
                status, answer = post_json(port, record)
                assert status in (200, 422)
                found[record["ride_id"]] = numbers(answer) if status == 200 else answer["detail"]
    return found


def numbers(answer):
    return [answer[name] for name in SAID]


def through_a_file(project, sent, folder):
    """Answer or reason by id, from the scoring job."""
    with (folder / "records.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["ride_id", *GOOD])
        table.writeheader()
        table.writerows(sent)
    done = project.make("score", f"INPUT={folder}/records.csv", f"OUTPUT={folder}/scored.parquet", "MAX_REJECTED=1")
    assert done.returncode == 0, done.stderr
    code = (
        "import json, sys, pyarrow.parquet as p; a, b = (p.ParquetFile(name).read().to_pylist() for name in sys.argv[1:]);"
        f"print(json.dumps({{r['ride_id']: [r[n] for n in {SAID}] for r in a}} | {{r['ride_id']: r['reason'] for r in b}}))"
    )
    done = project.run(
        ".venv/bin/python", "-c", code, f"{folder}/scored.parquet", f"{folder}/scored.parquet.rejected.parquet"
    )
    return json.loads(done.stdout)


def through_the_broker(project, sent):
    """Answer or reason by id, from the stream worker."""
    code = (
        "import json, sys; from confluent_kafka import *; from night_bus.serving import broker as kafka\n"
        "p = Producer(kafka.settings())\n"
        "for line in sys.stdin:\n"
        "    p.produce('rides', line.strip(), json.loads(line)['ride_id']); p.poll(0)\n"
        "p.flush(30)\n"
        "c = Consumer(kafka.settings(**{'group.id': 'x'})); names = ('predictions', 'dead-letters')\n"
        "there = c.list_topics(timeout=10).topics\n"
        "c.assign([TopicPartition(n, i, OFFSET_BEGINNING) for n in names for i in there[n].partitions])\n"
        "found = {}\n"
        "while len(found) < int(sys.argv[1]):\n"
        "    for m in c.consume(500, 1):\n"
        "        h = dict(m.headers() or [])\n"
        f"        found[m.key().decode()] = h['reason'].decode() if h else [json.loads(m.value())[n] for n in {SAID}]\n"
        "print(json.dumps(found))"
    )
    with worker(project) as address:
        done = subprocess.run(
            [str(project.path / ".venv/bin/python"), "-c", code, str(len(sent))],
            input="\n".join(map(json.dumps, sent)) + "\n",
            env=project.environment(KAFKA_BOOTSTRAP_SERVERS=address),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_three_deployments_agree_on_ten_thousand_records(bake, tmp_path):
    web, batch, streaming = (
        bake(**NAMED, deployment=deployment, maturity_level="2").borrow_environment()
        for deployment in ("web", "batch", "streaming")
    )
    settings = web.path / "params.toml"
    settings.write_text(web.text("params.toml").replace("coverage = 0.0 ", "coverage = 0.9 "), encoding="utf-8")
    assert web.make("pipeline").returncode == 0
    shared = {"MODEL_URI": "models:/night-bus@champion", "MLFLOW_TRACKING_URI": f"sqlite:///{web.path}/mlflow.db"}
    for project in (web, batch, streaming):
        # One registered model, found by the same address from all three.
        project.environment = (lambda own: lambda **more: own(**{**shared, **more}))(project.environment)
    sent = list(records())
    answers = [over_http(web, sent), through_a_file(batch, sent, tmp_path), through_the_broker(streaming, sent)]
    refused = [{name: said for name, said in found.items() if isinstance(said, str)} for found in answers]
    print(f"{len(sent):,} records: {len(refused[0]):,} refused by each deployment")
    assert 300 < len(refused[0]) < 700
    assert refused[0] == refused[1] == refused[2]
    for found in answers:
        assert len(found) == RECORDS
    for name in set(answers[0]) - set(refused[0]):
        one, two, three = (found[name] for found in answers)
        assert one == pytest.approx(two, abs=1e-6)
        assert one == pytest.approx(three, abs=1e-6)
        assert one[1] <= one[0] <= one[2]


CHANGES = {"another record": ("ge=1, le=265", "ge=0, le=300"), "other features": ("hours % 24", "hours % 12")}
"""Changes of problem.py that may be made while a model is served."""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("missing", "no model in"),
        ("cut", "damaged"),
        ("lost", "damaged"),
        ("foreign", "tenure"),
        ("newer", "newer version"),
        ("another record", "records with another PULocationID, DOLocationID"),
        ("other features", "makes another pickup_hour than"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_alike_by_every_deployment(bake, trained, damage, said, tmp_path):
    lines, model = set(), tmp_path / "model"
    shutil.copytree(trained, model)
    if damage == "missing":
        (model / "model.json").unlink()
    elif damage == "lost":
        (model / "model.onnx").unlink()
    elif damage == "cut":
        (model / "model.onnx").write_bytes((model / "model.onnx").read_bytes()[:1000])
    elif damage not in CHANGES:
        old, new = {"foreign": ('"trip_distance",', '"tenure",'), "newer": ('"format": 1', '"format": 2')}[damage]
        text = (model / "model.json").read_text(encoding="utf-8")
        (model / "model.json").write_text(text.replace(old, new, 1), encoding="utf-8")
    for deployment, words in {
        "web": ["serve", f"PORT={free_port()}"],
        "batch": ["score", f"INPUT={tmp_path}/rides.csv", "OUTPUT=x.csv"],
        "streaming": ["stream"],
    }.items():
        (tmp_path / "rides.csv").write_text("PULocationID,DOLocationID,trip_distance\n1,2,3\n")
        project = bake(**NAMED, deployment=deployment, maturity_level="1").borrow_environment()
        code = project.path / "src" / "night_bus" / "problem.py"
        old, new = CHANGES.get(damage, ("", ""))
        assert old in code.read_text(encoding="utf-8")
        code.write_text(code.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        done = project.make(*words, MODEL_URI=str(model))
        assert done.returncode != 0
        lines |= {line for line in done.stderr.splitlines() if not line.startswith("make")}
    (line,) = lines
    assert said in line


@pytest.mark.slow
def test_a_folder_in_s3_is_scored_into_s3(bake, trained, s3):
    project = bake(**NAMED, deployment="batch", maturity_level="1").borrow_environment()
    shutil.copytree(trained, project.path / "model")
    assert project.make("data").returncode == 0
    sample = (project.path / "data" / "sample.parquet").read_bytes()
    for day in ("2024-01-01", "2024-01-02"):
        s3.put_object(Bucket="rides", Key=f"in/day={day}/part.parquet", Body=sample)
    done = project.make("score", "INPUT=s3://rides/in", "OUTPUT=s3://rides/out", "SINCE=2024-01-02")
    assert done.returncode == 0, done.stderr
    done = project.make("score", "INPUT=s3://rides/in", "OUTPUT=s3://rides/out")
    assert done.returncode == 0, done.stderr
    assert "1 file written, 1 up to date" in done.stdout
    keys = {each["Key"]: each["Size"] for each in s3.list_objects_v2(Bucket="rides", Prefix="out/")["Contents"]}
    assert {key for key, size in keys.items() if size} == {
        "out/day=2024-01-01/part.parquet",
        "out/day=2024-01-02/part.parquet",
    }
    done = project.make("about", "FILE=s3://rides/out/day=2024-01-01/part.parquet")
    assert "20,000" in done.stdout


def test_a_bucket_that_is_not_there_is_one_line(bake, s3):
    project = bake(**NAMED, deployment="batch", maturity_level="1").borrow_environment()
    done = project.make("score", "INPUT=s3://nothing/in", "OUTPUT=s3://rides/out")
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert "s3://nothing/in" in line
