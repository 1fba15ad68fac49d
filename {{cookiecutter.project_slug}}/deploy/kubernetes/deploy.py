"""Deploy an image to staging or production: say what changes, do it, wait for the model that was meant, else take it back."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError, first_line, run

HERE = Path(__file__).resolve().parent
NAME = params.names()["name"]
PATIENCE_SECONDS = 300
"""How long new pods may take until they answer."""

PORTS = {9696: "version", 9697: "metrics"}
"""The page of a service that names its model's version, by its port; a job has none."""

ASK = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/{page}', timeout=5).read().decode())"
LOAD = "from importlib import import_module as i; print('model_version=' + i('{package}.serving.served_model').build().card['model_version'])"
SAID = r'"model_version": ?"([^"]*)"|^model_info\{.*version="([^"]*)"|^model_version=(.*)$'
"""How a version stands in what services and jobs print."""


def kubectl(*words: str, given: str = "", allowed: int = 0) -> str:
    """What kubectl prints; an exit code of `allowed` counts as success.

    Raises:
        UserError: it is not installed, or fails.
    """
    try:
        done = subprocess.run(["kubectl", *words], input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError("kubectl is not installed: see https://kubernetes.io/docs/tasks/tools") from None
    if done.returncode not in (0, allowed):
        raise UserError(f"kubectl {' '.join(words[:3])}: {first_line(done.stderr or done.stdout)}")
    return done.stdout


def manifests(environment: str, image: str, train_image: str, version: str) -> str:
    """The objects of an environment as YAML, with the images and the version of the model."""
    images = [(name, *given.split("@")) for name, given in ((NAME, image), (f"{NAME}-train", train_image)) if given]
    content = {
        "resources": [f"../overlays/{environment}"],
        "images": [{"name": name, "newName": to, **({"digest": at[0]} if at else {})} for name, to, *at in images],
        # Each logged prediction names the image that served it.
        "configMapGenerator": [{"name": "settings", "behavior": "merge", "literals": [f"IMAGE={image}"]}],
        # The pods have it too, so that a new version starts a new roll-out.
        "labels": [{"pairs": {"app.kubernetes.io/version": version}, "includeTemplates": True}] if version else [],
    }
    with tempfile.TemporaryDirectory(prefix=".deploy-", dir=HERE) as folder:
        (Path(folder) / "kustomization.yaml").write_text(json.dumps(content), encoding="utf-8")
        return kubectl("kustomize", folder)


def said_version(text: str) -> str:
    """The model version in what a service or a job has printed; empty if there is none."""
    found = re.search(SAID, text, flags=re.M)
    return next((each for each in found.groups() if each), "") if found else ""


def wait(namespace: str, port: int, version: str) -> str:
    """Wait until the new pods answer with a version, or with any if it is empty; gives the one they answer with.

    Raises:
        UserError: they do not come up, or answer with another one.
    """
    deployment, ask = f"deployment/{NAME}", ASK.format(port=port, page=PORTS[port])
    kubectl("-n", namespace, "rollout", "status", deployment, f"--timeout={PATIENCE_SECONDS}s")
    started, said = time.monotonic(), ""
    while not said or version not in ("", said):
        if time.monotonic() - started > PATIENCE_SECONDS / 5:
            raise UserError(f"it answers with model version {said or 'unknown'}, not {version}")
        time.sleep(1)
        said = said_version(kubectl("-n", namespace, "exec", deployment, "--", "python", "-c", ask, allowed=1))
    return said


def take_back(namespace: str) -> str:
    """Bring the deployment before back; says how that went."""
    try:
        kubectl("-n", namespace, "rollout", "undo", f"deployment/{NAME}")
        kubectl("-n", namespace, "rollout", "status", f"deployment/{NAME}", f"--timeout={PATIENCE_SECONDS}s")
    except UserError as error:
        return f"the previous version was not restored ({error}); kubectl -n {namespace} describe pods shows more"
    return "the previous version was restored"


def tried(namespace: str, text: str, version: str) -> None:
    """Load the model in a job of its own, with the image and the settings of the real one, which is not touched yet.

    Raises:
        UserError: it cannot be loaded there, or is another version.
    """
    objects = json.loads(kubectl("apply", "-f", "-", "--dry-run=client", "-o", "json", given=text))["items"]
    (cron,) = (each for each in objects if each["kind"] == "CronJob" and each["metadata"]["name"] == NAME)
    spec: dict[str, Any] = cron["spec"]["jobTemplate"]["spec"] | {"backoffLimit": 0, "ttlSecondsAfterFinished": 3600}
    (container,) = spec["template"]["spec"]["containers"]
    container |= {"command": ["python", "-c", LOAD.format(package=params.PACKAGE.name)], "args": []}
    name = f"{NAME}-try-{int(time.time())}"
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    # Changed settings must be applied before a job reads them.
    settings = [each for each in objects if each["kind"] == "ConfigMap"]
    kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*settings, job]}))
    try:
        kubectl("-n", namespace, "wait", "--for=condition=complete", f"job/{name}", f"--timeout={PATIENCE_SECONDS}s")
        said = said_version(kubectl("-n", namespace, "logs", f"job/{name}"))
    finally:
        kubectl("-n", namespace, "delete", "job", name, "--wait=false", "--ignore-not-found")
    if said != version:
        raise UserError(f"the image has model version {said or 'unknown'}, not {version}")


def deploy(environment: str, image: str, train_image: str, version: str) -> None:
    """Bring an image and its model into an environment's namespace, and tell each step.

    Raises:
        UserError: it did not become ready; the previous version was restored.
    """
    text, namespace = manifests(environment, image, train_image, version), f"{NAME}-{environment}"
    context = kubectl("config", "current-context").strip()
    print(f"{environment}: namespace {namespace} of {context}, model version {version}, image {image}", flush=True)
    changed = re.findall(r"^\+\+\+ \S*/(\S+)", kubectl("diff", "-f", "-", given=text, allowed=1), flags=re.M)
    print(f"changes: {', '.join(changed) or 'nothing'}", flush=True)
    port = next((port for port in PORTS if f"containerPort: {port}" in text), 0)
    if not port:
        try:
            tried(namespace, text, version)
        except UserError as error:
            raise UserError(f"{error}; nothing was changed") from None
    kubectl("apply", "-f", "-", given=text)
    if port:
        try:
            # Pods that follow the registry serve its current champion, not the model in the image.
            version = wait(namespace, port, "" if train_image else version)
        except UserError as error:
            raise UserError(f"{error}; {take_back(namespace)}") from None
    print(f"{environment} {'answers' if port else 'scores'} with model version {version}")


def meant() -> str:
    """The version of the model that `make image` took last; empty if there is none."""
    card = params.ROOT / ".cache" / "models" / "image" / "model.json"
    return str(json.loads(card.read_text(encoding="utf-8"))["model_version"]) if card.is_file() else ""


def main() -> None:
    """`make deploy ENV=staging IMAGE=registry/name@sha256:...`; DRY=1 prints the manifests and changes nothing."""
    parser = argparse.ArgumentParser(prog="make deploy", description=main.__doc__)
    parser.add_argument("--environment", default="", help="staging or production (ENV=staging)")
    parser.add_argument("--image", default="", help="name and digest of the image (IMAGE=registry/name@sha256:...)")
    parser.add_argument("--train-image", default="", help="the same of the image that has MLflow (TRAIN_IMAGE=...)")
    parser.add_argument(
        "--version", default="", help="of the model that is to answer (VERSION=3), else that of `make image`"
    )
    parser.add_argument("--dry", action="store_true", help="print the manifests (DRY=1)")
    given = parser.parse_args()
    known = sorted(path.name for path in (HERE / "overlays").iterdir())
    if given.environment not in known:
        raise UserError(f"ENV={given.environment!r} is none of {' and '.join(known)}: make deploy ENV={known[-1]}")
    version = given.version or meant()
    words = {"IMAGE": given.image}
    if (HERE / "follow").exists() or (HERE / "operate").exists():
        words["TRAIN_IMAGE"] = given.train_image
    for word, image in words.items():
        if not (given.dry and not image) and not re.fullmatch(r"[^\s@]+@sha256:[0-9a-f]{64}", image):
            raise UserError(
                f"{word}={image!r} names no image by its digest: `docker push` prints it, {word}=registry/name@sha256:..."
            )
    if given.dry:
        print(manifests(given.environment, given.image, given.train_image, version), end="")
        return
    if not version:
        raise UserError("which model is to answer? add VERSION=3 (make registry lists them)")
    deploy(given.environment, given.image, given.train_image, version)


if __name__ == "__main__":
    run(main)
