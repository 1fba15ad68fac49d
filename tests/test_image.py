"""The image, built from the generated Dockerfile without a container engine, answers as a user without rights.

The published Python image cannot be reached from everywhere, so a base of Debian's own packages stands in for it
(`--build-arg BASE=`); everything else of the Dockerfile is built as it is. Needs buildah, debootstrap and root.
"""

import base64
import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from conftest import ROOT, Project, answers_at, free_port, git, listens, wait
from test_projects import post
from test_remote import team_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("alone"),
    pytest.mark.skipif(
        not (shutil.which("buildah") and shutil.which("debootstrap") and hasattr(os, "getuid") and os.getuid() == 0),
        reason="needs buildah, debootstrap and root: apt-get install buildah debootstrap",
    ),
]
BASE = "localhost/python-of-debian"
BUILDAH = [
    "buildah",
    "--storage-driver",
    "vfs",
    "--root",
    str(ROOT / "build" / "containers"),
    "--runroot",
    "/run/mlops-template",
]


def sh(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, **options)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def base(alone, tmp_path_factory):
    """An image with Debian's Python, under the paths of the published Python image."""
    if subprocess.run([*BUILDAH, "inspect", "--type", "image", BASE], capture_output=True).returncode == 0:
        return BASE
    folder = tmp_path_factory.mktemp("debian")
    # A CI that mounts its temporary folders without devices can still unpack the packages.
    sh(
        "debootstrap",
        "--variant=minbase",
        "--include=python3,python3-venv,python-is-python3,ca-certificates",
        "bookworm",
        str(folder / "root"),
    )
    container = sh(*BUILDAH, "from", "scratch")
    sh(*BUILDAH, "copy", "--quiet", container, str(folder / "root"), "/")
    sh(*BUILDAH, "commit", "--quiet", container, BASE)
    sh(*BUILDAH, "rm", container)
    return BASE


@contextlib.contextmanager
def built(project, base, dockerfile="Dockerfile", *target):
    """Build an image; returns its configuration and the root of a container's file system."""
    # pip inside the build uses this machine's certificates and settings.
    settings = [f"--env={name}={value}" for name, value in os.environ.items() if name in ("PIP_INDEX_URL", "PIP_CERT")]
    mounts, tag = ["--volume=/etc/ssl/certs:/etc/ssl/certs:ro"], "localhost/under-test"
    sh(
        *BUILDAH, "bud", "--isolation", "chroot", "--network", "host", "--format", "docker", *mounts, *settings,
        "--build-arg", f"BASE={base}", "--file", dockerfile, *target, "--tag", tag, ".", cwd=project.path,
    )  # fmt: skip
    about = json.loads(sh(*BUILDAH, "inspect", "--type", "image", tag))["Docker"]["config"]
    container = sh(*BUILDAH, "from", tag)
    try:
        yield about, sh(*BUILDAH, "mount", container)
    finally:
        sh(*BUILDAH, "umount", container)
        sh(*BUILDAH, "rm", container)


@contextlib.contextmanager
def image(project, base):
    """Build the project's image with a trained model in it; gives the root of a container's file system."""
    assert project.make("train").returncode == 0
    assert project.run(".venv/bin/python", "-m", "ride_duration", "source", ".cache/models/image").returncode == 0
    with built(project, base) as (about, root):
        assert about["User"] == "10001"
        assert "Healthcheck" in about
        present = sh("ls", *[str(path) for path in pathlib.Path(root).glob("app/.venv/lib/python3*/site-packages")])
        assert "onnxruntime" in present
        assert "mlflow" not in present
        yield root


def inside(root, data, *command, program="", user=10001, at="/tmp/data", work="/app", **variables):
    """The command line of a program in the container: no rights, a read-only root, `data` as /tmp/data or `at` another place."""
    given = " ".join(f"{name}={value}" for name, value in ({"HOME": "/", "PYTHONPATH": "/app/src"} | variables).items())
    program = program or f"exec python -m ride_duration {' '.join(command)}"
    script = (
        f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && "
        f"mount -t proc proc {root}/proc && mount -t tmpfs tmpfs {root}/tmp && mount -t tmpfs tmpfs {root}/dev && "
        f"mkdir -p {root}{at} && mount --bind {data} {root}{at} && "
        f"mknod -m 666 {root}/dev/null c 1 3 && mknod -m 666 {root}/dev/urandom c 1 9 && mkdir -m 1777 {root}/dev/shm && "
        f"exec chroot --userspec={user}:{user} {root} /usr/bin/env -i PATH=/app/.venv/bin:/usr/bin:/bin "
        f"PYTHONDONTWRITEBYTECODE=1 MODEL_URI=/app/model {given} sh -c "
        f'"cd {work} && ! touch /opt/x 2>/dev/null && {program}"'
    )
    return ["unshare", "--mount", "sh", "-c", script]


@pytest.fixture
def data(tmp_path):
    """A folder that the container's user may write to."""
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o777)
    for parent in folder.parents:
        if os.access(parent, os.W_OK) and parent.stat().st_uid == os.getuid() and parent != pathlib.Path("/"):
            parent.chmod(parent.stat().st_mode | 0o111)
    return folder


@contextlib.contextmanager
def started(command, up, user=10001):
    """A server in the container, for the length of a with block."""
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for _ in range(300):
            assert server.poll() is None, server.stdout.read()
            with contextlib.suppress(OSError):
                if answers_at(up):
                    break
            time.sleep(0.2)
        assert f"Uid:\t{user}" in pathlib.Path(f"/proc/{server.pid}/status").read_text()
        yield server
    finally:
        server.terminate()
        server.wait(30)


def test_the_service_answers_as_a_user_without_rights_on_a_read_only_root(bake, base, data):
    project = bake(maturity_level="1").borrow_environment()
    port = free_port()
    with image(project, base) as root:
        command = inside(root, data, "web", "--host", "127.0.0.1", "--port", str(port))
        with started(command, f"http://127.0.0.1:{port}/readyz"):
            answer = post(port, {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6})
    assert 1 < answer["duration"] < 60


def test_the_job_scores_a_file_as_a_user_without_rights_on_a_read_only_root(bake, base, data):
    project = bake(maturity_level="1", deployment="batch").borrow_environment()
    (data / "rides.csv").write_text("PULocationID,DOLocationID,trip_distance\n74,166,2.6\n74,166,-1\n")
    words = ["batch", "--input", "/tmp/data/rides.csv", "--output", "/tmp/data/scored.csv", "--max-rejected", "1"]
    with image(project, base) as root:
        done = subprocess.run(inside(root, data, *words), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "this job is not logged" in done.stderr
    assert len((data / "scored.csv").read_text().splitlines()) == 2


def test_the_worker_joins_its_group_as_a_user_without_rights_on_a_read_only_root(bake, base, data):
    project = bake(maturity_level="1", deployment="streaming").borrow_environment()
    broker, port = free_port(), free_port()
    address = f"127.0.0.1:{broker}"
    with image(project, base) as root, project.running("broker", f"PORT={broker}", until=lambda _: listens(broker)):
        command = inside(root, data, "stream", "--port", str(port), KAFKA_BOOTSTRAP_SERVERS=address)
        with started(command, f"http://127.0.0.1:{port}/readyz") as worker:
            done = project.make("produce", "COUNT=50", "RATE=0", KAFKA_BOOTSTRAP_SERVERS=address)
            assert done.returncode == 0, done.stderr
            done = project.make("watch", "COUNT=50", KAFKA_BOOTSTRAP_SERVERS=address)
            assert done.stdout.count("predictions") == 50
            worker.terminate()
            assert worker.wait(30) == 0


def test_the_tracking_server_s_image_answers_as_a_user_without_rights_on_a_read_only_root(bake, base, data):
    project = bake(maturity_level="1", tracking="remote").borrow_environment()
    variables = {
        "TRACKING_DB": "sqlite:////tmp/data/mlflow.db",
        "TRACKING_ARTIFACTS": "file:///tmp/data/artifacts",
        "ALLOWED_HOSTS": "127.0.0.1:5000",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "a-password-for-a-test",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "0123456789abcdef",
        "PYTHONPATH": "/app",
        "HOME": "/tmp",
        "WORKERS": "1",
    }
    program = "python -c 'import psycopg, boto3' && exec sh start.sh"
    with built(project, base, "deploy/tracking-server/Dockerfile") as (_, root):
        command = inside(root, data, program=program, user=10002, **variables)
        with started(command, "http://127.0.0.1:5000/health", user=10002):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen("http://127.0.0.1:5000/version", timeout=10)
            assert refused.value.code == 401
            login = base64.b64encode(b"admin:a-password-for-a-test").decode()
            asked = urllib.request.Request("http://127.0.0.1:5000/version", headers={"Authorization": f"Basic {login}"})
            assert urllib.request.urlopen(asked, timeout=10).read().startswith(b"3.")


def test_a_container_beside_the_service_follows_the_registry_for_it(bake, base, data):
    """As in a pod: MLflow is in one image, the service in another, and they share a folder."""
    project = bake(maturity_level="3", tracking="remote").borrow_environment()
    settings = project.path / "params.toml"
    settings.write_text(re.sub(r"^n_estimators = \d+", "n_estimators = 20", settings.read_text(), flags=re.M))
    shared = {"MODEL_CACHE": "/tmp/data/models", "HOME": "/tmp"}
    with team_server(project) as team:
        maintainer, viewer = team.variables("max"), team.variables("vera")
        assert project.make("pipeline", **maintainer).returncode == 0
        source = project.run(".venv/bin/python", "-m", "ride_duration", "source", ".cache/models/image", **maintainer)
        assert source.returncode == 0, source.stderr
        port = free_port()
        up = f"http://127.0.0.1:{port}/readyz"
        words = ["follow", "--uri", "models:/ride-duration@champion", "--state", "/tmp/data/live.json"]
        with built(project, base, "Dockerfile", "--target", "train") as (_, beside), built(project, base) as (_, root):
            follow = subprocess.Popen(inside(beside, data, *words, **shared, **viewer))
            try:
                wait((data / "live.json").is_file, 60)
                state = {"MODEL_STATE": "/tmp/data/live.json", "PREDICTION_LOG": "/tmp/data/predictions"}
                with started(inside(root, data, "web", "--host", "127.0.0.1", "--port", str(port), **state), up):
                    record = {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6}
                    assert post(port, record)["model_version"] == "1"
                    settings.write_text(settings.read_text().replace("n_estimators = 20", "n_estimators = 90"))
                    done = project.make("pipeline", **maintainer)
                    assert "version 2 is champion" in done.stdout, done.stdout + done.stderr
                    wait(lambda: post(port, record)["model_version"] == "2", 12)
                    assert list((data / "predictions").glob("*.jsonl"))
            finally:
                follow.terminate()
                follow.wait(30)


def test_a_round_of_operation_runs_in_a_container_beside_the_service(bake, base, data):
    """As the CronJob runs it: the log of a service, a folder that is kept after the pod ends, and a maintainer's login."""
    project = bake(maturity_level="4", tracking="remote").borrow_environment()
    settings = project.path / "params.toml"
    settings.write_text(re.sub(r"^n_estimators = \d+", "n_estimators = 20", settings.read_text(), flags=re.M))
    port, record = free_port(), {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6}
    (data / "incoming").mkdir()
    with team_server(project) as team:
        maintainer = team.variables("max")
        assert project.make("pipeline", **maintainer).returncode == 0
        log = {"PREDICTION_LOG": str(data / "predictions")}
        with project.running(
            "serve", f"PORT={port}", until=lambda _: answers_at(f"http://127.0.0.1:{port}/readyz"), **maintainer, **log
        ):
            answer = post(port, record)
        (line,) = (json.loads(line) for path in (data / "predictions").glob("*.jsonl") for line in path.open())
        (data / "incoming" / "today.csv").write_text(
            f"prediction_id,duration\n{line['prediction_id']},{answer['duration'] + 1}\n"
        )
        (data / "incoming" / "odd.csv").write_text("hello\n1\n")
        for path in (data, *data.rglob("*")):
            os.chown(path, 10001, 10001)
        settings.write_text(settings.read_text().replace("n_estimators = 20", "n_estimators = 60"))
        words = ("Dockerfile", "--target", "train", "--build-arg", "GIT_COMMIT=0123456789abcdef")
        with built(project, base, *words) as (about, root):
            assert about["User"] == "10001"
            command = inside(
                root, data, program="cd /tmp/data && python /app/round.py --new --retrain elsewhere",
                HOME="/tmp", MODEL_STATE="/models/live.json", **dict(each.split("=", 1) for each in about["Env"] if each.startswith("GIT_COMMIT")), **maintainer,
            )  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        trained = project.make("trace", "VERSION=2", **maintainer)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 answers" in done.stdout
    assert "trained again (by hand: elsewhere): version 2" in done.stdout
    assert "odd.csv has neither prediction_id nor" in done.stderr
    assert [path.name for path in (data / "incoming").iterdir() if path.is_file()] == []
    for folder, name in (("taken", "today.csv"), ("refused", "odd.csv")):
        assert [path.name.partition("-")[2] for path in (data / "incoming" / folder).iterdir()] == [name]
    assert (data / "reports" / "monitor.html").is_file()
    assert "0123456789abcdef" in trained.stdout, trained.stderr


def test_mage_s_image_trains_in_the_folder_of_its_owner_on_a_read_only_root(bake, base, data):
    """The container has two environments; the project's folder, with its repository, is mounted."""
    project = bake(orchestrator="mage")
    project.path = project.path.rename(data / "project")
    git(project.path, "init", "-q", "-b", "main")
    git(project.path, "add", "-A")
    git(project.path, "commit", "-qm", "Made")
    for path in (project.path, *project.path.rglob("*")):
        os.chown(path, 10003, 10003)
    variables = {
        "PATH": "/opt/mage/bin:/usr/bin:/bin",
        "PROJECT_PYTHON": "/opt/project/.venv/bin/python",
        "HOME": "/tmp",
        "USER": "mage",
    }
    port = free_port()
    with built(project, base, "orchestration/mage/Dockerfile") as (about, root):
        assert about["User"] == "10003"
        assert "Healthcheck" in about
        assert set(variables.items()) <= {tuple(each.split("=", 1)) for each in about["Env"]} | {
            ("PATH", variables["PATH"])
        }
        variables["program"] = "exec python orchestration/mage/mage.py run training"
        command = inside(root, project.path, user=10003, at="/project", work="/project", **variables)
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "version 1 is champion" in done.stdout
        variables["program"] = f"exec python orchestration/mage/mage.py start --port {port}"
        command = inside(root, project.path, user=10003, at="/project", work="/project", **variables)
        with started(command, f"http://127.0.0.1:{port}/api/status", user=10003):
            pass
    traced = project.borrow_environment().make("trace", "VERSION=1").stdout
    head = sh("git", "-c", "safe.directory=*", "rev-parse", "HEAD", cwd=project.path)
    assert f"git_commit         {head}" in traced
    assert "git_dirty          false" in traced


def test_the_image_that_mlflow_generates_for_the_registered_model_answers(bake, base, tmp_path):
    """`docs/other-tools.md`: the Dockerfile as it is generated, on a stand-in for the published image that it names."""
    project = bake().borrow_environment()
    assert project.make("pipeline").returncode == 0
    page = (ROOT / "docs" / "other-tools.md").read_text(encoding="utf-8")
    (generate,) = re.findall(r"^mlflow models generate-dockerfile .*", page, flags=re.M)
    (ask,) = re.findall(r"^curl .*", page, flags=re.M)
    done = project.run("sh", "-c", generate, MLFLOW_TRACKING_URI="sqlite:///mlflow.db")
    assert done.returncode == 0, done.stderr
    (named,) = re.findall(r"^FROM (\S+)$", project.text(".cache/mlflow-image/Dockerfile"), flags=re.M)
    (tmp_path / "Dockerfile").write_text(
        f"FROM {base}\nRUN python -m venv /opt/python\nENV PATH=/opt/python/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    )
    tag = f"localhost/{named}"
    sh(*BUILDAH, "bud", "--isolation", "chroot", "--format", "docker", "--tag", tag, ".", cwd=tmp_path)
    with built(Project(project.path / ".cache" / "mlflow-image"), base) as (about, root):
        program = shlex.join(about["Entrypoint"])
        script = (
            f"mount -t proc proc {root}/proc && mount --bind /dev {root}/dev && exec chroot {root} /usr/bin/env -i "
            f"{' '.join(shlex.quote(each) for each in about['Env'])} MLFLOW_MODELS_WORKERS=1 {program}"
        )
        server = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], start_new_session=True)
        try:
            # nginx of the image listens on 8080, as SageMaker wants it.
            for _ in range(300):
                assert server.poll() is None
                with contextlib.suppress(OSError):
                    if answers_at("http://127.0.0.1:8080/ping"):
                        break
                time.sleep(0.2)
            answer = json.loads(sh("sh", "-c", ask.replace(":5001", ":8080")))
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
    assert 1 < answer["predictions"][0]["duration"] < 60
