"""Damaged input for every part of a project that reads something, for `FUZZ_SECONDS` each (10): a longer search is

FUZZ_SECONDS=600 FUZZ_SEED=7 make test-all ARGS="-k test_fuzz -n 1 -s"
"""

import json
import os
import threading

import pytest
from conftest import ROOT, free_port, serving

pytestmark = pytest.mark.slow
PARTS = {
    "requests": {"deployment": "web"},
    "wire": {"deployment": "web"},
    "events": {"deployment": "streaming"},
    "scored_files": {"deployment": "batch"},
    "training_files": {"deployment": "web"},
    "files": {"deployment": "web"},
    "settings": {"deployment": "web", "problem": "churn"},
    "logged": {"deployment": "web", "maturity_level": "4"},
    "commands": {"deployment": "web", "maturity_level": "4"},
}


@pytest.mark.parametrize("part", PARTS)
def test_damaged_input_gets_an_answer_or_one_line(part, bake):
    project = bake(**{"maturity_level": "2", **PARTS[part]}).borrow_environment()
    assert project.make("train").returncode == 0
    seconds, seed = os.environ.get("FUZZ_SECONDS", "10"), os.environ.get("FUZZ_SEED", "1")

    def tried(**more):
        python = str(project.path / ".venv" / "bin" / "python")
        done = project.run(
            python, str(ROOT / "tests" / "fuzz.py"), part, seconds, seed, timeout=float(seconds) + 200, **more
        )
        assert done.returncode == 0, done.stderr[-2_000:]
        return json.loads(done.stdout.splitlines()[-1])

    if part == "wire":
        port = free_port()
        with serving(project, port, MODEL_URI="model") as process:
            # The service warns of each damaged request: a pipe that nobody reads would stop it.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            told = tried(FUZZ_PORT=str(port))
    else:
        told = tried()
    print(part, told["tried"], told["outcomes"])
    assert told["tried"] > 0
    assert not told["found"], "\n\n".join(f"{each['input'][:2_000]}\n{each['error']}" for each in told["found"][:5])
