"""Ten thousand malformed bodies, and whatever schemathesis makes of the service's own description: never a 5xx."""

import http.client
import json
import random

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
    """Bodies that are almost right: bytes flipped, cut, doubled, or a value replaced."""
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
