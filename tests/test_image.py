"""The image, built from the generated Dockerfile without a container engine, answers as a user without rights.

The published Python image cannot be reached from everywhere, so a base of Debian's own packages stands in for it
(`--build-arg BASE=`); everything else of the Dockerfile is built as it is. Needs buildah, debootstrap and root.
"""

import json
import os
import pathlib
import shutil
import subprocess
import time
import urllib.request

import pytest
from conftest import ROOT, free_port

pytestmark = [
    pytest.mark.slow,
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
def base(tmp_path_factory):
    """An image with Debian's Python under the names that the published one has."""
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


def test_the_image_answers_as_a_user_without_rights_on_a_read_only_root(bake, base, tmp_path):
    project = bake(maturity_level="1").borrow_environment()
    assert project.make("train").returncode == 0
    assert project.run(".venv/bin/python", "-m", "ride_duration", "source", "build/model").returncode == 0
    # The machine's own way to packages, for pip inside the build: its certificates and its settings.
    settings = [f"--env={name}={value}" for name, value in os.environ.items() if name in ("PIP_INDEX_URL", "PIP_CERT")]
    mounts = ["--volume=/etc/ssl/certs:/etc/ssl/certs:ro"]
    sh(
        *BUILDAH, "bud", "--isolation", "chroot", "--network", "host", "--format", "docker", *mounts, *settings,
        "--build-arg", f"BASE={base}", "--tag", "localhost/ride-duration", ".", cwd=project.path,
    )  # fmt: skip
    about = json.loads(sh(*BUILDAH, "inspect", "--type", "image", "localhost/ride-duration"))["Docker"]["config"]
    assert about["User"] == "10001"
    assert "Healthcheck" in about
    container = sh(*BUILDAH, "from", "localhost/ride-duration")
    root = sh(*BUILDAH, "mount", container)
    present = sh("ls", *[str(path) for path in pathlib.Path(root).glob("app/.venv/lib/python3*/site-packages")])
    assert "onnxruntime" in present
    assert "mlflow" not in present
    port = free_port()
    script = (
        f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && "
        f"mount -t proc proc {root}/proc && mount -t tmpfs tmpfs {root}/tmp && mount -t tmpfs tmpfs {root}/dev && "
        f"mknod -m 666 {root}/dev/null c 1 3 && mknod -m 666 {root}/dev/urandom c 1 9 && mkdir -m 1777 {root}/dev/shm && "
        f"exec chroot --userspec=10001:10001 {root} /usr/bin/env -i HOME=/ PATH=/app/.venv/bin:/usr/bin:/bin "
        "PYTHONPATH=/app/src PYTHONDONTWRITEBYTECODE=1 MODEL_URI=/app/model sh -c "
        f"'cd /app && ! touch /app/x 2>/dev/null && exec python -m ride_duration web --host 127.0.0.1 --port {port}'"
    )
    server = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        record = {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6}
        for _ in range(150):
            assert server.poll() is None, server.stdout.read()
            try:
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/predict",
                    json.dumps(record).encode(),
                    {"Content-Type": "application/json"},
                )
                with urllib.request.urlopen(request, timeout=5) as response:
                    answer = json.load(response)
                break
            except OSError:
                time.sleep(0.2)
        assert 1 < answer["duration"] < 60
        status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
        assert "Uid:\t10001" in status
    finally:
        server.terminate()
        server.wait(20)
        sh(*BUILDAH, "umount", container)
        sh(*BUILDAH, "rm", container)
