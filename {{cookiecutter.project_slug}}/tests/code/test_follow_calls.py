"""The registry's webhook makes a service look at once; without one it asks every few seconds."""

import base64
import hashlib
import hmac
import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from {{ cookiecutter.__package }}.model import bundle, following, live
from {{ cookiecutter.__package }}.registry import versions
from {{ cookiecutter.__package }}.tracking import conventions
from {{ cookiecutter.__package }}.tracking_server import follow_calls


def call(port, secret):
    """Post what MLflow posts, signed as MLflow signs it; gives the status."""
    body, moment = json.dumps({"entity": "model_version_alias", "action": "created"}).encode(), str(int(time.time()))
    digest = base64.b64encode(
        hmac.new(secret.encode(), f"d1.{moment}.".encode() + body, hashlib.sha256).digest()
    ).decode()
    headers = {"X-MLflow-Timestamp": moment, "X-MLflow-Delivery-Id": "d1", "X-MLflow-Signature": f"v1,{digest}"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/", body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def version(state):
    return bundle.read(Path(live.read(state).champion)).version


@pytest.fixture
def followed(trained, tmp_path, monkeypatch):
    """The port and the file of a process that would ask again after ten minutes; version 1 is champion of two."""
    monkeypatch.setattr(conventions, "model_name", lambda: f"model-{tmp_path.name}")
    monkeypatch.setenv("MODEL_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        versions.register(trained.model_uri, trained.run_id, "a card")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("FOLLOW_LISTEN", f"127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_WEBHOOK_SECRET", "a secret")
    monkeypatch.setattr(following, "ASK_SECONDS", 600)
    uri, state = f"models:/{conventions.model_name()}@champion", tmp_path / "live.json"
    monkeypatch.setattr(sys, "argv", ["follow", "--uri", uri, "--state", str(state)])
    threading.Thread(target=follow_calls.main, daemon=True).start()
    until(lambda: state.is_file() and version(state) == "1")
    return port, state


def test_a_signed_call_is_followed_at_once_and_another_one_is_not(followed):
    port, state = followed
    versions.promote("2", "it is better")
    assert call(port, "another secret") == 401
    time.sleep(1)
    assert version(state) == "1"
    assert call(port, "a secret") == 204
    until(lambda: version(state) == "2", 10)


def test_who_cannot_be_called_asks_all_the_same(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(following, "main", lambda called: asked.append(called(threading.Event())))
    monkeypatch.delenv("MLFLOW_WEBHOOK_SECRET", raising=False)
    for listen, told in (("127.0.0.1:much", "invalid literal"), ("127.0.0.1:9698", "MLFLOW_WEBHOOK_SECRET")):
        monkeypatch.setenv("FOLLOW_LISTEN", listen)
        follow_calls.main()
        assert told in capsys.readouterr().err
    assert len(asked) == 2
