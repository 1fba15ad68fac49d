"""Keep what was chosen: one table of path -> the answers that keep it."""

import os
import shutil

LEVEL = int("{{ cookiecutter.maturity_level }}")
ANSWERS = {
    "problem": "{{ cookiecutter.problem }}",
    "tracking": "{{ cookiecutter.tracking }}",
    "deployment": "{{ cookiecutter.deployment }}",
    "ci": "{{ cookiecutter.ci }}",
}
RIDES, CHURN = {"problem": "ride-duration"}, {"problem": "churn"}
WEB, BATCH, STREAMING = ({"deployment": door} for door in ("web", "batch", "streaming"))
REMOTE, GITHUB = {"tracking": "remote"}, {"ci": "github"}
SOFTWARE, TRAINING = {"level": 1}, {"level": 2}
PACKAGE = "src/{{ cookiecutter.__package }}/"
OF_A_PROBLEM = f"{PACKAGE}problem tests/code/test_problem tests/data/test_sample tests/model/test_behaviour"


def each(start, names, end, *conditions):
    """A row of the table for each of several names: all conditions must hold; "level" is the least that has it."""
    needed = {answer: value for condition in conditions for answer, value in condition.items()}
    return {f"{start}{name}{end}": needed for name in names.split()}


KEEP = {
    **each("", OF_A_PROBLEM, ".ride_duration.py", RIDES),
    **each("", OF_A_PROBLEM, ".churn.py", CHURN),
    **each(PACKAGE, "web.py openapi.py templates static", "", WEB),
    **each(PACKAGE, "about batch files joblog progress rows scoring spark", ".py", BATCH),
    **each(PACKAGE, "health kafka stream", ".py", STREAMING),
    **each(PACKAGE, "check guard server teams webhook", ".py", REMOTE),
    **each(PACKAGE, "card gate moves pages pipeline registry reproduce validate", ".py", TRAINING),
    **each("", ".env.example examples/webhook.py tests/code/test_server.py tracking", "", REMOTE),
    **each("", "gunicorn.conf.py examples/predict.py tests/code/test_web.py", "", WEB),
    **each("examples/", "marketing", ".py", CHURN, WEB),
    **each("examples/", "broker produce watch", ".py", STREAMING),
    **each("", ".devcontainer .dockerignore .pre-commit-config.yaml Dockerfile compose.yaml tests", "", SOFTWARE),
    **each("tests/code/test_", "batch", ".py", BATCH),
    **each("tests/code/test_", "stream", ".py", STREAMING),
    **each("tests/", "code/test_gate code/test_registry data/test_validation", ".py", TRAINING),
    **each(".github/", "dependabot workflows/ci", ".yml", GITHUB, SOFTWARE),
    **each(".github/workflows/", "train", ".yml", GITHUB, TRAINING),
    **each(".github/workflows/", "score", ".yml", GITHUB, BATCH, TRAINING),
}

for path, conditions in KEEP.items():
    kept = all(value <= LEVEL if answer == "level" else ANSWERS[answer] == value for answer, value in conditions.items())
    if os.path.exists(path) and not kept:
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        while (path := os.path.dirname(path)) and not os.listdir(path):
            os.rmdir(path)
    elif os.path.exists(path) and path.endswith((".ride_duration.py", ".churn.py")):
        # A file whose name says for which problem it is gets the name that the project knows it by.
        os.rename(path, f"{path.split('.')[0]}.py")
