"""Show runs and models: MLflow's own UI for the project's store, in one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from mlflow.server import constants

from ..base.errors import Parser, UserError
from ..tracking import conventions, store

HOST = "127.0.0.1"


def main() -> None:
    """`make ui`: serve MLflow's UI on this machine until Ctrl-C."""
    parser = Parser(prog="make ui", description=main.__doc__)
    parser.add_argument("--port", type=int, default=5000, help="make ui UI_PORT=5001")
    port = parser.parse_args().port
    address = conventions.uri()
    if not conventions.is_local():
        raise UserError(f"runs go to {address}: open that in a browser")
    store.connect()
    artifacts = conventions.artifacts(Path(address.removeprefix("sqlite:///")))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise UserError(f"port {port} cannot be used ({error}): try make ui UI_PORT=5001") from None
    print(f"MLflow answers on http://{HOST}:{port} in a few seconds (Ctrl-C stops it)", flush=True)
    # `mlflow ui` would also start a second process, and eight that run jobs for language models.
    environment = {
        **os.environ,
        constants.BACKEND_STORE_URI_ENV_VAR: address,
        constants.REGISTRY_STORE_URI_ENV_VAR: address,
        constants.ARTIFACT_ROOT_ENV_VAR: artifacts,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    words = [
        "mlflow.server.fastapi_app:app",
        "--host",
        HOST,
        "--port",
        str(port),
        "--log-level",
        "warning",
        "--workers",
        "1",
    ]
    command = [sys.executable, "-W", "ignore", "-m", "uvicorn", *words]
    if sys.platform == "win32":
        sys.exit(subprocess.call(command, env=environment))
    os.execve(command[0], command, environment)
