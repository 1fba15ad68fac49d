"""Users of the tracking server: a workspace for each team, and three roles in it."""

from __future__ import annotations

import os
import re
import secrets
import warnings
from collections.abc import Iterable

import dotenv
import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.workspace_context import WorkspaceContext

from ..base.errors import Parser, UserError
from ..base.params import ROOT
from ..tracking import conventions, store
from . import start

with warnings.catch_warnings():
    # The client is part of the server, which prints warnings about itself.
    warnings.simplefilter("ignore")
    from mlflow.server.auth.client import AuthServiceClient

ROLES: dict[str, list[tuple[str, str]]] = {
    "viewer": [("experiment", "READ"), ("registered_model", "READ")],
    "member": [("workspace", "USE"), ("experiment", "EDIT"), ("registered_model", "EDIT")],
    "maintainer": [("workspace", "USE"), ("experiment", "MANAGE"), ("registered_model", "MANAGE")],
}
"""The permission of each role for the whole workspace: read; train and register; and move the champion (`authorize.py`)."""

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")


def connect() -> tuple[mlflow.MlflowClient, AuthServiceClient]:
    """Clients with the administrator's rights; the password is the server's, in `deploy/tracking-server/.env` or the environment.

    Raises:
        UserError: the password is not known here, or the server cannot be used.
    """
    password = os.environ.get("TRACKING_ADMIN_PASSWORD") or start.read_secrets()["MLFLOW_AUTH_ADMIN_PASSWORD"]
    os.environ.update(MLFLOW_TRACKING_USERNAME="admin", MLFLOW_TRACKING_PASSWORD=password)
    os.environ.pop("MLFLOW_WORKSPACE", None)
    if conventions.is_local():
        raise UserError("users are for a server: set MLFLOW_TRACKING_URI in .env, or tracking.uri in params.toml")
    client = store.connect()
    return client, AuthServiceClient(conventions.uri())


def add(name: str, team: str, role: str, bucket: str = "") -> str:
    """Give a person a role in a team, replacing any other there; returns the password of a new user.

    The team's workspace and roles are created with its first user. `bucket` is where the artifacts of a new
    workspace go, instead of the server's own store.

    Raises:
        UserError: a name that the server would not accept, an unknown role, or a bucket for a team that exists already.
    """
    for word, value in (("NAME", name), ("TEAM", team)):
        if not NAME.fullmatch(value):
            raise UserError(f"{word}={value!r}: use lower-case letters, digits and hyphens, such as {word}=ana")
    if role not in ROLES:
        raise UserError(f"ROLE={role!r} is none of {', '.join(ROLES)}")
    client, auth = connect()
    with store.errors():
        if team not in {workspace.name for workspace in client.list_workspaces()}:
            client.create_workspace(team, default_artifact_root=bucket or None)
        elif bucket:
            raise UserError(f"team {team} is there already: its artifacts stay where they are")
        password = secrets.token_urlsafe(18) if name not in people(auth) else ""
        if password:
            auth.create_user(name, password)
        known = {each.name: each.id for each in auth.list_roles(team)}
        for other, grants in ROLES.items():
            if other not in known:
                known[other] = auth.create_role(team, other).id
                for resource, permission in grants:
                    auth.add_role_permission(known[other], resource, "*", permission)
        held = {each.id for each in auth.list_user_roles(name) if each.workspace == team}
        for other in set(known.values()) & held - {known[role]}:
            auth.unassign_role(name, other)
            _take_back(auth, name, team)
        if known[role] not in held:
            auth.assign_role(name, known[role])
    return password


def _take_back(auth: AuthServiceClient, name: str, team: str) -> None:
    """Revoke the permissions that MLflow gave a person as creator of an experiment or a model: only the new role counts."""
    held = auth._request("/api/3.0/mlflow/users/permissions/list", "GET", params={"username": name})["permissions"]
    with WorkspaceContext(team):
        for each in held:
            if each["workspace"] == team and each["resource_pattern"] != "*":
                auth.revoke_user_permission(name, each["resource_type"], each["resource_pattern"])


def remove(name: str) -> None:
    """Remove a person from the server, with all roles; their runs and models stay.

    Raises:
        UserError: there is no user with that name.
    """
    _, auth = connect()
    with store.errors():
        if name not in people(auth):
            raise UserError(f"there is no user {name!r}: `make tracking-users` lists them")
        auth.delete_user(name)


def people(auth: AuthServiceClient) -> dict[str, bool]:
    """Every user of the server, and whether they are an administrator."""
    answer = auth._request("/api/2.0/mlflow/users/list", "GET")
    return {user["username"]: bool(user["is_admin"]) for user in answer["users"]}


def listing() -> Iterable[str]:
    """A line per person and team: the permissions of the role."""
    _, auth = connect()
    with store.errors():
        yield f"{'user':16} {'team':16} {'role':12} may"
        for name, admin in sorted(people(auth).items()):
            if admin:
                yield f"{name:16} {'every team':16} {'admin':12} do everything"
            for role in auth.list_user_roles(name):
                if role.name in ROLES:
                    may = ", ".join(f"{resource} {permission}" for resource, permission in ROLES[role.name])
                    yield f"{name:16} {role.workspace:16} {role.name:12} {may}"


def save(name: str, team: str, password: str) -> None:
    """Write a client's settings to this folder's `.env`, readable by its owner only."""
    path = ROOT / ".env"
    path.touch(mode=0o600)
    lines = client_lines(name, team, password)
    for line in lines:
        key, _, value = line.partition("=")
        dotenv.set_key(path, key, value, quote_mode="never")


def client_lines(name: str, team: str, password: str) -> list[str]:
    """The lines of a client's `.env`; the password is left out if there is none."""
    lines = {
        "MLFLOW_TRACKING_URI": conventions.uri(),
        "MLFLOW_TRACKING_USERNAME": name,
        "MLFLOW_TRACKING_PASSWORD": password,
        "MLFLOW_WORKSPACE": team,
    }
    return [f"{key}={value}" for key, value in lines.items() if value]


def main() -> None:
    """`make tracking-user`: give NAME a ROLE in TEAM; `make tracking-users`: list who may do what."""
    parser = Parser(prog="make tracking-user", description=main.__doc__)
    parser.add_argument("--list", action="store_true", help="list users and their roles (make tracking-users)")
    parser.add_argument("--name", default="", help="make tracking-user NAME=ana TEAM=team-a ROLE=member")
    parser.add_argument("--team", default="", help="the team, which is a workspace of its own")
    parser.add_argument("--role", default="member", help=", ".join(ROLES))
    parser.add_argument("--bucket", default="", help="a new team's own store (BUCKET=s3://team-bucket/mlflow)")
    parser.add_argument("--save", action="store_true", help="also write this folder's .env (SAVE=1)")
    parser.add_argument("--remove", action="store_true", help="remove NAME from the server (REMOVE=1)")
    given = parser.parse_args()
    if given.list:
        print("\n".join(listing()))
        return
    if given.remove:
        remove(given.name)
        print(f"{given.name} is removed; the server lets the log-in through for up to {start.CACHE_SECONDS} s more")
        return
    try:
        password = add(given.name, given.team, given.role, given.bucket)
    except MlflowException as error:
        raise UserError(str(error).splitlines()[0]) from None
    print(f"{given.name} is {given.role} of {given.team}")
    if given.save:
        save(given.name, given.team, password)
        print("wrote .env, which git does not track")
    elif password:
        print("for this person's .env; the password is not shown again:")
        print("\n".join(client_lines(given.name, given.team, password)))
