"""Send a project broken input of every kind for some minutes; print each input that it did not refuse in one line.

    python scripts/fuzz.py build/fuzz/ride-duration --minutes 10

It runs in the environment of a project that is baked and has a model in `model/` (`make train`), and tries what that
project has: bodies and headers of requests, events, data files, params.toml, bundles, data.lock, lines of the log.
A finding is printed with its seed, which `--seed` repeats.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import importlib
import io
import json
import pathlib
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings

WORDS = [
    b"",
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"true",
    b'"',
    b"'",
    b"\\",
    b"\x00",
    b"\xff\xfe",
    b"{",
    b"[",
    b",",
    b"\n",
]
WORDS += [
    b"{}",
    b"[]",
    b"9" * 400,
    b"\xc3\x28",
    b"2024-02-30",
    b"../../etc/passwd",
    b"{{7*7}}",
    b"%s%n",
    b"A" * 5_000,
    "٣".encode(),
    b"\r\n\r\n",
]


def mutated(content, rng):
    """The content with some bytes, or one word, cut, doubled, flipped or replaced."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + rng.choice([1, 4, 64, 4_096]))
        way = rng.randrange(6)
        if way == 0:
            del data[at:end]
        elif way == 1:
            data[at:at] = data[at:end]
        elif way == 2 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif way == 3 and (words := list(re.finditer(rb"[\w.+-]+", data))):
            # A whole word, so that the text around it is still valid.
            found = rng.choice(words)
            data[found.start() : found.end()] = rng.choice(WORDS)
        else:
            data[at : end if way == 4 else at] = rng.choice(WORDS)
    return bytes(data)


class Surfaces:
    """The inputs of a project that can be fuzzed; each attempt returns its outcome as one word."""

    def __init__(self, package, root, folder):
        """Load the inputs from the project in `root`; broken files are written to `folder`."""
        self.package, self.root, self.folder = package, root, folder
        self.errors = self.module("base.errors").UserError
        self.problem, self.schema = self.module("problem"), self.module("data.schema")
        bundle, predictor = self.module("model.bundle"), self.module("model.predictor")
        self.bundle, self.predictor = bundle, predictor
        self.model = predictor.Predictor(bundle.read(root / "model"))
        self.record = json.dumps(self.problem.EXAMPLE).encode()
        table = self.schema.table(self.problem.sample(40, seed=1))
        pa = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.csv")
        importlib.import_module("pyarrow.parquet")
        csv, parquet = io.BytesIO(), io.BytesIO()
        pa.csv.write_csv(table, csv)
        pa.parquet.write_table(table, parquet)
        self.files = {".csv": csv.getvalue(), ".parquet": parquet.getvalue()}
        if self.exists("serving/app.py"):
            app = self.module("serving.app")
            self.client = app.create_app(self.model, app.Web(max_records=50, max_bytes=20_000)).test_client()

    def exists(self, name):
        """Whether the project has a source file."""
        return (self.root / "src" / self.package / name).exists()

    def module(self, name):
        """A module of the project."""
        return importlib.import_module(f"{self.package}.{name}")

    def names(self):
        """The surfaces that this project has."""
        needed = {
            "request": "serving/app.py",
            "event": "serving/worker.py",
            "lock": "data/data_lock.py",
            "scored": "serving/job.py",
            # The scored files of a job are its log; `table` and `scored` are made from them.
            "logged": "none" if self.exists("serving/job.py") else "monitoring/windows.py",
        }
        return [
            name
            for name in ("request", "event", "table", "settings", "bundled", "lock", "scored", "logged")
            if self.exists(needed.get(name, "problem.py"))
        ]

    def request(self, rng):
        """A request must get a response with a status under 500."""
        many = b"[" + b",".join([self.record] * rng.choice([1, 3])) + b"]"
        body = mutated(rng.choice([self.record, many]), rng)
        kind = rng.choice(["application/json"] * 5 + ["text/plain", "application/json; charset=\x7f", ""])
        query = rng.choice(["", "", "?explain=true", "?explain=" + chr(rng.randrange(32, 400)), "?x=1&x=2"])
        answer = self.client.open(
            "/predict" + query, method=rng.choice(["POST"] * 5 + ["PUT", "GET"]), data=body, content_type=kind
        )
        if answer.status_code >= 500:
            raise AssertionError(f"{answer.status_code} for {body[:200]!r}")
        json.loads(answer.data)
        return str(answer.status_code)

    def event(self, rng):
        """Each event has one answer: a prediction, or a dead letter."""
        worker, broker = self.module("serving.worker"), self.module("serving.broker")
        events = [Event(mutated(self.record, rng) if rng.random() < 0.7 else self.record) for _ in range(4)]
        outputs = worker.answer(events, self.model, broker.Stream())
        if len(outputs) != len(events):
            raise AssertionError(f"{len(outputs)} answers to {[event.value() for event in events]}")
        return f"{sum(output.topic == 'predictions' for output in outputs)} of 4"

    def table(self, rng):
        """A file is read, or refused in one line."""
        ending = rng.choice(list(self.files))
        path = self.folder / f"data{ending}"
        path.write_bytes(mutated(self.files[ending], rng))
        read, clean = self.module("data.read"), self.module("data.clean")
        return f"{ending} {len(next(iter(clean.clean('fuzz', read.read(path)).columns.values())))}"

    def settings(self, rng):
        """params.toml is read, or refused in one line."""
        path = self.folder / "params.toml"
        path.write_bytes(mutated((self.root / "params.toml").read_bytes(), rng))
        params = self.module("base.params")
        params.load(path)
        return "read"

    def bundled(self, rng):
        """A bundle is loaded and answers, or is refused in one line."""
        path = self.folder / "model"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.root / "model", path)
        file = rng.choice(sorted(path.iterdir()))
        file.write_bytes(mutated(file.read_bytes(), rng))
        if rng.random() < 0.5:  # with the matching checksums
            sha = self.bundle._sha256
            try:
                card = json.loads((path / "model.json").read_bytes())
            except ValueError:
                card = json.loads((self.root / "model" / "model.json").read_bytes())
            card["graph_sha256"] = sha((path / "model.onnx").read_bytes())
            card["extras_sha256"] = {name: sha((path / name).read_bytes()) for name in card.get("extras_sha256", {})}
            (path / "model.json").write_text(json.dumps(card))
        self.predictor.Predictor(self.bundle.read(path))
        return "loaded"

    def lock(self, rng):
        """data.lock is followed, or refused in one line."""
        data_lock = self.module("data.data_lock")
        data_lock.ROOT, data_lock.FILE, data_lock.CACHE = self.folder, self.folder / "data.lock", self.folder / "cache"
        entry = {"sha256": "ab" * 32, "bytes": 1_000, "rows": 9, "span": "", "origin": ""}
        data_lock.FILE.write_bytes(mutated(json.dumps({"data/rides.parquet": entry}).encode(), rng))
        return f"{len(list(data_lock.restore_all()))} lines"

    def scored(self, rng):
        """A file is scored, refused in part, or refused in one line."""
        job, storage = self.module("serving.job"), self.module("serving.storage")
        ending = rng.choice(list(self.files))
        path = self.folder / f"in{ending}"
        path.write_bytes(mutated(self.files[ending], rng))
        out = self.folder / "out.parquet"
        log = type("NoLog", (), {"run_id": "fuzz", "file": lambda *_: None})()
        counts = job.Job(self.model, job.Batch(), log).run(
            job.plan(storage.find(str(path)), storage.place(str(out))), force=True
        )
        return f"{ending} {'failed' if counts.failed else 'refused' if counts.refused else 'scored'}"

    def logged(self, rng):
        """Lines of a service's log are counted by the monitor, or left out."""
        log, logged, windows, truth = (
            self.module(f"monitoring.{name}") for name in ("prediction_log", "logged", "windows", "truth")
        )
        np = importlib.import_module("numpy")
        records = self.predictor.RECORDS.validate_json(b"[" + b",".join([self.record] * 5) + b"]")
        columns = self.schema.columns(records) | {self.predictor.PREDICTION: np.array(list("abcde"), object)}
        answers = self.model.predict(columns) | {"role": np.array(["champion"] * 5, object)}
        path = self.folder / "log" / "2024-01-31.fuzz.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(mutated(log.lines(columns, answers, 1.0, 0.1, None), rng))
        rows, day = list(logged.rows(path.parent)), datetime.datetime(2024, 1, 31)
        window = windows.Window(day, day)
        window.add(rows, self.model.card, truth.Said())
        return f"{window.readable} of {len(rows)}"


class Event:
    """A message as a consumer returns it."""

    def __init__(self, value):
        """A message with this value and defaults for the rest."""
        said = {
            "value": value,
            "key": b"key",
            "topic": "events",
            "partition": 0,
            "offset": 7,
            "headers": [],
            "error": None,
        }
        for name, each in said.items():
            setattr(self, name, lambda each=each: each)


def main():
    """Try until the time is over; 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("project", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0, help="where to begin; each attempt has the next one")
    given = parser.parse_args()
    root = given.project.resolve()
    (package,) = (path.parent.name for path in (root / "src").glob("*/problem.py"))
    sys.path.insert(0, str(root / "src"))
    warnings.simplefilter("ignore")
    counts, found, seed = collections.Counter(), set(), given.seed
    with tempfile.TemporaryDirectory() as folder:
        surfaces = Surfaces(package, root, pathlib.Path(folder))
        end = time.monotonic() + 60 * given.minutes
        while time.monotonic() < end:
            rng = random.Random(seed)
            name = rng.choice(surfaces.names())
            try:
                counts[name, getattr(surfaces, name)(rng)] += 1
            except surfaces.errors:
                counts[name, "refused"] += 1
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                key = f"{name}: {type(error).__name__} in {pathlib.Path(place.filename).name}:{place.lineno}"
                if not any(each.startswith(key) for each in found):
                    found.add(f"{key}: {str(error)[:300]!r} (seed {seed})")
                    print(f"{key}: {str(error)[:300]!r} (seed {seed})", flush=True)
                counts[name, "FOUND"] += 1
            seed += 1
    for (name, came), count in sorted(counts.items()):
        print(f"{name:10} {came:16} {count:,}")
    print(f"{seed - given.seed:,} attempts, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
