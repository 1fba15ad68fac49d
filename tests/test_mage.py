"""The pipelines that Mage runs: what their files say, each run headless and by a server, and what a failure leaves.

Mage is installed once, by the projects' own `make`, into `build/`; where its packages cannot be had, the slow runs are skipped.
"""

import ast
import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import textwrap
import tomllib
import urllib.error
import urllib.request

import pytest
import yaml
from conftest import (
    COMBINATIONS,
    DEPLOYMENTS,
    MYPY,
    NAMED,
    ROOT,
    Project,
    answers_at,
    by_speed,
    free_port,
    git,
    ident,
    wait,
)
from test_bakes import OF_MAGE, WITH_MAGE
from test_delivery import CLUSTER

MAGE = [each for each in COMBINATIONS if (each["ci"], each["orchestrator"]) == ("github", "mage")]
FOLDER = "orchestration/mage/pipelines/"
PIPELINES = {"2": {"data_preparation", "training"}}
PIPELINES["3"] = PIPELINES["2"] | {"deployment"}
PIPELINES["4"] = PIPELINES["3"] | {"monitoring", "retraining"}
TIMES = {"weekly": ["17 4 * * 1"], "daily": ["47 5 * * *", "7 6 * * *"], "rounds": ["*/15 * * * *"]}


def pipelines(project):
    """What the file of each pipeline says, by name."""
    names = [name for name in project.files() if re.fullmatch(rf"{FOLDER}\w+/metadata\.yaml", name)]
    return {name.split("/")[3]: yaml.safe_load(project.text(name)) for name in names}


@pytest.mark.parametrize("answers", by_speed(MAGE))
def test_each_pipeline_runs_commands_of_the_project_in_an_order_that_works(baked, answers):
    project, level = baked(**answers), answers["maturity_level"]
    found = pipelines(project)
    assert set(found) == PIPELINES[level] | ({"inference"} if answers["deployment"] == "batch" else set())
    commands = tomllib.loads(project.text("pyproject.toml"))["tool"]["mlops-template"]["commands"]
    for name, pipeline in found.items():
        assert pipeline["uuid"] == pipeline["name"] == name
        assert pipeline["concurrency_config"] == {"pipeline_run_limit_all_triggers": 1}
        done, variables = [], set(pipeline.get("variables", {}))
        for block in pipeline["blocks"]:
            assert set(block["upstream_blocks"]) <= set(done), "the blocks before come first in the file"
            done.append(block["uuid"])
            downstream = [each["uuid"] for each in pipeline["blocks"] if block["uuid"] in each["upstream_blocks"]]
            assert block["downstream_blocks"] == downstream
            assert (block["type"], block["configuration"]["file_path"]) == ("custom", "custom/command.py")
            assert 60 <= block["configuration"]["timeout"] <= 21_600
            words = shlex.split(block["configuration"]["command"])
            if words[0] == "-m":
                assert words[:2] == ["-m", "night_bus"]
                assert words[2] in commands
            else:
                assert words[0] in project.files()
            used = set(re.findall(r"\{(\w+)", block["configuration"]["command"]))
            assert used <= variables | set(block["upstream_blocks"])


@pytest.mark.parametrize("answers", by_speed(each for each in MAGE if each["maturity_level"] == "4"))
def test_triggers_have_no_token_and_nothing_that_mage_would_add(baked, answers):
    project = baked(**answers)
    for name in [name for name in project.files() if name.endswith("/triggers.yaml")]:
        for trigger in yaml.safe_load(project.text(name))["triggers"]:
            assert trigger["status"] == "active"
            # Without it Mage notes the time in the file, which git tracks.
            assert trigger["last_enabled_at"] == trigger["start_time"]
            assert trigger["settings"]["timeout"] >= 3600
            assert "token" not in trigger
            if trigger["schedule_type"] == "time":
                assert trigger["schedule_interval"] in TIMES[trigger["name"]]
            else:
                assert (trigger["schedule_type"], trigger["schedule_interval"]) == ("api", None)
    settings = yaml.safe_load(project.text("orchestration/mage/metadata.yaml"))
    assert settings["help_improve_mage"] is False
    assert settings["project_uuid"] == "night-bus"


def test_what_mage_runs_in_is_pinned_with_hashes_and_the_image_has_the_python_that_it_is_for(baked):
    project = baked(**MAGE[0])
    lock = project.text("orchestration/mage/requirements.txt")
    pins = re.findall(r"^(\S+)==\S+.*\\$", lock, flags=re.M)
    assert len(pins) > 150
    assert len(pins) == len(re.findall(r"^\S+==", lock, flags=re.M))
    assert "mage-ai==" in lock
    assert "://" not in lock
    assert "FROM ${BASE}" in project.text("orchestration/mage/Dockerfile")
    assert re.search(
        r"^ARG BASE=python:3\.11\.\d+-slim-bookworm", project.text("orchestration/mage/Dockerfile"), flags=re.M
    )
    assert "(3, 11)" in project.text("Makefile")


@pytest.mark.parametrize("answers", WITH_MAGE, ids=ident)
def test_its_python_is_clean(baked, unless_known, answers):
    """The source that Mage does not change is looked at without it; its own is looked at here."""
    project = baked(**answers)
    own = [name for name in project.files() if re.fullmatch(OF_MAGE, name) and name.endswith(".py")]
    assert len(own) == 4
    texts = [project.text(name) for name in own]
    for words in ("check", "format --check"):

        def clean(words=words):
            done = project.run("python", "-m", "ruff", *words.split(), ".")
            assert done.returncode == 0, done.stdout + done.stderr

        unless_known(f"ruff {words} mage", [texts, project.text("pyproject.toml")], clean)

    def used():
        words = ["-m", "vulture", "src/night_bus/tools/candidates.py", "orchestration", "--min-confidence", "80"]
        done = project.run(f"{ROOT}/.venv/bin/python", *words)
        assert done.returncode == 0, done.stdout

    unless_known("vulture mage", texts, used)
    for text in texts:
        ast.parse(text)


@pytest.mark.slow
@pytest.mark.parametrize("tracking", ["local", "remote"])
def test_its_types_and_imports_are_clean(bake, tracking):
    project = bake(**NAMED, tracking=tracking, maturity_level="4", orchestrator="mage").borrow_environment()
    done = project.make("lint", MYPY_CACHE_DIR=MYPY)
    assert done.returncode == 0, done.stdout + done.stderr


AWAY = r"Could not find a version|Connection ?error|Max retries|Temporary failure"
"""What pip says where its index cannot be reached or has no such package."""


@pytest.fixture(scope="session")
def mage(baked, tmp_path_factory):
    """The folder of Mage's environment, which is installed once by the projects' own make."""
    fcntl = pytest.importorskip("fcntl")
    project = baked(**MAGE[0])
    digest = hashlib.sha256(project.text("orchestration/mage/requirements.txt").encode()).hexdigest()[:12]
    place = ROOT / "build" / f"mage-{digest}"
    with (ROOT / "build" / "mage.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".ready").exists():
            other = Project(tmp_path_factory.mktemp("mage") / "night-bus")
            shutil.copytree(project.path, other.path)
            done = other.borrow_environment().make(".mage/venv/.ready", timeout=1200)
            if done.returncode and re.search(AWAY, done.stdout + done.stderr, flags=re.I):
                pytest.skip(f"the packages of Mage cannot be had here: {done.stdout[-300:]}{done.stderr[-300:]}")
            assert done.returncode == 0, done.stdout + done.stderr
            shutil.rmtree(place, ignore_errors=True)
            shutil.move(other.path / ".mage" / "venv", place)
    return place


@pytest.fixture
def project(bake, mage):
    """Bake with Mage, with all packages, in a repository of its own."""

    def made(**answers):
        project = bake(**NAMED, orchestrator="mage", **answers).borrow_environment()
        (project.path / ".mage").mkdir()
        (project.path / ".mage" / "venv").symlink_to(mage, target_is_directory=True)
        os.utime(mage / ".ready")
        settings = project.path / "params.toml"
        settings.write_text(re.sub(r"^n_estimators = \d+", "n_estimators = 20", settings.read_text(), flags=re.M))
        git(project.path, "init", "-q", "-b", "main")
        git(project.path, "add", "-A")
        git(project.path, "commit", "-qm", "Made")
        return project

    return made


def run(project, pipeline, *words, **options):
    """`make mage-run` in a project; gives the finished process."""
    return project.make("mage-run", f"PIPELINE={pipeline}", *words, timeout=900, **options)


def metrics_of(project, version):
    """A version's metrics, and what its run says of its origin."""
    told = project.make("trace", f"VERSION={version}").stdout
    return dict(re.findall(r"^(\S+) +(.+)$", told, flags=re.M))


def unchanged(project):
    """Whether git sees the project as it was committed, apart from what a command of the project itself wrote."""
    words = ["git", "status", "--porcelain", ".", ":!data.lock"]
    return subprocess.run(words, cwd=project.path, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_registry_shows_what_a_make_pipeline_would(project, deployment):
    level = {"web": "2", "batch": "3", "streaming": "2"}[deployment]
    ours, theirs = (project(deployment=deployment, maturity_level=level) for _ in range(2))
    readme = ours.text("README.md").partition("## Orchestration")[2].partition("\n## ")[0]
    typed = re.findall(r"^make (\S+)(.*?)(?: +#.*)?$", readme.partition("```sh")[2].partition("```")[0], flags=re.M)
    assert [words for words, _ in typed] == ["mage-run", "mage"]
    done = ours.make(*typed[0][0].split(), *typed[0][1].split(), timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    for block in ("get_data", "linear", "xgboost", "register"):
        assert f"[{block}]" in done.stdout
    assert "xgboost is the best" in done.stdout
    assert theirs.make("pipeline").returncode == 0
    mine, known = metrics_of(ours, 1), metrics_of(theirs, 1)
    assert mine["aliases"] == known["aliases"] == "champion"
    same = ("data_fingerprint", "lock_fingerprint", "rmse", "r2", "mae")
    assert {name: mine.get(name) for name in same} == {name: known.get(name) for name in same}
    assert (mine["trigger"], mine["git_dirty"]) == ("mage training", "false")
    assert unchanged(ours) == ""


@pytest.mark.slow
def test_a_block_that_fails_ends_the_run_with_its_reason_and_registers_nothing(project):
    project = project()
    done = run(project, "training", 'VARIABLES="data=no such file.csv"')
    assert done.returncode != 0
    reason = [line for line in done.stderr.splitlines() if line.startswith("error: ")][-1]
    assert reason.startswith("error: get_data ended with 1: no such file.csv does not exist")
    assert "attempt 3 of 3" in done.stdout, "it was tried three times, as the block's file says"
    assert "[register]" not in done.stdout
    assert "no version is registered yet" in project.make("registry").stdout
    done = run(project, "trainin")
    assert "error: there is no pipeline 'trainin': choose PIPELINE= from data_preparation" in done.stderr
    done = run(project, "training", "VARIABLES=dat=new.parquet")
    assert "error: training has no variable dat; its variables: data" in done.stderr
    done = run(project, "training", "VARIABLES=data=new rides.csv")
    assert "error: 'rides.csv' is not of the form name=value" in done.stderr


@pytest.mark.slow
def test_a_block_is_stopped_at_its_time_limit(project):
    project = project()
    file = project.path / FOLDER / "data_preparation" / "metadata.yaml"
    slow = file.read_text().replace("-m night_bus data\n", '-c "import time; print(1, flush=True); time.sleep(600)"\n')
    file.write_text(slow.replace("timeout: 1800", "timeout: 2").replace("retries: 2", "retries: 0"))
    done = run(project, "data_preparation")
    assert done.returncode != 0
    assert "get_data was stopped after 2 s, its time limit" in done.stderr


@pytest.mark.slow
def test_every_other_pipeline_runs_too(project, tmp_path):
    project = project(deployment="batch", maturity_level="4")
    for pipeline in ("data_preparation", "training", "inference"):
        done = run(project, pipeline)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "rows scored" in done.stdout
    done = run(project, "inference")
    assert "1 up to date" in done.stdout, "what was scored is not scored again"
    done = run(project, "monitoring")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wait for their truth" in done.stdout
    done = run(project, "retraining", 'VARIABLES=reason="new zones"')
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained again (by hand: new zones): version 2" in done.stdout
    done = run(project, "deployment")
    assert "error: deploy ended with 1: IMAGE='' names no image by its digest" in done.stderr
    if not shutil.which("kubectl"):
        return
    state, script = tmp_path / "cluster.json", tmp_path / "kubectl"
    state.write_text(json.dumps({"calls": [], "applied": [], "says": "model_version=1"}))
    python = project.path / ".venv" / "bin" / "python"
    known = {"python": python, "state": state, "kubectl": shutil.which("kubectl")}
    script.write_text(textwrap.dedent(CLUSTER).strip().format(**known))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    path = f"{tmp_path}:{project.environment()['PATH']}"
    done = run(project, "deployment", f"VARIABLES=image=registry.example.org/night-bus@sha256:{7:064d}", PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "staging scores with model version 1" in done.stdout


FLAKY = """
#!/bin/sh
# The project's Python, for commands that are not broken, or were broken once; notes what was called.
cd "$(dirname "$0")"
echo "$*" >> .mage/calls
for broken in once broken; do
  if test -s .mage/$broken && echo "$*" | grep -q -F -f .mage/$broken; then
    rm -f .mage/once; echo "error: the network is away" >&2; exit 1
  fi
done
exec .venv/bin/python "$@"
"""


class Server:
    """A running Mage, asked as its page asks it."""

    def __init__(self, address, secrets):
        """Log in as the owner."""
        self.address, self.headers = address, {"X-API-KEY": "zkWlN0PkIKSN0C11CfUHUj84OT5XOJ6tDZ6bDRO2"}
        login = {"email": "owner@localhost", "password": secrets["DEFAULT_OWNER_PASSWORD"]}
        self.headers["Cookie"] = "oauth_token=" + self.ask("sessions", "POST", session=login)["session"]["token"]

    def ask(self, path, method="GET", **content):
        """The answer to a request."""
        body, headers = (
            json.dumps(content).encode() if content else None,
            {**self.headers, "Content-Type": "application/json"},
        )
        asked = urllib.request.Request(f"{self.address}/api/{path}", body, headers, method=method)
        return json.load(urllib.request.urlopen(asked, timeout=60))

    def runs(self, pipeline):
        """The runs of a pipeline, oldest first."""
        # A busy Mage answers now and then with an error, which the next question does not get.
        found = self.ask(f"pipeline_runs?pipeline_uuid={pipeline}").get("pipeline_runs", [])
        return sorted(found, key=lambda each: each["id"])

    def ended(self, pipeline, number=0):
        """Wait until a run of a pipeline has ended; gives the run."""
        over = ("completed", "failed", "cancelled")
        wait(lambda: len(self.runs(pipeline)) > number and self.runs(pipeline)[number]["status"] in over, 600)
        return self.runs(pipeline)[number]


@contextlib.contextmanager
def serving(project, **environment):
    """`make mage` in a project, whose commands run with `flaky`; gives the server and the address of a pipeline's trigger."""
    (project.path / "flaky").write_text(FLAKY.strip() + "\n")
    (project.path / "flaky").chmod(0o755)
    port, log = free_port(), project.path / ".mage" / "server.log"
    own = project.make_command
    project.make_command = lambda *words: ("sh", "-c", f'exec "$@" > "{log}" 2>&1', "sh", *own(*words))
    address = f"http://127.0.0.1:{port}"
    up = f"{address}/api/status"
    with project.running("mage", f"MAGE_PORT={port}", "RUN=flaky", until=lambda _: answers_at(up), **environment):
        project.make_command = own
        secrets = dict(line.split("=", 1) for line in (project.path / ".mage" / "secrets.env").read_text().splitlines())
        told = dict(re.findall(r"^(\w+): POST (\S+)<MAGE_TRIGGER_TOKEN>$", log.read_text(), flags=re.M))
        found = []

        def logged_in():
            # The owner is made a few seconds after the first answer.
            with contextlib.suppress(KeyError, urllib.error.URLError):
                found.append(Server(address, secrets))
            return found

        wait(logged_in, 60)
        yield found[0], told, secrets


def call(address, content):
    """Call a trigger as a program does that posts JSON; gives the run that it started."""
    asked = urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(asked, timeout=60))


@pytest.mark.slow
def test_a_server_makes_up_for_a_schedule_tries_again_goes_on_and_is_called_by_an_alarm(project, postgres):
    project = project(deployment="batch", maturity_level="4")
    for name in ("inference", "monitoring", "retraining"):
        file = project.path / FOLDER / name / "triggers.yaml"
        off = "schedule_type: time", "status: active", "status: inactive"
        parts = re.split(r"(?=^- name)", file.read_text(), flags=re.M)
        file.write_text("".join(part.replace(*off[1:]) if off[0] in part else part for part in parts))
    git(project.path, "commit", "-qam", "Only training has a schedule")
    broken = project.path / ".mage" / "broken"
    broken.write_text("candidates register\n")
    (project.path / ".mage" / "once").write_text("candidates prepare\n")

    def called():
        """How often each command was called: of get_data, linear, xgboost and register."""
        text = (project.path / ".mage" / "calls").read_text()
        return [text.count(each) for each in ("candidates prepare", "=linear", "=xgboost", "candidates register")]

    database = postgres.replace("postgresql://", "postgresql+psycopg2://", 1)
    with serving(project, MAGE_DATABASE_CONNECTION_URL=database) as (mage, triggers, secrets):
        assert set(triggers) == {"deployment", "retraining"}
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{mage.address}/api/pipelines", timeout=60)
        assert refused.value.code == 401

        failed = mage.ended("training")
        assert failed["status"] == "failed"
        assert called() == [2, 1, 1, 1], "get_data was tried again, as its file says"
        logs = "".join(path.read_text() for path in (project.path / ".mage").rglob("register.log"))
        assert "register ended with 1: the network is away" in logs
        broken.write_text("")
        mage.ask(f"pipeline_runs/{failed['id']}", "PUT", pipeline_run={"pipeline_run_action": "retry_blocks"})
        wait(lambda: [each["status"] for each in mage.runs("training")[:1]] == ["completed"], 600)
        assert called() == [2, 1, 1, 2], "what had ended was not repeated"
        assert metrics_of(project, 1)["trigger"] == "mage training"

        # Mage refuses a wrong token with the status 200, and an error in its answer.
        refused = call(triggers["retraining"] + "0" * 32, {"text": "x"})
        assert refused["error"]["exception"].startswith("Invalid token")
        assert mage.runs("retraining") == []
        # What ALERT_WEBHOOK posts, and a call with a reason: the second run waits for the first.
        token = secrets["MAGE_TRIGGER_TOKEN"]
        call(triggers["retraining"] + token, {"text": "drift", "causes": {"drift": "distance 0.3, limit 0.1"}})
        call(triggers["retraining"] + token, {"pipeline_run": {"variables": {"reason": "new zones; rm -rf /"}}})
        second, first = mage.ended("retraining", 1), mage.ended("retraining", 0)
        assert [first["status"], second["status"]] == ["completed", "completed"]
        assert first["completed_at"] <= second["started_at"]
        assert "by hand: new zones; rm -rf /" in project.make("log").stdout
        assert metrics_of(project, 2)["trigger"].startswith("operate ")
    assert unchanged(project) == "?? flaky\n"
    assert (project.path / ".mage" / "secrets.env").stat().st_mode & 0o077 == 0
