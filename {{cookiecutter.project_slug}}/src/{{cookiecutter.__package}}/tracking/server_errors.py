"""Errors of a tracking server that cannot be used, in one line with the remedy, within seconds."""

from __future__ import annotations

import email.utils
import functools
import os
import re
import ssl
import sys
import time
from collections.abc import Iterator

import mlflow
import requests
import urllib3
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from ..base.errors import UserError

PATIENCE_SECONDS = 5
"""The timeout for the first response of a server; a reachable one needs milliseconds."""

CLOCK_SECONDS = 300
"""Above this difference, signed requests and certificates are refused, and the times of runs are wrong."""


@functools.cache
def reach(address: str, user: str) -> str:
    """The version of the MLflow server at `address`, after it has accepted the log-in of `user`; checked once per process.

    Raises:
        UserError: it does not answer, refuses the log-in, or is older than this project's MLflow.
    """
    try:
        response = ask(address, "/version")
    except (MlflowException, requests.RequestException) as error:
        raise UserError(unreachable(address, error)) from None
    refused = refusal(response.status_code, response.text)
    if refused:
        raise UserError(f"the MLflow server at {address} {refused}")
    version: str = response.text.strip()
    if not re.fullmatch(r"\d+\.\d+\S*", version):
        raise UserError(f"what answers at {address} is no MLflow server: check MLFLOW_TRACKING_URI in .env")
    if _minor(version) < _minor(mlflow.__version__):
        raise UserError(
            f"the MLflow server at {address} has version {version}, older than this project's {mlflow.__version__}: "
            "ask who runs it to update it first"
        )
    off = clock(response.headers.get("Date", ""))
    if off > CLOCK_SECONDS:
        print(
            f"warning: this machine's clock and that of {address} differ by {off / 60:.0f} minutes: set it by the "
            "network's time, or the times of runs are wrong",
            file=sys.stderr,
        )
    return version


def ask(address: str, path: str) -> requests.Response:
    """A server's response to a request for `path`, with the log-in and the certificate authority from MLflow's own variables."""
    credentials = get_default_host_creds(address)  # type: ignore[no-untyped-call]
    patience = {"max_retries": 0, "timeout": PATIENCE_SECONDS, "raise_on_status": False}
    answer: requests.Response = http_request(credentials, path, "GET", **patience)  # type: ignore[no-untyped-call]
    return answer


def clock(date: str) -> float:
    """Seconds between this machine's clock and the `Date` of a response; 0 if it has none."""
    try:
        return abs(time.time() - email.utils.parsedate_to_datetime(date).timestamp())
    except (TypeError, ValueError):
        return 0.0


def unreachable(address: str, error: BaseException) -> str:
    """Why there was no response, and what to do about it."""
    causes = list(_causes(error))
    where = f"the MLflow server at {address}"
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate(where, cause)
    if any(isinstance(cause, requests.exceptions.SSLError) for cause in causes):
        return f"{where} does not speak TLS as it should: check http or https in MLFLOW_TRACKING_URI"
    if any(isinstance(cause, requests.exceptions.Timeout | urllib3.exceptions.ReadTimeoutError) for cause in causes):
        return f"{where} does not answer in time: check the network, or try again when it has less to do"
    return (
        f"no MLflow server answers at {address}: check MLFLOW_TRACKING_URI in .env and the network, or start one with "
        "`make tracking-server`"
    )


def _certificate(where: str, error: ssl.SSLCertVerificationError) -> str:
    why = error.verify_message
    if "not yet valid" in why:
        return f"{where} has a certificate that is not valid yet: is this machine's clock right?"
    if "expired" in why:
        return f"{where} has a certificate that has expired: ask who runs it to renew it (or is this clock wrong?)"
    return (
        f"{where} has a certificate that is not trusted ({why}): set MLFLOW_TRACKING_SERVER_CERT_PATH in .env to the "
        "file of its authority"
    )


def refusal(status: int, text: str) -> str:
    """What a server's refusal means, phrased to follow its name; empty if it did not refuse."""
    user, team = os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_WORKSPACE", "")
    if status == 401:
        return f"refuses the log-in of {user or 'nobody'}: check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in .env"
    if status == 403 and "host" in text.lower():
        return "refuses this host name: use one that its --allowed-hosts lists, in MLFLOW_TRACKING_URI"
    if status == 403:
        detail = (
            text.strip() if "maintainer" in text else f"does not let {user or 'nobody'} do this in workspace {team!r}"
        )
        return (
            f"{detail}: ask for the role that may (make tracking-users lists them), or check MLFLOW_WORKSPACE in .env"
        )
    if status >= 500:
        return f"has trouble itself (status {status}): is its database or artifact store away? ask who runs it, then try again"
    return ""


def explain(error: BaseException) -> str:
    """The line for an error that MLflow raised while talking to a server; empty if the server did not refuse anything."""
    address = mlflow.get_tracking_uri()
    causes = [cause for cause in _causes(error) if isinstance(cause, requests.RequestException)]
    answers = [cause.response for cause in causes if cause.response is not None]
    if causes and not answers:
        return unreachable(address, error)
    found = re.search(r"error code (\d{3})\b.*?(?:Response body: '(.*)')?$", str(error), flags=re.S)
    if answers:
        said = refusal(answers[0].status_code, answers[0].text)
    elif found:
        said = refusal(int(found[1]), found[2] or "")
    elif isinstance(error, MlflowException) and error.error_code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        said = refusal(403 if error.error_code == "PERMISSION_DENIED" else 401, str(error))
    else:
        said = ""
    return f"the MLflow server at {address} {said}" if said else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all its causes, including those that libraries pass as arguments."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        further = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        waiting += [one for one in further if isinstance(one, BaseException)]


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
