"""Authorization on the tracking server beyond MLflow's own roles: above all, only a maintainer moves the champion.

The server imports this module by itself (`authorization_function` in its configuration), so it imports nothing of the
project.
"""

from __future__ import annotations

import json

from flask import Response, make_response, request
from mlflow.server import auth
from mlflow.utils.workspace_context import get_request_workspace
from werkzeug.datastructures import Authorization

MAINTAINER = "maintainer"
CHAMPION = "champion"
MOVES = "move."
"""The prefix of the tags that are the registry's log."""

TURN = ".moving"
GUARDED = ("/registered-models/alias", "/registered-models/set-tag", "/registered-models/delete-tag")
PEOPLE = "/mlflow/users/list"
"""The route that lists the server's users, which teams may not see."""

DESTRUCTIVE = ("/registered-models/delete", "/registered-models/rename", "/model-versions/delete")


def authorize() -> Authorization | Response:
    """The authenticated user of a request, or an error response."""
    login = auth.authenticate_request_basic_auth()
    people = request.path.endswith(PEOPLE)
    if isinstance(login, Response) or not (people or for_maintainers()):
        return login
    user = auth.store.get_user(str(login.username))
    roles = auth.store.list_user_roles_for_workspace(user.id, get_request_workspace() or "default")
    if user.is_admin or (not people and any(role.name == MAINTAINER for role in roles)):
        return login
    who = "an administrator" if people else "a maintainer of the team"
    return make_response(f"only {who} may do this", 403)


def for_maintainers() -> bool:
    """Whether the request would move the champion, or change the registry's log of such moves."""
    if request.method == "GET":
        return False
    if request.path.endswith(DESTRUCTIVE):
        # A lock of `champion_log.py` belongs to the user who made it.
        return not all(name.endswith(TURN) for name in _asked("name"))
    if request.path.endswith("/registered-models/create"):
        return any(MOVES in tags for tags in _asked("tags"))
    if not request.path.endswith(GUARDED):
        return False
    return CHAMPION in _asked("alias") or any(key.startswith(MOVES) for key in _asked("key"))


def _asked(name: str) -> list[str]:
    """Every value that a request has for a field, wherever it is; an unreadable request counts as the most dangerous value."""
    body: object = request.get_data(cache=True) or b"{}"
    try:
        # MLflow also accepts JSON in a JSON string.
        while isinstance(body, str | bytes):
            body = json.loads(body)
    except ValueError:
        return [CHAMPION, MOVES]
    given = [body[name]] if isinstance(body, dict) and name in body else []
    return [str(value) for value in (*given, *request.values.getlist(name))]
