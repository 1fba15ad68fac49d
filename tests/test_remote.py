"""A shared tracking server with PostgreSQL and S3, with and without failures: no loss, no duplicates, no leaks."""

import contextlib
import dataclasses
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import NAMED, by_psycopg, free_port, service, tracking_server
from test_projects import post

pytestmark = pytest.mark.slow
CLIENTS, RUNS = 16, 50


@dataclasses.dataclass
class Team:
    """A server, its administrator's project, and the users' passwords."""

    admin: object
    address: str
    passwords: dict

    def add(self, name, role, team="rides", bucket=""):
        """Create a user and the team, optionally with a separate bucket for its artifacts; the server prints the password once."""
        done = self.admin.make("tracking-user", f"NAME={name}", f"TEAM={team}", f"ROLE={role}", f"BUCKET={bucket}")
        assert done.returncode == 0, done.stderr
        self.passwords[name] = re.search(r"^MLFLOW_TRACKING_PASSWORD=(.*)$", done.stdout, flags=re.M)[1]

    def variables(self, name, team="rides", address=""):
        """The environment of a user's commands."""
        return {
            "MLFLOW_TRACKING_URI": address or self.address,
            "MLFLOW_TRACKING_USERNAME": name,
            "MLFLOW_TRACKING_PASSWORD": self.passwords.get(name, "guessed"),
            "MLFLOW_WORKSPACE": team,
        }


@contextlib.contextmanager
def team_server(project, passwords=None, **environment):
    """A server with a viewer, a member and a maintainer of rides, and a member of shops; they are there already if known."""
    if not (project.path / "deploy" / "tracking-server" / ".env").exists():
        assert project.make("tracking-secrets").returncode == 0
    with tracking_server(project, **environment) as address:
        team = Team(project, address, passwords or {})
        if not passwords:
            for name, role in (("vera", "viewer"), ("mo", "member"), ("max", "maintainer")):
                team.add(name, role)
            team.add("otto", "member", "shops")
        yield team


@pytest.fixture
def stores(s3, postgres):
    """The server's settings for PostgreSQL and a bucket."""
    return {
        "TRACKING_DB": by_psycopg(postgres),
        "TRACKING_ARTIFACTS": "s3://rides/mlflow",
        "MLFLOW_S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"],
    }


@pytest.fixture
def project(bake):
    return bake(**NAMED, tracking="remote").borrow_environment()


def ask(project, code, *words, **environment):
    """The JSON that a piece of code prints when it runs in a project."""
    done = project.run(".venv/bin/python", "-c", code, *words, timeout=600, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


COUNTS = """
import json; from night_bus.tracking import conventions, store; client = store.connect()
found = client.get_experiment_by_name(conventions.experiment_name())
runs = client.search_runs([found.experiment_id], max_results=5000) if found else []
models = client.search_logged_models([found.experiment_id], max_results=5000) if found else []
print(json.dumps([[r.info.run_id, r.info.status, len(r.data.metrics)] for r in runs] + [len(models)]))
"""


def test_a_team_goes_from_training_to_serving_and_through_a_day_without_its_server(project, stores, s3, tmp_path):
    another_host = shutil.copytree(project.path, tmp_path / "another" / "night-bus", symlinks=True)
    with team_server(project, **stores) as team:
        mo, ann, max_ = (team.variables(name) for name in ("mo", "vera", "max"))
        for _ in range(2):
            done = project.make("pipeline", **mo)
            assert done.returncode == 0, done.stderr
            assert "is challenger" in done.stdout
        refused = project.make("promote", "VERSION=1", "REASON=mine", **mo)
        assert refused.returncode != 0
        assert "only a maintainer" in refused.stderr
        for version, why in (("1", "the first"), ("2", "fewer errors at night")):
            done = project.make("promote", f"VERSION={version}", f"REASON={why}", **max_)
            assert done.returncode == 0, done.stderr
        log = project.make("log", **ann)
        assert [line.split()[2:6] for line in log.stdout.splitlines()[1:]] == [
            ["max", "promote", "1", "2"],
            ["max", "promote", "-", "1"],
        ]
        assert "fewer errors at night" in log.stdout
        looked = project.make("train", **ann)
        assert looked.returncode == 0
        assert "does not let vera" in looked.stderr
        shutil.rmtree(project.path / ".outbox")
        for team_name in ("rides", "shops"):
            outsider = team.variables("otto", team_name)
            assert "no version is registered" in project.make("registry", **outsider).stdout
            assert "there is no version 1" in project.make("trace", "VERSION=1", **outsider).stderr

        # A team with its own bucket: its clients write to it directly.
        team.add("zoe", "member", "own", "s3://rides/own")
        store = {"MLFLOW_S3_ENDPOINT_URL": stores["MLFLOW_S3_ENDPOINT_URL"]}
        done = project.make("train", **team.variables("zoe", "own"), **store)
        assert done.returncode == 0, done.stderr
        assert "make resend" not in done.stderr
        assert s3.list_objects_v2(Bucket="rides", Prefix="own/")["KeyCount"] > 5

        # Another host: a different HOME, and a clone that never trained.
        host = dataclasses.replace(project, path=another_host)
        host.environment = lambda **more: {
            **type(project).environment(host), "HOME": str(tmp_path), "MODEL_URI": "models:/night-bus@champion", **ann, **more
        }  # fmt: skip
        record = {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6}
        with service(host) as port:
            before = post(port, record)
        assert before["model_version"] == "2"
        traced = host.make("trace", "VERSION=2")
        assert "data_fingerprint" in traced.stdout

    with service(host) as port:
        assert post(port, record)["duration"] == before["duration"]
    done = project.make("train", **mo)
    assert done.returncode == 0
    assert "make resend" in done.stderr
    with team_server(project, team.passwords, **stores) as again:
        mo = again.variables("mo")
        assert "1 runs delivered" in project.make("resend", **mo).stdout
        *runs, models = ask(project, COUNTS, **mo)
        assert [status for _, status, _ in runs] == ["FINISHED"] * 3
        assert models == 3


def test_a_store_of_artifacts_that_hangs_costs_no_run(project, stores, s3):
    """A run whose artifacts cannot be stored is kept completely; a message names the part of the server that fails."""
    port = s3.meta.endpoint_url.rpartition(":")[2]
    store = int(subprocess.run(["pgrep", "-f", f"moto.server -p {port}"], capture_output=True, text=True).stdout)
    with team_server(project, **stores) as team:
        mo = team.variables("mo")
        os.kill(store, signal.SIGSTOP)
        try:
            started = time.monotonic()
            checked = project.make("tracking-check", **mo)
            assert time.monotonic() - started < 20
            done = project.make("train", **mo)
            assert time.monotonic() - started < 60
        finally:
            os.kill(store, signal.SIGCONT)
        assert checked.returncode != 0
        assert [line.split()[1] for line in checked.stdout.splitlines()] == ["ok"] * 4 + ["FAIL"], checked.stdout
        assert "the server's artifact store may be away" in checked.stdout
        assert done.returncode == 0, done.stderr
        assert "make resend" in done.stderr
        assert "Traceback" not in done.stderr
        assert project.make("resend", **mo).returncode == 0
        *runs, models = ask(project, COUNTS, **mo)
        assert [status for _, status, _ in runs].count("FINISHED") == 1
        assert models == 1


LOAD = """
import json, sys, time, pathlib, contextlib, io, mlflow
from night_bus.base import params
from night_bus.base.errors import UserError
from night_bus.data import clean, read
from night_bus.data.split import split
from night_bus.tracking import conventions, outbox, training_run
number, count = int(sys.argv[1]), int(sys.argv[2])
outbox.FOLDER = pathlib.Path(sys.argv[3]) / str(number); outbox.FOLDER.mkdir(parents=True)
settings = params.load(); parts = split(clean.clean(*read.rows(settings.data.model_copy(update={'sample_rows': 200}))), 0.2)
seconds = []
for i in range(count):
    started = time.perf_counter()
    with training_run.run(conventions.tags(*parts)) as run:
        conventions.log_inputs(*parts, settings)
        mlflow.set_tag('load', f'{number}-{i}')
        mlflow.log_metrics({f'm{k}': k + i / 100 for k in range(20)})
        model = mlflow.initialize_logged_model('model')
        (outbox.FOLDER / 'MLmodel').write_text('flavors: {}')
        mlflow.MlflowClient().log_model_artifact(model.model_id, str(outbox.FOLDER / 'MLmodel'))
        mlflow.finalize_logged_model(model.model_id, 'READY')
        mlflow.MlflowClient().log_outputs(mlflow.active_run().info.run_id, [mlflow.entities.LoggedModelOutput(model.model_id, 0)])
        run.model_uri = model.model_uri
    seconds.append(time.perf_counter() - started)
sys.argv = ['outbox']
for _ in range(30):
    if not outbox.waiting(): break
    try:
        with contextlib.redirect_stdout(io.StringIO()): outbox.main()
    except UserError: pass
    time.sleep(2)
print(json.dumps([seconds, len(outbox.waiting())]))
"""
LOADED = """
import json; from night_bus.tracking import conventions, store; client = store.connect()
found = client.get_experiment_by_name(conventions.experiment_name()); runs, token = [], None
while True:
    page = client.search_runs([found.experiment_id], "tags.load LIKE '%-%'", max_results=1000, page_token=token)
    runs += page; token = page.token
    if not token: break
models, token = [], None
while True:
    page = client.search_logged_models([found.experiment_id], max_results=100, page_token=token)
    models += page; token = page.token
    if not token: break
print(json.dumps([[r.data.tags['load'], r.info.status, len(r.data.metrics)] for r in runs] + [sorted(m.source_run_id for m in models)]))
"""


def test_sixteen_clients_and_a_server_that_is_killed_lose_nothing_and_double_nothing(project, stores, tmp_path):
    port = free_port()
    variables = {**stores, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    with contextlib.ExitStack() as servers:
        team = servers.enter_context(team_server(project, **stores))
        own = project.environment(**team.variables("mo"))
        words = [str(project.path / ".venv/bin/python"), "-c", LOAD]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        clients = [
            subprocess.Popen(
                [*words, str(number), str(RUNS), str(tmp_path / "out")], cwd=project.path, env=own, **pipes
            )
            for number in range(CLIENTS)
        ]
        servers.callback(lambda: [client.kill() for client in clients])
        time.sleep(60)
        server = subprocess.run(
            ["pgrep", "-f", f"mlflow server.*--port {team.address.rpartition(':')[2]}"], capture_output=True, text=True
        )
        killed = subprocess.run(["pkill", "-KILL", "-f", f"uvicorn.*--port {team.address.rpartition(':')[2]}"])
        assert server.stdout.split()
        for pid in server.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        assert killed.returncode in (0, 1)
        time.sleep(3)
        environment = {**variables, "PORT": team.address.rpartition(":")[2]}
        servers.enter_context(
            project.running(
                "tracking-server", f"PORT={environment['PORT']}", until=lambda _: reachable(team.address), **stores
            )
        )
        told = [json.loads(client.communicate(timeout=1500)[0].splitlines()[-1]) for client in clients]
        *runs, models = ask(project, LOADED, **team.variables("mo"))
    seconds = sorted(each for one, _ in told for each in one)
    print(f"{len(runs)} runs, p50 {seconds[len(seconds) // 2]:.2f} s, p95 {seconds[int(len(seconds) * 0.95)]:.2f} s")
    assert [left for _, left in told] == [0] * CLIENTS
    names = [name for name, _, _ in runs]
    assert len(names) == len(set(names)) == CLIENTS * RUNS
    assert {(status, metrics) for _, status, metrics in runs} == {("FINISHED", 20)}
    assert len(models) == len(set(models)) == CLIENTS * RUNS


def reachable(address):
    host, port = address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=2)
    connection.request("GET", "/health")
    return connection.getresponse().status == 200


class Proxy:
    """A proxy that drops, delays or truncates the server's answers, from a given answer on."""

    def __init__(self, target, harm, first):
        self.target, self.harm, self.first, self.answers = target, harm, first, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                for ends in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source, sink, answers):
        with contextlib.suppress(OSError):
            while block := source.recv(65_536):
                self.answers += answers
                if answers and self.answers > self.first:
                    if self.harm == "cut":
                        break
                    if self.harm == "truncate":
                        sink.sendall(block[: len(block) // 2])
                        break
                    time.sleep(60)
                sink.sendall(block)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_connection_that_breaks_while_a_run_is_delivered_costs_no_run_and_doubles_none(project):
    with team_server(project) as team:
        host, port = team.address.removeprefix("http://").split(":")
        delivered = kept = 0
        for harm in ("cut", "truncate", "delay"):
            for first in (8, 14) if harm != "delay" else (8,):
                proxy = Proxy((host, int(port)), harm, first)
                started = time.monotonic()
                done = project.make("train", **team.variables("mo", address=proxy.address), timeout=200)
                assert done.returncode == 0, done.stderr
                assert "Traceback" not in done.stderr
                assert time.monotonic() - started < 60
                proxy.listener.close()
                kept += "make resend" in done.stderr
                delivered += 1
        assert kept, "no connection was broken"
        assert project.make("resend", **team.variables("mo")).returncode == 0
        *runs, models = ask(project, COUNTS, **team.variables("mo"))
    print(f"{delivered} trainings, {kept} of them kept in the outbox first")
    assert [status for _, status, _ in runs] == ["FINISHED"] * delivered
    assert models == delivered


def test_of_two_who_promote_at_the_same_moment_one_wins_and_the_other_is_told(project, tmp_path):
    code = (
        "import sys, time, pathlib; from night_bus.base import errors; from night_bus.registry import versions; versions.champion()\n"
        "pathlib.Path(sys.argv[2] + '.ready').touch()\n"
        "while not pathlib.Path(sys.argv[3]).exists(): time.sleep(0.001)\n"
        "def main(): print(versions.promote(sys.argv[1], 'a race'))\n"
        "errors.run(main)"
    )
    with team_server(project) as team:
        for _ in range(3):
            assert project.make("pipeline", **team.variables("max")).returncode == 0
        go = tmp_path / "go"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        racers = [
            subprocess.Popen(
                [str(project.path / ".venv/bin/python"), "-c", code, version, str(tmp_path / version), str(go)],
                cwd=project.path, env=project.environment(**team.variables("max")), **pipes,
            )
            for version in ("2", "3")
        ]  # fmt: skip
        while len(list(tmp_path.glob("*.ready"))) < 2:
            time.sleep(0.05)
        go.touch()
        said = [racer.communicate(timeout=60) for racer in racers]
        codes = [racer.returncode for racer in racers]
        log = project.make("log", **team.variables("vera")).stdout
    assert sorted(codes) == [0, 1], said
    winner = codes.index(0)
    assert f"version {winner + 2} is champion" in said[winner][0]
    assert re.search("at this moment|changed by somebody else", said[1 - winner][1])
    assert log.count("a race") == 1


FORGED = 2_000


def forgeries(rng, run_id, experiment_id, model):
    """Requests that must not get through: method, path, body, headers."""
    others = [
        ("GET", f"/api/2.0/mlflow/runs/get?run_id={run_id}", None),
        ("POST", "/api/2.0/mlflow/runs/log-metric", {"run_id": run_id, "key": "rmse", "value": 0, "timestamp": 1}),
        ("POST", "/api/2.0/mlflow/runs/delete", {"run_id": run_id}),
        ("POST", "/api/2.0/mlflow/runs/set-tag", {"run_id": run_id, "key": "x", "value": "y"}),
        ("POST", "/api/2.0/mlflow/experiments/delete", {"experiment_id": experiment_id}),
        ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run_id}", None),
        ("GET", f"/api/2.0/mlflow/registered-models/get?name={model}", None),
        ("POST", "/api/2.0/mlflow/registered-models/alias", {"name": model, "alias": "champion", "version": "1"}),
        ("DELETE", "/api/2.0/mlflow/registered-models/delete", {"name": model}),
        ("GET", "/api/2.0/mlflow/users/list", None),
        ("POST", "/api/2.0/mlflow/users/create", {"username": "eve", "password": "a-long-password"}),
        ("PATCH", "/api/2.0/mlflow/users/update-admin", {"username": "otto", "is_admin": True}),
        ("PATCH", "/api/2.0/mlflow/users/update-password", {"username": "admin", "password": "a-long-password"}),
    ]
    climbs = ["../../../etc/passwd", "..%2f..%2f..%2fetc/passwd", "%2e%2e/%2e%2e/auth.ini", "....//....//auth.db", "/etc/passwd", "a/../../auth.db", "..\\..\\auth.db", "%00", "workspaces/rides/1", "%252e%252e/auth.db"]  # fmt: skip
    for _ in range(FORGED):
        method, path, body = rng.choice(others)
        headers = {
            "Content-Type": "application/json",
            "X-MLFLOW-WORKSPACE": rng.choice(["rides", "shops", "default", "../rides", ""]),
        }
        kind = rng.randrange(4)
        if kind == 0:
            yield method, path, body, headers, None
        elif kind == 1:
            who = rng.choice(["admin", "max", "mo", "nobody", "", "admin'--"])
            yield method, path, body, headers, (who, rng.choice(["", "password", "password1234", "' or '1'='1"]))
        elif kind == 2:
            yield method, path, body, headers, "otto"
        elif rng.random() < 0.5:
            name = rng.choice(climbs)
            method = rng.choice(["GET", "PUT", "DELETE"])
            yield (
                method,
                f"/api/2.0/mlflow-artifacts/artifacts/{name}",
                "x" if method == "PUT" else None,
                headers,
                "otto",
            )
        else:
            headers["Host"] = rng.choice(["evil.example", "169.254.169.254", "localhost.evil.example:5000"])
            yield method, path, body, headers, "mo"


SNAPSHOT = """
import json; from night_bus.tracking_server import users; client, auth = users.connect()
import os; os.environ['MLFLOW_WORKSPACE'] = 'rides'
runs = client.search_runs([e.experiment_id for e in client.search_experiments()], run_view_type=3)
models = client.search_registered_models()
print(json.dumps([sorted(map(str, [r.to_dictionary() for r in runs])), sorted(str([m.name, m.aliases, m.tags]) for m in models), sorted(users.people(auth).items())]))
"""


def test_two_thousand_forged_requests_read_and_write_nothing(project):
    with team_server(project) as team:
        done = project.make("pipeline", **team.variables("mo"))
        assert done.returncode == 0, done.stderr
        (run_id, _, _), _ = ask(project, COUNTS, **team.variables("mo"))
        experiment = ask(
            project,
            "import json; from night_bus.tracking import conventions, store; store.connect(); print(json.dumps(conventions.experiment()))",
            **team.variables("mo"),
        )
        files = sorted(
            path.relative_to(project.path).as_posix()
            for path in (project.path / "deploy" / "tracking-server" / "data" / "artifacts").rglob("*")
        )
        before = ask(project, SNAPSHOT)
        host, port = team.address.removeprefix("http://").split(":")
        seen = {}
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        for method, path, body, headers, login in forgeries(random.Random(5), run_id, experiment, "night-bus"):
            if login is not None:
                import base64

                name, password = login if isinstance(login, tuple) else (login, team.passwords[login])
                headers["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
            content = body if isinstance(body, str | None) else json.dumps(body)
            try:
                connection.request(method, path, content, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (http.client.HTTPException, OSError):
                connection.close()
                continue
            assert b"root:" not in text
            assert b"a model" not in text
            assert run_id.encode() not in text or answer.status >= 400
            seen[answer.status] = seen.get(answer.status, 0) + 1
            if answer.status == 200:
                raise AssertionError(f"{method} {path} {headers} {login}: {text[:200]}")
        assert ask(project, SNAPSHOT) == before
        assert files == sorted(
            path.relative_to(project.path).as_posix()
            for path in (project.path / "deploy" / "tracking-server" / "data" / "artifacts").rglob("*")
        )
    print(seen)
    assert sum(seen.values()) > FORGED * 0.9
