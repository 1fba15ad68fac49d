"""A third problem is one file: replace `problem.py`, and every deployment and every other test works unedited."""

import json
import pathlib
import re
import shutil

import pytest
from conftest import NAMED, service, worker
from test_projects import post

FILES = pathlib.Path(__file__).parent / "problems"
OWN = ("tests/code/test_problem.py", "tests/data/test_sample.py", "tests/model/test_behaviour.py")
"""Remove the tests and examples of the project's original problem."""


def replaced(bake, problem, **answers):
    """A project whose owner has replaced the one file, and settings that fit it."""
    project = bake(**NAMED, **answers).borrow_environment()
    shutil.copy(FILES / f"{problem}.py", project.path / "src" / "night_bus" / "problem.py")
    for name in OWN:
        (project.path / name).unlink()
    params = re.sub(r"sample_rows = \d+", "sample_rows = 3000", project.text("params.toml"))
    (project.path / "params.toml").write_text(params, encoding="utf-8")
    return project


@pytest.mark.slow
@pytest.mark.parametrize("deployment", ["web", "batch", "streaming"])
@pytest.mark.parametrize("problem", ["wine", "diabetes", "mixed"])
def test_another_problem_trains_registers_and_answers_and_the_frame_s_tests_pass(bake, problem, deployment):
    project = replaced(bake, problem, deployment=deployment)
    done = project.make("pipeline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is champion" in done.stdout
    if deployment == "web":
        with service(project) as port:
            example = json.loads(
                project.run(
                    ".venv/bin/python",
                    "-c",
                    "import json; from night_bus import problem; print(json.dumps(problem.EXAMPLE))",
                ).stdout
            )
            answer = post(port, example)
        assert list(answer)[-2:] == ["model_version", "prediction_id"]
        assert len(answer) > 2
    elif deployment == "batch":
        assert project.make("data").returncode == 0
        for output in ("scored/sample.parquet", "scored/sample.csv"):
            done = project.make("score", "INPUT=data/sample.parquet", f"OUTPUT={output}")
            assert done.returncode == 0, done.stderr
            assert " 0 rejected" in done.stdout
    else:
        with worker(project) as address:
            done = project.make("produce", "COUNT=100", "BAD=0.1", "RATE=0", KAFKA_BOOTSTRAP_SERVERS=address)
            assert done.returncode == 0, done.stderr
            done = project.make("watch", "COUNT=100", KAFKA_BOOTSTRAP_SERVERS=address)
        kinds = [line.split()[0] for line in done.stdout.splitlines()]
        assert (kinds.count("predictions"), kinds.count("dead-letters")) == (90, 10)
    tests = ["-m", "pytest", "-q", "-x", "--deselect", "tests/code/test_notebook.py"]
    done = project.run(".venv/bin/python", *tests, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:]
