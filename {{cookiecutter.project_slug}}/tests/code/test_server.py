"""The team's server for real: who may do what, what a client is told when things go wrong, and signed calls."""

import base64
import contextlib
import datetime
import hashlib
import hmac
import http.server
import ipaddress
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request

import mlflow
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.tracking import conventions, server_errors, store
from {{ cookiecutter.__package }}.tracking_server import calls, connection_check, start, users, webhook

ADMIN = "the administrator's password"
PASSWORDS: dict[str, str] = {}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def administrator(address):
    """The administrator's rights, for the length of a with block."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_WORKSPACE"):
            patch.setenv(name, "")
        patch.setenv("MLFLOW_TRACKING_URI", address)
        patch.setenv("TRACKING_ADMIN_PASSWORD", ADMIN)
        # A receiver of webhooks is public and speaks https, unless it is told otherwise.
        patch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http")
        server_errors.reach.cache_clear()
        yield


def type_in(address, command, *words):
    """Run a command of the administrator's."""
    with administrator(address), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [command.__name__, *words])
        command.main()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A server with two teams: blue has a viewer, a member and a maintainer, red a member who is the outsider."""
    port = free_port()
    folder = tmp_path_factory.mktemp("server")
    environment = {
        **os.environ,
        "TRACKING_DATA": str(folder),
        "PYTHONPATH": str(params.ROOT / "src"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "0123456789abcdef",
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", params.PACKAGE.name, "server", "--port", str(port), "--workers", "1"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=1):
            break
        time.sleep(0.1)
    with administrator(url):
        for name, team, role in [
            ("vera", "blue", "viewer"),
            ("mo", "blue", "member"),
            ("max", "blue", "maintainer"),
            ("otto", "red", "member"),
        ]:
            PASSWORDS[name] = users.add(name, team, role)
    yield url
    process.terminate()
    process.wait(30)


@pytest.fixture
def as_user(address, monkeypatch):
    """Become somebody in a team, as the `.env` of a client says who one is."""

    def become(name, team="blue", password=""):
        server_errors.reach.cache_clear()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password or PASSWORDS[name])
        monkeypatch.setenv("MLFLOW_WORKSPACE", team)
        return store.connect()

    return become


def register(client, name):
    """A version of a model of its own; gives the id of its run."""
    run = client.create_run(conventions.experiment())
    client.log_text(run.info.run_id, "a model", "model.txt")
    client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{run.info.run_id}/model.txt", run.info.run_id)
    return run.info.run_id


@pytest.fixture
def version(as_user, request):
    """A registered version that a member has made, of a model of its own for the test; its name and its run."""
    name = f"model-{request.node.name}"[:60]
    return name, register(as_user("mo"), name)


def refused(action):
    """Whether the server refuses what somebody tries."""
    with pytest.raises(UserError) as error, store.errors():
        action()
    assert "does not let" in str(error.value) or "only a maintainer" in str(error.value)
    return True


def test_a_viewer_may_look_and_not_touch(as_user, version):
    name, run_id = version
    client = as_user("vera")
    assert client.get_run(run_id).info.run_id == run_id
    assert len(client.search_model_versions(f"name = '{name}'")) == 1
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/model.txt") == "a model"
    assert refused(lambda: client.create_experiment("mine"))
    assert refused(lambda: client.log_metric(run_id, "loss", 0.0))
    assert refused(lambda: client.log_text(run_id, "another", "model.txt"))
    assert refused(lambda: client.set_model_version_tag(name, "1", "status", "archived"))


def test_an_outsider_gets_nothing(as_user, version):
    name, run_id = version
    for team in ("blue", "red"):
        client = as_user("otto", team)
        assert client.search_experiments() == []
        assert client.search_registered_models() == []
        assert refused(lambda client=client: client.get_run(run_id))
        assert refused(lambda client=client: client.get_model_version(name, "1"))
        assert refused(lambda: mlflow.artifacts.load_text(f"runs:/{run_id}/model.txt"))
    assert as_user("mo").get_run(run_id).data.metrics == {}


def test_only_a_maintainer_moves_the_champion(as_user, version):
    name, _ = version
    client = as_user("mo")
    client.set_registered_model_alias(name, "challenger", "1")
    assert refused(lambda: client.set_registered_model_alias(name, "champion", "1"))
    as_user("max").set_registered_model_alias(name, "champion", "1")
    client = as_user("mo")
    assert refused(lambda: client.delete_registered_model_alias(name, "champion"))
    assert refused(lambda: client.set_registered_model_tag(name, "move.1", "forged"))
    assert refused(lambda: client.create_registered_model("another", {"move.1": "forged"}))
    assert refused(lambda: client.delete_registered_model(name))
    assert refused(lambda: client.rename_registered_model(name, "other"))
    assert str(client.get_model_version_by_alias(name, "champion").version) == "1"


def test_the_guard_is_not_passed_by_saying_the_same_in_another_way(as_user, version, address):
    name, _ = version
    as_user("max").set_registered_model_alias(name, "challenger", "1")
    wanted = {"name": name, "alias": "champion", "version": "1"}
    forged = [
        {"data": json.dumps(wanted)},
        {"data": json.dumps(json.dumps(wanted))},
        {"data": wanted},
        {"params": wanted},
        {"json": {**wanted, "alias": "challenger"}, "params": {"alias": "champion"}},
        {"data": b'{"name": "' + name.encode() + b'", "alias": "challenger", "alias": "champion", "version": "1"}'},
        {"data": b"\xff\xfe" + json.dumps(wanted).encode("utf-16-le")},
    ]
    for prefix in ("api", "ajax-api"):
        for more in forged:
            answer = requests.post(
                f"{address}/{prefix}/2.0/mlflow/registered-models/alias",
                auth=("mo", PASSWORDS["mo"]),
                headers={"X-MLFLOW-WORKSPACE": "blue"},
                timeout=10,
                **more,
            )
            assert answer.status_code in (400, 403, 404, 415), more
    assert as_user("max").get_registered_model(name).aliases == {"challenger": "1"}


def test_the_check_says_in_five_lines_what_works(as_user, capsys):
    as_user("mo")
    assert connection_check.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[name, "ok"] for name in connection_check.STEPS]


def test_the_check_of_one_member_does_not_spoil_the_next_one_s(address, as_user, capsys):
    with administrator(address):
        PASSWORDS["nina"] = users.add("nina", "blue", "member")
    for name in ("mo", "nina", "mo", "max"):
        as_user(name)
        assert connection_check.main() == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("user", "team", "failed", "said"),
    [
        ("nobody", "blue", "log-in", "refuses the log-in of nobody"),
        ("otto", "blue", "workspace", "no team of this user, who has red"),
        ("vera", "blue", "write", "does not let vera"),
    ],
)
def test_the_check_stops_where_something_is_wrong(as_user, capsys, user, team, failed, said):
    with contextlib.suppress(UserError):
        as_user(user, team, PASSWORDS.get(user, "guessed"))
    assert connection_check.main() == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "FAIL" in line]
    assert line.startswith(failed)
    assert said in line


@contextlib.contextmanager
def answering(*answers):
    """A server that gives these bytes, one connection after the other, or with None lets the client wait."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []

        def serve():
            for answer in answers:
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    held.append(connection)
                    if answer is not None:
                        connection.recv(4096)
                        connection.sendall(answer)
                        connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for connection in held:
            connection.close()


def said_so(status, body=b"", more=b""):
    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n" % (status, len(body), more)
    return head + body


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "no MLflow server answers"),
        (None, "does not answer in time"),
        (said_so(b"200 OK", b"2.9.1"), "has version 2.9.1, older than this project's"),
        (said_so(b"200 OK", b"<html>"), "is no MLflow server"),
        (said_so(b"404 Not Found", b"?"), "is no MLflow server"),
        (said_so(b"401 Unauthorized"), "refuses the log-in"),
        (said_so(b"403 Forbidden", b"Invalid Host header"), "refuses this host name"),
        (said_so(b"502 Bad Gateway"), "has trouble itself"),
    ],
)
def test_what_is_wrong_with_a_server_is_one_line_within_its_patience(monkeypatch, answer, said):
    server_errors.reach.cache_clear()
    monkeypatch.setattr(server_errors, "PATIENCE_SECONDS", 1)
    with answering(answer) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        started = time.monotonic()
        with pytest.raises(UserError, match=said) as error:
            store.connect()
    assert time.monotonic() - started < 2
    assert "\n" not in str(error.value)


def certificate(folder, first, last):
    """A certificate for this machine that is valid from one day to another, in days from today, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=first))
        .not_valid_after(now + datetime.timedelta(days=last))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize(
    ("first", "last", "trusted", "said"),
    [
        (-9, -1, True, "has a certificate that has expired"),
        (1, 9, True, "is not valid yet: is this machine's clock right?"),
        (-1, 9, False, "MLFLOW_TRACKING_SERVER_CERT_PATH"),
    ],
)
def test_a_certificate_that_does_not_hold_is_told_with_the_remedy(tmp_path, monkeypatch, first, last, trusted, said):
    cert, key = certificate(tmp_path, first, last)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    server_errors.reach.cache_clear()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://127.0.0.1:{listener.server_address[1]}")
    if trusted:
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(cert))
    with pytest.raises(UserError, match=re.escape(said)):
        store.connect()
    listener.shutdown()
    listener.server_close()


def test_the_check_trusts_the_authority_that_is_set(tmp_path, monkeypatch):
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

    cert, key = certificate(tmp_path, -1, 9)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = http.server.HTTPServer(("127.0.0.1", 0), Healthy)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://127.0.0.1:{listener.server_address[1]}")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_SERVER_CERT_PATH"):
        connection_check.reach()
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(cert))
    assert "answers in" in connection_check.reach()
    listener.shutdown()
    listener.server_close()


def test_a_server_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match="start one with `make tracking-server`"):
        store.connect()


def test_a_clock_that_is_off_is_said(as_user, capsys, monkeypatch):
    monkeypatch.setattr(server_errors.time, "time", lambda: 1_000_000_000.0)
    as_user("mo")
    assert "clock" in capsys.readouterr().err
    with pytest.raises(UserError, match="clock"):
        connection_check.reach()


def test_secrets_are_strong_private_and_written_once(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "SECRETS", tmp_path / ".env")
    monkeypatch.setattr(start, "ROOT", tmp_path)
    path = start.write_secrets()
    values = [line.split("=", 1)[1] for line in path.read_text().splitlines() if not line.startswith("#")]
    assert len(set(values)) == len(start.NAMES)
    assert all(len(value) >= 32 for value in values)
    assert sys.platform == "win32" or path.stat().st_mode & 0o077 == 0
    with pytest.raises(UserError, match="there already"):
        start.write_secrets()


def test_what_a_client_needs_goes_into_its_env_and_leaves_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(users, "ROOT", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    (tmp_path / ".env").write_text("OURS=kept\nMLFLOW_WORKSPACE=old\n")
    users.save("ana", "blue", "a-password")
    assert (tmp_path / ".env").read_text().splitlines() == [
        "OURS=kept",
        "MLFLOW_WORKSPACE=blue",
        "MLFLOW_TRACKING_URI=https://mlflow.example.org",
        "MLFLOW_TRACKING_USERNAME=ana",
        "MLFLOW_TRACKING_PASSWORD=a-password",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "Ana B", "--team", "blue"], "NAME='Ana B'"),
        (["--name", "ana", "--team", "../x"], "TEAM='../x'"),
        (["--name", "ana", "--team", "blue", "--role", "king"], "ROLE='king' is none of viewer, member, maintainer"),
        (["--name", "ghost", "--remove"], "there is no user 'ghost'"),
    ],
)
def test_a_user_that_cannot_be_is_refused_in_one_line(address, words, said):
    with pytest.raises(UserError, match=re.escape(said)) as error:
        type_in(address, users, *words)
    assert "\n" not in str(error.value)


def test_a_role_takes_the_place_of_the_one_before_and_is_listed(address, capsys):
    for role in ("member", "viewer"):
        type_in(address, users, "--name", "ines", "--team", "blue", "--role", role)
    assert capsys.readouterr().out.count("MLFLOW_TRACKING_PASSWORD=") == 1
    type_in(address, users, "--list")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ines")]
    assert line.split()[1:3] == ["blue", "viewer"]
    type_in(address, users, "--name", "ines", "--remove")
    type_in(address, users, "--list")
    assert not any(line.startswith("ines ") for line in capsys.readouterr().out.splitlines()[1:])


def test_who_is_demoted_keeps_nothing_of_what_makers_get(address, as_user):
    with administrator(address):
        PASSWORDS["kim"] = users.add("kim", "blue", "member")
    client = as_user("kim")
    run_id = register(client, "kim-s-own")
    made = client.create_experiment("kim's own")
    with administrator(address):
        users.add("kim", "blue", "viewer")
    client = as_user("kim")
    assert client.get_run(run_id).info.run_id == run_id
    assert refused(lambda: client.create_run(made))
    assert refused(lambda: client.delete_experiment(made))
    assert refused(lambda: client.log_param(run_id, "x", 1))
    assert refused(lambda: client.set_model_version_tag("kim-s-own", "1", "x", "y"))


def wait(true, seconds=30):
    """Return once `true()` is; an address that nobody listens at is no answer yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if true():
                return
        time.sleep(0.1)
    raise AssertionError("it did not come")


def test_the_registry_calls_when_the_champion_moves_and_the_call_is_believed(
    address, as_user, version, capsys, tmp_path
):
    name, _ = version
    port = free_port()
    type_in(address, webhook, "--url", f"http://127.0.0.1:{port}/", "--team", "blue")
    secret = capsys.readouterr().out.splitlines()[-1].partition("=")[2]
    environment = {**os.environ, "MLFLOW_WEBHOOK_SECRET": secret}
    words = [sys.executable, str(params.ROOT / "examples" / "webhook.py"), "--port", str(port)]
    said = tmp_path / "said"
    with said.open("w") as log:
        process = subprocess.Popen(words, env=environment, stdout=log)
    try:
        wait(lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close() is None)
        as_user("max").set_registered_model_alias(name, "champion", "1")
        wait(lambda: said.read_text().endswith("\n"))
        told = json.loads(said.read_text())
        register(as_user("otto", "red"), "theirs")
        time.sleep(1)
        assert len(said.read_text().splitlines()) == 1, "a team hears of another team's models"
        forged = requests.post(f"http://127.0.0.1:{port}/", json=told, timeout=5)
    finally:
        process.kill()
        process.wait()
    assert (told["entity"], told["action"]) == ("model_version_alias", "created")
    assert (told["data"]["name"], told["data"]["alias"]) == (name, "champion")
    assert forged.status_code == 401


def test_a_call_that_is_old_or_changed_is_not_believed():
    body, moment = b'{"entity": "x"}', 1_800_000_000
    digest = hmac.new(b"secret", f"d1.{moment}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "X-MLflow-Timestamp": str(moment),
        "X-MLflow-Delivery-Id": "d1",
        "X-MLflow-Signature": "v1," + base64.b64encode(digest).decode(),
    }
    assert calls.check("secret", headers, body, now=moment + 10) == ""
    assert "too old" in calls.check("secret", headers, body, now=moment + 301)
    assert "signature" in calls.check("secret", headers, body + b" ", now=moment)
    assert "signature" in calls.check("another", headers, body, now=moment)
    assert "signature" in calls.check("secret", {}, body, now=moment)


def test_the_container_starts_the_server_with_the_same_settings():
    script = (params.ROOT / "deploy" / "tracking-server" / "start.sh").read_text()
    assert all(f"{name}={value}" in script for name, value in start.ENVIRONMENT.items())
    here, there = (
        dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
        for text in (start.settings(pathlib.Path(), "sqlite:///x.db"), script)
    )
    own = {"database_uri": "", "authorization_function": ""}
    assert here | own == there | own
