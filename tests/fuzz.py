"""Give one part of a project damaged input for some time: `python fuzz.py PART SECONDS SEED`, in its folder, by its Python.

Prints one line of JSON: how many inputs were tried, how often each result came, and what should never happen (`found`),
with the input that caused it. A refusal in one line is right, and so is an answer; a traceback or a lost record is not.
"""

import collections
import contextlib
import datetime
import importlib
import io
import json
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback

sys.path.insert(0, "src")
PACKAGE = next(pathlib.Path("src").glob("*/__main__.py")).parent.name
TOKENS = b"""1e400 -1 0 -0 NaN Infinity null true {} [] "" "\\ud800" 99999999999999999999 1e-320 2024-02-30 9999-12-31T23:59:59
0001-01-01 %00 %s ../../etc/passwd http://127.0.0.1:1/ = , ; : " ' [ ] { } # \\ \xc3\xa9 \x00 \xff \xef\xbb\xbf \t""".split(
    b" "
)
VALUES = [
    None,
    True,
    -1,
    0,
    2**63,
    2**70,
    1e308,
    -1e-320,
    "",
    " ",
    "x" * 300,
    "\0",
    "2024-02-30",
    "NaN",
    [],
    {},
    [[]],
    {"": 0},
]
HEADERS = {
    "HTTP_ORIGIN": b"http://127.0.0.1:9696",
    "HTTP_SEC_FETCH_SITE": b"same-origin",
    "HTTP_ACCEPT": b"text/html;q=0.1",
}
MOST = 20
"""The number of findings after which a run ends."""


class WrongError(Exception):
    """A result that should never be."""


def part(name):
    """A module of the project."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def trained():
    """The project's trained model."""
    return part("model.predictor").Predictor(part("model.bundle").read(pathlib.Path("model")))


def damaged(rng, seeds):
    """One of the seeds with some bytes changed, cut, doubled or replaced."""
    body = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(body) + 1)
        end = min(len(body), at + rng.randrange(1, 40))
        how = rng.randrange(7)
        if how == 0 and at < len(body):
            body[at] = rng.randrange(256)
        elif how == 1:
            del body[at:end]
        elif how == 2:
            body[at:at] = body[at:end] * rng.randrange(1, 60)
        elif how == 3:
            body[at:at] = rng.choice(TOKENS)
        elif how == 4:
            other = rng.choice(seeds)
            body[at:end] = other[rng.randrange(len(other) + 1) :][:80]
        elif how == 5:
            words = list(re.finditer(rb"[\w.+-]+", body[:20_000]))
            if words:
                word = rng.choice(words)
                body[word.start() : word.end()] = rng.choice(TOKENS)
        elif rng.randrange(4) == 0:
            del body[at:]
    return bytes(body)


def altered(rng, value):
    """A value of JSON with one of its parts replaced, removed or doubled."""
    if not (isinstance(value, dict | list) and value) or rng.randrange(6) == 0:
        return rng.choice(VALUES)
    value = value.copy()
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    how = rng.randrange(5)
    if how == 0:
        del value[key]
    elif how == 1 and isinstance(value, dict):
        value[rng.choice(("", "x", "__class__", "é", key + " "))] = value[key]
    elif how == 1:
        value *= rng.randrange(1, 5)
    else:
        value[key] = altered(rng, value[key])
    return value


def text(rng, value):
    """A damaged JSON text of a value: another value, or other bytes."""
    made = value
    for _ in range(rng.randrange(4)):
        made = altered(rng, made)
    whole = json.dumps(made, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    return damaged(rng, [whole]) if rng.random() < 0.5 else whole


@contextlib.contextmanager
def errors_in_one_line():
    """A `UserError` is a result; every other exception is passed on."""
    try:
        yield
    except part("base.errors").UserError as error:
        if not str(error).strip():
            raise WrongError("an error without a message") from error
        raise SystemExit("refused") from None


def requests(rng):
    """The web service, called as gunicorn calls it: paths, headers, queries and bodies."""
    predictor = trained()
    app = part("serving.app").create_app(predictor)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    example = part("problem").EXAMPLE
    form = "&".join(f"{name}={value}" for name, value in example.items()).encode()
    types = [
        b"application/json",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"text/html",
    ]
    paths = [b"/predict", b"/predict", b"/predict", b"/", b"/version", b"/docs", b"/openapi.json", b"/static/page.css"]

    def damaged_line(seeds):
        # A line of HTTP has no line ends in it.
        return damaged(rng, seeds).translate(None, b"\r\n\0").decode("latin-1")

    def attempt():
        path = rng.choice(paths) if rng.random() < 0.8 else b"/" + damaged(rng, paths)
        kind = rng.choice(types) if rng.random() < 0.5 else types[path == b"/"]
        value = rng.choice((example, [example], [example] * 3))
        body = damaged(rng, [form]) if path == b"/" else text(rng, value)
        query = damaged_line([b"explain=true&x=1", form]) if rng.random() < 0.3 else ""
        environ = {
            "REQUEST_METHOD": rng.choice(("POST", "POST", "POST", "GET", "HEAD", "PUT", "OPTIONS", "X")),
            "PATH_INFO": path.decode("latin-1"),
            "QUERY_STRING": query,
            "CONTENT_TYPE": damaged_line([kind]) if rng.random() < 0.1 else kind.decode(),
            "CONTENT_LENGTH": str(len(body)) if rng.random() < 0.9 else rng.choice(("", "0", "-1", "x", "1" * 30)),
            **{name: damaged_line([known]) for name, known in HEADERS.items()},
            "HTTP_HOST": "127.0.0.1:9696",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "9696",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SCRIPT_NAME": "",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.url_scheme": "http",
            "wsgi.version": (1, 0),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        told = {"path": path, "body": body, "query": query, **environ}
        yield repr({name: each for name, each in told.items() if not name.startswith(("wsgi", "SERVER"))})
        status = []
        answer = app(environ, lambda line, *_: status.append(line))
        content = b"".join(answer)
        answer.close()
        if status[0] >= "500":
            raise WrongError(status[0])
        if path == b"/predict" and status[0].startswith("200") and environ["REQUEST_METHOD"] == "POST":
            given, made = json.loads(body[: int(environ["CONTENT_LENGTH"] or len(body))]), json.loads(content)
            if isinstance(given, list) != isinstance(made, list) or (
                isinstance(given, list) and len(given) != len(made)
            ):
                raise WrongError("another number of answers than of records")
        return status[0][:3]

    return attempt


def wire(rng):
    """A running service (`FUZZ_PORT`): the bytes of a connection. It answers with less than 500 or closes, and stays alive."""
    port = int(os.environ["FUZZ_PORT"])
    body = json.dumps(part("problem").EXAMPLE).encode()
    seeds = [
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
        % (len(body), body),
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.0\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\na=1",
    ]

    def ask(content):
        with socket.create_connection(("127.0.0.1", port), 30) as line:
            with contextlib.suppress(OSError):  # it may close before it has read all
                line.sendall(content)
                line.shutdown(socket.SHUT_WR)
            found = b""
            with contextlib.suppress(ConnectionError):
                while got := line.recv(65_536):
                    found += got
        return found

    def attempt():
        content = damaged(rng, seeds)
        yield repr(content)
        found = ask(content)
        if re.search(rb"(^|\r\n)HTTP/1\.[01] 5(?!0[15])", found):
            raise WrongError(found[:200])
        if rng.randrange(20) == 0 and b"alive" not in ask(
            b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ):
            raise WrongError("not alive any more")
        return found[9:12].decode("latin-1") or "closed"

    return attempt


def events(rng):
    """The worker: keys and values of a batch of events. Each gets one prediction or one dead letter."""
    predictor = trained()
    worker, topics = part("serving.worker"), part("serving.broker").Stream()
    example, identity = part("problem").EXAMPLE, part("problem").ID

    class Event:
        def __init__(self, key, value):
            self.key, self.value = lambda: key, lambda: value
            self.topic, self.partition, self.offset = lambda: "events", lambda: 0, lambda: 7

    def attempt():
        sent = []
        for _ in range(rng.randrange(1, 6)):
            given = dict(example)
            if rng.random() < 0.5:
                given[identity] = rng.choice(
                    ("a", "é", 1, 2**70, "", "x" * 1_000_000 if rng.randrange(30) == 0 else "y")
                )
            key = rng.choice((None, b"", b"\xff\x00", b"k" * 10, damaged(rng, [b"key"])))
            value = rng.choice((None, b"", json.dumps(given).encode())) if rng.random() < 0.2 else text(rng, given)
            sent.append(Event(key, value))
        yield repr([(event.key(), (event.value() or b"")[:500]) for event in sent])
        made = worker.answer(sent, predictor, topics)
        if len(made) != len(sent):
            raise WrongError(f"{len(made)} outputs for {len(sent)} events")
        for each in made:
            if len(each.key or b"") + len(each.value or b"") > 1_000_000:
                raise WrongError("a message that no broker takes")
            if each.topic == topics.predictions:
                json.loads(each.value, parse_constant=lambda name: (_ for _ in ()).throw(WrongError(name)))
        return "dead letters" if any(each.topic == topics.dead_letters for each in made) else "answered"

    return attempt


def _tables():
    """A table of records as seeds: CSV with three dialects, and Parquet."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    table, text, parquet = part("data.schema").table(part("problem").sample(300, seed=1)), io.BytesIO(), io.BytesIO()
    pa.csv.write_csv(table.slice(0, 60), text)
    pa.parquet.write_table(table, parquet)
    comma = text.getvalue()
    semicolons = comma.replace(b",", b";").replace(b".", b",")
    return {
        ".csv": [comma, semicolons, b"\xef\xbb\xbf" + comma.replace(b"\n", b"\r\n")],
        ".parquet": [parquet.getvalue()],
    }


def training_files(rng):
    """Files to train on: read and cleaned, or refused in one line."""
    seeds, read, clean, settings = _tables(), part("data.read"), part("data.clean"), part("base.params").Data()
    folder = pathlib.Path(tempfile.mkdtemp())

    def attempt():
        ending = rng.choice((".csv", ".csv", ".csv", ".parquet"))
        path = folder / f"data{ending}"
        content = damaged(rng, seeds[ending])
        path.write_bytes(content)
        yield repr(content[:3_000])
        with errors_in_one_line():
            dataset = clean.clean(*read.rows(settings, str(path)))
            "\n".join(clean.describe(dataset))
        return "read"

    return attempt


def scored_files(rng):
    """Files to score: as many rows come out, scored or rejected, as a file has; or it is refused in one line."""
    import pyarrow.parquet

    seeds, batch = _tables(), part("serving.batch")
    folder = pathlib.Path(tempfile.mkdtemp())
    os.environ["MODEL_URI"] = str(pathlib.Path("model").resolve())

    def attempt():
        ending = rng.choice((".csv", ".csv", ".csv", ".parquet"))
        shutil.rmtree(folder / "out", ignore_errors=True)
        given, made = folder / f"in{ending}", folder / "out" / "scored.parquet"
        content = damaged(rng, seeds[ending])
        given.write_bytes(content)
        yield repr(content[:3_000])
        sys.argv = ["score", "--input", str(given), "--output", str(made), "--max-rejected", "1"]
        with errors_in_one_line(), contextlib.redirect_stdout(io.StringIO()) as told, contextlib.redirect_stderr(told):
            code = batch.main()
        found = re.search(r"([\d,]+) rows scored .* ([\d,]+) rejected", told.getvalue())
        if code == 0 and found:
            scored, rejected = (int(each.replace(",", "")) for each in found.groups())
            for kind, wanted in (("scored.parquet", scored), ("*.rejected.parquet", rejected)):
                there = sum(pyarrow.parquet.read_metadata(path).num_rows for path in made.parent.glob(kind))
                if there != wanted:
                    raise WrongError(f"{kind} has {there} rows, {wanted} were told")
        if "Traceback" in told.getvalue():
            raise WrongError(told.getvalue()[-1_000:])
        return f"exit {code}"

    return attempt


def files(rng):
    """The files of the project itself: params.toml, data.lock, and a bundle's card, graph and explanations."""
    params, bundle, lock, predictor = (
        part(name) for name in ("base.params", "model.bundle", "data.data_lock", "model.predictor")
    )
    for name in ("model.explain", "training.tune", "training.evaluate", "pipeline.gate", "data.drift"):
        part(name)  # each registers the table that it reads
    sections = [each for each in params.Section.__subclasses__() if each.table]
    folder = pathlib.Path(tempfile.mkdtemp())
    made = bundle.read(pathlib.Path("model"))
    settings = pathlib.Path("params.toml").read_bytes()
    options = "\n".join(f"[{each.table}]" for each in sections).encode() + b"\n" + settings
    entry = {"sha256": "a" * 64, "bytes": 1, "rows": 1, "span": "", "origin": "http://127.0.0.1:1/x"}
    lock.ROOT, lock.FILE, lock.CACHE = folder, folder / "data.lock", folder / "cache"
    records = predictor.RECORDS.validate_python([part("problem").EXAMPLE], strict=False)

    def read_settings(path):
        params.load(path)
        for each in sections:
            each.load(path)

    def read_bundle(path):
        predictor.Predictor(bundle.read(path.parent)).predict(part("data.schema").columns(records))

    def attempt():
        kind = rng.choice(("params.toml", "data.lock", "model.json", made.file, *made.extras))
        path, reads = folder / kind, read_bundle
        if kind == "params.toml":
            content, reads = damaged(rng, [settings, options]), read_settings
        elif kind == "data.lock":
            content, reads = text(rng, {"data/x.parquet": entry}), lambda _: list(lock.restore_all())
        else:
            path = folder / "model" / kind
            bundle.write(made, path.parent)
            content = (
                text(rng, json.loads((path.parent / "model.json").read_bytes()))
                if kind == "model.json"
                else damaged(rng, [path.read_bytes()])
            )
        path.write_bytes(content)
        if kind in (made.file, *made.extras):
            # The checksums match: who can write one file can write the other.
            graph, extras = (
                (path.parent / made.file).read_bytes(),
                {name: (path.parent / name).read_bytes() for name in made.extras},
            )
            bundle.write(bundle.Bundle(graph, made.card, extras), path.parent)
        yield f"{kind}: {content[:5_000]!r}"
        with errors_in_one_line():
            reads(path)
        return f"{kind} read"

    return attempt


ODD = {
    int: [-1, 0, 1, 2, 7, 2**31, 2**40, 10**20],
    float: [0.0, -1.0, 1e-9, 0.5, 0.999, 1.0, 3.0, 1e308, float("inf"), float("nan")],
    str: ["", "x", "linear", "1s", "0s", "99999w", "100000w"],
}
SLOW = ("sample_rows", "n_estimators", "max_depth", "folds")
"""Settings of which a large value is right, and takes long."""


def settings(rng):
    """Well-formed values of params.toml: a training with them ends, or refuses them in one line."""
    import tomlkit

    params, train, problem = part("base.params"), part("training.train"), part("problem")
    rows = part("data.clean").clean("sample", problem.sample(600, seed=1))
    file, folder = pathlib.Path("params.toml"), pathlib.Path(tempfile.mkdtemp())
    before = file.read_text(encoding="utf-8")

    def attempt():
        changed = tomlkit.parse(before)
        tables = [changed[name] for name in changed]
        tables += [each for table in tables for each in table.values() if isinstance(each, dict)]
        places = [(table, name) for table in tables for name, value in table.items() if type(value.unwrap()) in ODD]
        for table, name in rng.sample(places, rng.randrange(1, 3)):
            value = rng.choice(ODD[type(table[name].unwrap())])
            table[name] = min(value, 5) if name in SLOW and isinstance(value, int) else value
        file.write_text(tomlkit.dumps(changed), encoding="utf-8")
        yield tomlkit.dumps(changed)
        try:
            with errors_in_one_line(), contextlib.redirect_stdout(io.StringIO()):
                train.train(rows, params.load(), folder / "model", lambda _: None)
        finally:
            file.write_text(before, encoding="utf-8")
        return "trained"

    return attempt


def logged(rng):
    """Lines of a service's log: the monitor counts them or leaves them out."""
    import numpy as np

    log, lines, windows, truth = (
        part(f"monitoring.{name}") for name in ("prediction_log", "logged", "windows", "truth")
    )
    predictor = trained()
    records = part("model.predictor").RECORDS.validate_python([part("problem").EXAMPLE] * 5, strict=False)
    columns = part("data.schema").columns(records) | {
        part("model.predictor").PREDICTION: np.array(list("abcde"), object)
    }
    answers = predictor.predict(columns) | {"role": np.array(["champion"] * 5, object)}
    known, day = log.lines(columns, answers, 1.0, 0.1, None), datetime.datetime(2024, 1, 31)
    path = pathlib.Path(tempfile.mkdtemp()) / "2024-01-31.fuzz.jsonl"

    def attempt():
        content = damaged(rng, [known])
        path.write_bytes(content)
        yield repr(content)
        window = windows.Window(day, day)
        window.add(list(lines.rows(path.parent)), predictor.card, truth.Said())
        return f"{window.readable} counted"

    return attempt


def commands(rng):
    """Commands as people type them: other words, other options, and a damaged `.env`. They answer or refuse in one line."""
    known = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["tool"]["mlops-template"]["commands"]
    # What runs until it is stopped, or fetches something from elsewhere.
    endless = [
        "web",
        "stream",
        "follow",
        "monitor",
        "operate",
        "ui",
        "server",
        "webhook",
        "data",
        "tune",
        "reproduce",
        "maturity",
    ]
    names = [name for name in known if name not in endless]
    values = [
        "",
        "0",
        "-1",
        "x",
        "é",
        "../..",
        "/dev/null",
        "model",
        "params.toml",
        "src",
        "1",
        "@champion",
        "a b",
        "%s",
        "model/model.onnx",
    ]
    places = [
        b"MLFLOW_TRACKING_URI=sqlite:///mlflow.db\nMLFLOW_TRACKING_USERNAME=a\nMODEL_URI=models:/x@champion\nTEAM=a\n"
    ]
    helps = {}

    def attempt():
        name = rng.choice(names)
        python = [sys.executable, "-m", PACKAGE]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "MODEL"))}
        clean |= {"PYTHONPATH": "src", "MLFLOW_TRACKING_URI": f"sqlite:///{tempfile.gettempdir()}/fuzz.db"}
        if name not in helps:
            told = subprocess.run(
                [*python, name, "--help"], capture_output=True, text=True, env=clean, timeout=120
            ).stdout
            helps[name] = sorted(set(re.findall(r"--[a-z-]+", told)) - {"--help"})
        words = [rng.choice(values) for _ in range(rng.randrange(2))]
        for option in rng.sample(helps[name], min(len(helps[name]), rng.randrange(3))):
            words += [option, rng.choice(values)][: rng.randrange(1, 3)]
        if rng.random() < 0.4:
            pathlib.Path(".env").write_bytes(damaged(rng, places))
            del clean["MLFLOW_TRACKING_URI"]
        else:
            pathlib.Path(".env").unlink(missing_ok=True)
        words = [word for word in words if "\0" not in word]
        yield f"{name} {words} .env: {pathlib.Path('.env').read_bytes()[:300] if pathlib.Path('.env').exists() else ''!r}"
        try:
            done = subprocess.run(
                [*python, name, *words], capture_output=True, text=True, env=clean, timeout=60, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            return "still running"
        if "Traceback" in done.stderr or done.returncode < 0 or (done.returncode and not done.stderr.strip()):
            raise WrongError(f"exit {done.returncode}: {done.stderr[-1_500:]} {done.stdout[-200:]}")
        return f"exit {done.returncode}"

    return attempt


def main():
    """Try one part of the project until the time is over."""
    name, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    attempt = globals()[name](rng)
    ends, outcomes, found, known = time.monotonic() + seconds, collections.Counter(), [], set()
    while time.monotonic() < ends and len(found) < MOST:
        trying = attempt()
        given = next(trying)
        try:
            next(trying)
        except StopIteration as ended:
            outcomes[ended.value] += 1
        except SystemExit as ended:
            outcomes[f"exit {ended.code}" if isinstance(ended.code, int) else ended.code] += 1
        except Exception as error:
            where = traceback.format_exc()
            last = (
                f"{type(error).__name__} {where.splitlines()[-3:-1]}"
                if not isinstance(error, WrongError)
                else str(error)[:60]
            )
            outcomes["wrong"] += 1
            if last not in known:
                known.add(last)
                found.append({"input": given, "error": where[-2_500:]})
    print(json.dumps({"tried": sum(outcomes.values()), "outcomes": outcomes, "found": found}))


if __name__ == "__main__":
    main()
