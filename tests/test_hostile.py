"""Ten thousand malformed bodies, and the requests that schemathesis generates from the OpenAPI document: never a 5xx."""

import contextlib
import http.client
import json
import random
import socket
import threading
import time
import urllib.request

import pytest
from conftest import ROOT, Project, service
from cookiecutter.main import cookiecutter

pytestmark = pytest.mark.slow
GOOD = b'{"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6, "lpep_pickup_datetime": "2024-01-10T08:30:00"}'
VALUES = [
    "1e400",
    "-0",
    "NaN",
    '"\\ud800"',
    "{}",
    "[]",
    "null",
    "true",
    '"' + "x" * 500 + '"',
    "9" * 400,
    '"9999-99-99"',
    "1e-320",
]


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """The port of a service with a trained model."""
    folder = tmp_path_factory.mktemp("hostile")
    path = cookiecutter(
        str(ROOT), no_input=True, default_config=True, output_dir=str(folder), extra_context={"maturity_level": "1"}
    )
    project = Project(folder / path.rsplit("/", 1)[-1]).borrow_environment()
    assert project.make("train").returncode == 0
    with service(project) as running:
        yield running


def bodies(count):
    """Nearly valid bodies: bytes flipped, cut or doubled, or a value replaced."""
    rng = random.Random(9696)
    for _ in range(count):
        body = bytearray(GOOD)
        kind = rng.randrange(5)
        if kind == 0:
            for _ in range(rng.randrange(1, 9)):
                body[rng.randrange(len(body))] = rng.randrange(256)
        elif kind == 1:
            del body[rng.randrange(len(body)) :]
        elif kind == 2:
            body = body * rng.randrange(2, 30)
        elif kind == 3:
            record = dict.fromkeys(json.loads(GOOD), "@")
            text = json.dumps(record)
            while '"@"' in text:
                text = text.replace('"@"', rng.choice([*VALUES, "74", "2.6"]), 1)
            body = bytearray(text.encode())
        else:
            body = bytearray(b"[" * rng.randrange(1, 3000) + GOOD)
        yield bytes(body)


def test_ten_thousand_malformed_bodies_get_no_server_error(port):
    seen = {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for body in bodies(10_000):
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        json.loads(content)
        assert b"Traceback" not in content
        seen[response.status] = seen.get(response.status, 0) + 1
    print(seen)
    assert set(seen) <= {200, 400, 413, 422}
    assert seen[400] > 1_000
    assert seen[422] > 1_000


def test_no_form_and_no_link_gets_a_server_error(port):
    rng, record, seen = random.Random(9697), json.loads(GOOD), set()
    values = [
        *VALUES,
        "%00",
        "%ed%a0%80",
        "%ff",
        "<script>",
        "1e3",
        "0001-01-01T00:00",
        "2024-01-10T08:30Z",
        "",
        "&",
        "=",
    ]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for number in range(1_000):
        named = {**record, rng.choice(list(record)): rng.choice(values), rng.choice(values): "1"}
        form = "&".join(f"{name}={value}" for name, value in named.items()).replace(" ", "+").encode("ascii", "replace")
        head = {"Content-Type": "application/x-www-form-urlencoded"}
        link = f"/?{form[:2_000].decode()}" if number % 4 == 0 else "/"
        connection.request("POST" if number % 4 else "GET", link, form if number % 4 else None, head)
        response = connection.getresponse()
        page = response.read()
        assert b"Traceback" not in page
        assert b"<script>" not in page
        seen.add(response.status)
    assert seen == {200, 422}


def test_schemathesis_finds_the_description_true(port):
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    times = st.datetimes().map(lambda time: time.isoformat())
    schemathesis.openapi.format("date-time-local", times)
    base = f"http://127.0.0.1:{port}"
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json")

    for operation in schema.get_all_operations():

        @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.ok().as_strategy())
        def conforms(case):
            case.call_and_validate(base_url=base)

        conforms()


class SlowClient(threading.Thread):
    """Sends a byte of a header or a body every half second, and reconnects when the connection is closed."""

    def __init__(self, port, in_body, until):
        super().__init__(daemon=True)
        self.port, self.in_body, self.until, self.told = port, in_body, until, []

    def run(self):
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        while time.monotonic() < self.until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                connection.sendall(head + (b"Content-Length: 500\r\n\r\n{" if self.in_body else b"X-Slow: "))
                connection.settimeout(0.5)
                began, answer = time.monotonic(), b""
                while not answer and time.monotonic() < self.until:
                    connection.sendall(b"1")
                    with contextlib.suppress(TimeoutError):
                        answer = connection.recv(100)
                        self.told.append((answer.split(b"\r\n")[0], time.monotonic() - began))


def test_a_hundred_slow_clients_keep_nobody_waiting(port):
    """For a minute, fifty of each kind hold connections open; the service has one worker of four threads."""
    until = time.monotonic() + 60
    slow = [SlowClient(port, bool(number % 2), until) for number in range(100)]
    for each in slow:
        each.start()
    waited = []
    while time.monotonic() < until - 1:
        for path, body in (("/predict", GOOD), ("/livez", None)):
            began = time.monotonic()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=5) as answer:
                assert answer.status == 200
            waited.append(time.monotonic() - began)
        time.sleep(0.02)
    for each in slow:
        each.join(5)
    told = [answer for each in slow for answer in each.told]
    assert len(waited) > 1_000
    assert max(waited) < 1
    assert {line for line, _ in told} == {b"HTTP/1.1 408 Request Timeout"}
    assert len(told) >= 400
    assert max(seconds for _, seconds in told) < 13


def test_a_client_that_does_not_take_its_answers_holds_no_thread_for_long(port):
    """Twelve connections ask for large answers, again and again, and read none of them."""
    body = b"[" + b", ".join([GOOD] * 1_000) + b"]"
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    deaf = [socket.socket() for _ in range(12)]
    for each in deaf:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        each.connect(("127.0.0.1", port))
        each.settimeout(0.2)
    for each in deaf:
        with contextlib.suppress(OSError):
            for _ in range(50):
                each.sendall(head.encode() + body)
    began = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=40) as answer:
        assert answer.status == 200
    assert time.monotonic() - began < 35
    for each in deaf:
        each.close()
