"""The team's tracking server on this machine, without containers: MLflow with log-in, workspaces and authorization."""

from __future__ import annotations

import base64
import importlib.util
import os
import secrets
import socket
import sys
from pathlib import Path

import dotenv

from ..base.errors import Parser, UserError
from ..base.params import PACKAGE, ROOT

FOLDER = ROOT / "deploy" / "tracking-server"
SECRETS = FOLDER / ".env"
NAMES = (
    ("MLFLOW_AUTH_ADMIN_PASSWORD", 24),
    ("MLFLOW_FLASK_SERVER_SECRET_KEY", 48),
    ("POSTGRES_PASSWORD", 24),
    ("S3_SECRET_KEY", 32),
    ("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", 0),
)
"""The server's secrets, and the number of random bytes of each; 0 is a Fernet key."""

CACHE_SECONDS = 60
"""How long a successful log-in is cached: checking it takes 0.1 s of a core. For this long, the other worker processes
still accept a password that was changed, or a user who was removed."""

ENVIRONMENT = {
    # A route without a rule in MLflow is denied, not allowed.
    "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
    # Jobs are for evaluating language models; they would take seven processes.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # MLflow would use one list of webhooks for all workspaces: one team would receive calls about another's models.
    "MLFLOW_WEBHOOK_CACHE_TTL": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def write_secrets() -> Path:
    """Write strong random secrets for the server to `deploy/tracking-server/.env`, readable by its owner only.

    Raises:
        UserError: the file exists already; new secrets would lock everybody out of what the old ones protect.
    """
    if SECRETS.exists():
        raise UserError(
            f"{SECRETS.relative_to(ROOT)} is there already: remove it yourself if nothing needs it any more"
        )
    made = {
        name: secrets.token_urlsafe(size) if size else base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        for name, size in NAMES
    }
    descriptor = os.open(SECRETS, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("# Secrets of the tracking server; git does not track this file. Keep a copy in a safe place.\n")
        file.writelines(f"{name}={value}\n" for name, value in made.items())
    return SECRETS


def read_secrets() -> dict[str, str]:
    """The server's secrets: those of `deploy/tracking-server/.env`, unless the environment has others.

    Raises:
        UserError: one is missing.
    """
    found = {name: value or "" for name, value in dotenv.dotenv_values(SECRETS).items()}
    found |= {name: os.environ[name] for name, _ in NAMES if os.environ.get(name)}
    for name in ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
        if not found.get(name):
            raise UserError(f"the server has no {name}: run `make tracking-secrets`")
    return found


def settings(data: Path, database: str) -> str:
    """The configuration of MLflow's log-in: without a role nobody may do anything."""
    auth = database if not database.startswith("sqlite") else f"sqlite:///{(data / 'auth.db').as_posix()}"
    # configparser interprets a percent sign as the start of a name.
    return f"""[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {auth.replace("%", "%%")}
admin_username = admin
authorization_function = {PACKAGE.name}.tracking_server.authorize:authorize
grant_default_workspace_access = false
auth_cache_ttl_seconds = {CACHE_SECONDS}
"""


def command(host: str, port: int, hosts: str, workers: int, database: str, artifacts: str) -> list[str]:
    """The command line of MLflow's own server."""
    return [
        sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--enable-workspaces",
        "--host", host, "--port", str(port), "--workers", str(workers),
        *(("--allowed-hosts", hosts) if hosts else ()), "--uvicorn-opts", "--log-level warning",
        "--backend-store-uri", database, "--artifacts-destination", artifacts,
    ]  # fmt: skip


def main() -> None:
    """`make tracking-server`: start MLflow with log-in; `--secrets` only writes the server's secrets."""
    parser = Parser(prog="make tracking-server", description=main.__doc__)
    parser.add_argument(
        "--secrets", action="store_true", help="write deploy/tracking-server/.env and leave (make tracking-secrets)"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000, help="make tracking-server PORT=5001")
    parser.add_argument("--hosts", default="", help="Host headers that are let in; empty: this machine's (HOSTS=...)")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if given.secrets:
        print(f"wrote {write_secrets().relative_to(ROOT)}: keep a copy in a safe place, and never commit it")
        return
    if importlib.util.find_spec("flask_wtf") is None:
        raise UserError("the server's packages are not installed: start it with `make tracking-server`")
    kept = read_secrets()
    data = Path(os.environ.get("TRACKING_DATA") or FOLDER / "data").absolute()
    data.mkdir(mode=0o700, exist_ok=True)
    database = os.environ.get("TRACKING_DB") or f"sqlite:///{(data / 'mlflow.db').as_posix()}"
    artifacts = os.environ.get("TRACKING_ARTIFACTS") or (data / "artifacts").as_uri()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((given.host, given.port))
        except (OSError, OverflowError) as error:
            raise UserError(f"port {given.port} cannot be used ({error}): make tracking-server PORT=5001") from None
    configuration = data / "auth.ini"
    configuration.touch(mode=0o600)
    configuration.write_text(settings(data, database), encoding="utf-8")
    environment = {
        **os.environ,
        **{name: kept[name] for name in kept if name.startswith("MLFLOW_")},
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        **ENVIRONMENT,
    }
    # The server itself must not be a client of a server.
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_WORKSPACE"):
        environment.pop(name, None)
    print(
        f"MLflow with log-in on http://{given.host}:{given.port}, data in {data} (first answer in about ten "
        "seconds; Ctrl-C stops it)",
        flush=True,
    )
    words = command(given.host, given.port, given.hosts, given.workers, database, artifacts)
    if sys.platform == "win32":
        import subprocess

        sys.exit(subprocess.call(words, env=environment))
    os.execve(words[0], words, environment)
