"""Keep what was chosen: one table of path -> the answers that keep it."""

import pathlib
import shutil

PACKAGE = "src/{{ cookiecutter.__package }}"
LEVEL = int("{{ cookiecutter.maturity_level }}")
ANSWERS = {
    "problem": "{{ cookiecutter.problem }}",
    "tracking": "{{ cookiecutter.tracking }}",
    "deployment": "{{ cookiecutter.deployment }}",
    "ci": "{{ cookiecutter.ci }}",
}
WEB, BATCH, STREAMING = ({"deployment": door} for door in ("web", "batch", "streaming"))
REMOTE, SOFTWARE = {"tracking": "remote"}, {"level": 1}

# A path with several conditions needs all of them; "level" is the least that has it.
PROBLEMS = {"ride_duration": {"problem": "ride-duration"}, "churn": {"problem": "churn"}}
OF_A_PROBLEM = (f"{PACKAGE}/problem", "tests/code/test_problem", "tests/data/test_sample", "tests/model/test_behaviour")
KEEP = {
    **{f"{name}.{problem}.py": kept for name in OF_A_PROBLEM for problem, kept in PROBLEMS.items()},
    "examples/marketing.py": {"problem": "churn", **WEB},
    **{f"{PACKAGE}/{name}": WEB for name in ("web.py", "openapi.py", "templates", "static")},
    **{
        f"{PACKAGE}/{name}.py": BATCH
        for name in ("about", "batch", "files", "joblog", "progress", "rows", "scoring", "spark")
    },
    **{f"{PACKAGE}/{name}.py": STREAMING for name in ("health", "kafka", "stream")},
    **{f"{PACKAGE}/{name}.py": REMOTE for name in ("check", "guard", "server", "teams", "webhook")},
    **dict.fromkeys((".env.example", "examples/webhook.py", "tracking"), REMOTE),
    "gunicorn.conf.py": WEB,
    "examples/predict.py": WEB,
    **{f"examples/{name}.py": STREAMING for name in ("broker", "produce", "watch")},
    ".devcontainer": SOFTWARE,
    ".dockerignore": SOFTWARE,
    ".pre-commit-config.yaml": SOFTWARE,
    "Dockerfile": SOFTWARE,
    "compose.yaml": SOFTWARE,
    "tests": SOFTWARE,
    "tests/code/test_web.py": WEB,
    "tests/code/test_batch.py": BATCH,
    "tests/code/test_stream.py": STREAMING,
    "tests/code/test_server.py": REMOTE,
    ".github/dependabot.yml": {"ci": "github", "level": 1},
    ".github/workflows/ci.yml": {"ci": "github", "level": 1},
    ".github/workflows/train.yml": {"ci": "github", "level": 2},
    ".github/workflows/score.yml": {"ci": "github", **BATCH, "level": 2},
    **{f"{PACKAGE}/{name}.py": {"level": 2} for name in ("card", "gate", "moves", "pipeline", "registry", "validate")},
    "tests/code/test_gate.py": {"level": 2},
    "tests/code/test_registry.py": {"level": 2},
    "tests/data/test_validation.py": {"level": 2},
}
# A file whose name says for which answer it is gets the name that the project knows it by.
RENAME = {f"{name}.{problem}.py": f"{name}.py" for name in OF_A_PROBLEM for problem in PROBLEMS}


def kept(conditions):
    """Whether the answers meet every condition."""
    return all(value <= LEVEL if name == "level" else ANSWERS[name] == value for name, value in conditions.items())


for name, conditions in KEEP.items():
    path = pathlib.Path(name)
    if path.exists() and not kept(conditions):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        for parent in path.parents[:-1]:
            if not any(parent.iterdir()):
                parent.rmdir()
    elif path.exists() and name in RENAME:
        path.rename(RENAME[name])
