"""Start Mage with log-in, or run one pipeline without a server."""

import argparse
import contextlib
import importlib
import io
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / ".mage"
SECRETS = ("DEFAULT_OWNER_PASSWORD", "JWT_SECRET", "MAGE_TRIGGER_TOKEN", "POSTGRES_PASSWORD")
SETTINGS = {
    "MAGE_DATA_DIR": str(DATA),
    "DEFAULT_OWNER_EMAIL": "owner@localhost",
    "DEFAULT_OWNER_USERNAME": "owner",
    # Unless it hides tokens, Mage writes a trigger's into its file.
    **dict.fromkeys(("REQUIRE_USER_AUTHENTICATION", "HIDE_API_TRIGGER_TOKEN", "DISABLE_AUTO_BROWSER_OPEN"), "true"),
    "SERVER_VERBOSITY": "WARNING",
}


GRACE_SECONDS = 20
"""How long Mage may take to stop."""


def known_secrets() -> dict[str, str]:
    """The secrets of `.mage/secrets.env`, which only this user may read; those that are missing are made."""
    file = DATA / "secrets.env"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    if missing := {name: secrets.token_hex(16) for name in SECRETS if name not in found}:
        found |= missing
        DATA.mkdir(exist_ok=True)
        # Whole or not at all: PostgreSQL keeps the first password.
        new = DATA / f"secrets.{os.getpid()}"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as to:
            to.write("".join(f"{name}={value}\n" for name, value in found.items()))
        new.replace(file)
    return found


def api_triggers(token: str) -> dict[str, int]:
    """Give the pipelines' API triggers their token; returns their numbers in Mage's database, by pipeline."""
    from mage_ai.data_preparation.models.pipeline import Pipeline
    from mage_ai.data_preparation.models.triggers import ScheduleType, get_triggers_by_pipeline
    from mage_ai.orchestration.db import db_connection
    from mage_ai.orchestration.db.database_manager import database_manager
    from mage_ai.orchestration.db.models.schedules import PipelineSchedule

    database_manager.run_migrations()
    db_connection.start_session()
    triggers = [
        each for name in sorted(Pipeline.get_all_pipelines(str(HERE))) for each in get_triggers_by_pipeline(name)
    ]
    for each in triggers:
        each.token = token if each.schedule_type == ScheduleType.API else None
    PipelineSchedule.create_or_update_batch(triggers)
    made = PipelineSchedule.query.filter(PipelineSchedule.schedule_type == ScheduleType.API).all()
    return {each.pipeline_uuid: each.id for each in made}


def start(host: str, port: str) -> None:
    """Say where Mage is and how its API triggers are called, and keep it running until Ctrl-C or SIGTERM."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            # Mage would take the next port that is free, unlike the addresses printed here.
            sys.exit(
                f"error: port {port} cannot be used ({error}): does Mage run already? Else make mage MAGE_PORT=6790"
            )
    for pipeline, number in api_triggers(os.environ["MAGE_TRIGGER_TOKEN"]).items():
        print(
            f"{pipeline}: POST http://{host}:{port}/api/pipeline_schedules/{number}/pipeline_runs/<MAGE_TRIGGER_TOKEN>"
        )
    print(
        f"Mage on http://{host}:{port}: log in as owner@localhost, password in .mage/secrets.env (Ctrl-C stops it)",
        flush=True,
    )
    words = ["-m", "mage_ai.cli.main", "start", str(HERE), "--host", host, "--port", port]
    # Mage's processes each handle Ctrl-C for themselves, and start each other again: they get one SIGTERM.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)
    server = subprocess.Popen([sys.executable, *words], start_new_session=True)
    try:
        sys.exit(server.wait())
    except KeyboardInterrupt:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
        print("Mage is stopped", flush=True)


def run(name: str, variables: dict[str, str]) -> None:
    """Run the blocks of a pipeline, one after the other, with their retries.

    `mage run` runs blocks that do not depend on each other in threads that share their configuration: each may get the
    other's. A server runs them in processes of their own.
    """
    from mage_ai.data_preparation.models.pipeline import Pipeline
    from mage_ai.data_preparation.variable_manager import get_global_variables
    from mage_ai.orchestration.db import db_connection
    from mage_ai.shared.retry import retry

    known = sorted(Pipeline.get_all_pipelines(str(HERE)))
    if name not in known:
        sys.exit(f"error: there is no pipeline {name}: choose {', '.join(known)}")
    own = Pipeline.get(name, repo_path=str(HERE)).variables or {}
    if strange := [each for each in variables if each not in own]:
        sys.exit(f"error: {name} has no variable {strange[0]}; its variables: {', '.join(own) or 'none'}")
    db_connection.start_session()
    for block in Pipeline.get(name, repo_path=str(HERE)).blocks_by_uuid.values():
        print(f"[{block.uuid}]", flush=True)

        @retry(**block.retry_config or {"retries": 0})
        def execute(block=block):
            given = get_global_variables(name) | variables
            block.execute_sync(global_vars=given, run_all_blocks=True, update_status=False)

        try:
            execute()
        except KeyboardInterrupt:
            sys.exit(f"error: stopped in {block.uuid}")
        except Exception as error:
            sys.exit(f"error: {error}")


def main() -> None:
    """Start Mage, run a pipeline (`run training data=file.parquet`), or only make the secrets."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("action", choices=["start", "run", "secrets"])
    parser.add_argument("pipeline", nargs="?", default="")
    parser.add_argument("variables", nargs="*", help="name=value")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", default="6789")
    given = parser.parse_args()
    os.environ.update({**SETTINGS, **known_secrets(), **os.environ})
    if given.action == "secrets":
        return
    print("starting Mage", flush=True)
    # What its libraries say about themselves on import helps nobody here.
    logging.getLogger("traitlets").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module("mage_ai.data_preparation.models.pipeline")
        from mage_ai.settings.repo import set_repo_path

    set_repo_path(str(HERE))
    if given.action == "start":
        start(given.host, given.port)
    else:
        if strange := [each for each in given.variables if "=" not in each]:
            sys.exit(
                f"error: {strange[0]!r} is not of the form name=value; with spaces: VARIABLES='\"reason=new zones\"'"
            )
        run(given.pipeline, dict(each.split("=", 1) for each in given.variables))


if __name__ == "__main__":
    main()
