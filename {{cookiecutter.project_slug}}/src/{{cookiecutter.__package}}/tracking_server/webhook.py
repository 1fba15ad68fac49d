"""Let the registry call a URL when an alias moves or a version is created."""

from __future__ import annotations

import os
import secrets

from mlflow.entities.webhook import WebhookEvent, WebhookEventStr
from mlflow.exceptions import MlflowException

from ..base.errors import Parser, UserError
from ..tracking import conventions, store
from . import users

EVENTS: list[WebhookEventStr | WebhookEvent] = ["model_version.created", "model_version_alias.created"]


def create(url: str, team: str) -> str:
    """Register `url` for events of the team's registry, replacing an earlier registration; returns the signing secret.

    Raises:
        UserError: there is no such team, or the server refuses the URL; it must be https and public, unless the server is configured otherwise.
    """
    client, _ = users.connect()
    secret = secrets.token_urlsafe(32)
    name = f"{conventions.model_name()}-registry"
    with store.errors():
        if team not in {workspace.name for workspace in client.list_workspaces()}:
            raise UserError(f"there is no team {team!r}: give one that `make tracking-users` lists, TEAM=team-a")
        os.environ["MLFLOW_WORKSPACE"] = team
        for old in client.list_webhooks():
            if old.url == url:
                client.delete_webhook(old.webhook_id)
        try:
            client.create_webhook(name, url, EVENTS, "tells of new versions and of moved aliases", secret)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise UserError(f"the server does not take {url}: {str(error).splitlines()[0]}") from None
    return secret


def main() -> None:
    """`make tracking-webhook`: let the registry call URL when a version is created or an alias moves."""
    parser = Parser(prog="make tracking-webhook", description=main.__doc__)
    parser.add_argument("--url", default="", help="make tracking-webhook URL=https://hooks.example.org/mlflow")
    parser.add_argument("--team", default=os.environ.get("MLFLOW_WORKSPACE", ""), help="whose registry (TEAM=team-a)")
    given = parser.parse_args()
    if not given.url:
        raise UserError("whom to call? make tracking-webhook URL=https://hooks.example.org/mlflow")
    secret = create(given.url, given.team)
    print(
        f"{given.url} is called for {', '.join(map(str, EVENTS))}; the secret that signs the calls is not shown again:"
    )
    print(f"MLFLOW_WEBHOOK_SECRET={secret}")
