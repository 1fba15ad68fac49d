"""Check windows of the prediction log: drift, quality and refused records, each with a limit; one MLflow run per window."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import mlflow
import requests
from mlflow.exceptions import MlflowException
from pydantic import Field

from .. import problem
from ..base import params
from ..base.errors import Parser
from ..data import drift
from ..data.drift import Drift, Lasting
from ..model import bundle, fetch
from ..tracking import conventions, store
from . import monitor_page, quality, windows
from .windows import Window

SHARES = "shares.json"
"""The run's file with the distribution of the window's features and predictions."""

ALARM = 4
"""The exit code of an alarm."""

TOLD = 10
"""The maximum number of features over their limit that are named."""

OLDEST = 60
"""The maximum number of windows that the first look checks, and that the page shows."""


class Monitor(params.Section):
    """What is too bad in a window, besides drift: shares of records, and of the loss on the validation rows."""

    table = "monitor"
    max_refused: float = Field(default=0.05, ge=0, le=1)
    max_worse: float = Field(default=0.2, ge=0)
    truth_delay: Lasting = "0s"


class Look(NamedTuple):
    """The result for a window: what is over its limit, each with its reason, the figures, and the share of each feature's bins."""

    begin: str
    end: str
    champion: str
    causes: dict[str, str]
    figures: dict[str, float]
    shares: Mapping[str, list[float]] = MappingProxyType({})
    run_id: str = ""
    alerted: Sequence[str] = ()


class Finding(NamedTuple):
    """All looks since the champion serves, the causes that are an alarm now, the new looks, and the number of windows without traffic."""

    looks: list[Look]
    alarms: dict[str, str]
    fresh: list[Look]
    idle: int = 0


def champion() -> dict[str, Any]:
    """The champion's card.

    Raises:
        UserError: there is no champion, or the registry cannot be reached.
    """
    return bundle.read(fetch.folder(f"models:/{conventions.model_name()}@champion")).card


def look(new: bool = False, card: dict[str, Any] | None = None) -> Finding:
    """Check each finished window that was not checked yet; with `new`, everything since the last look as one window.

    `card` is the champion's, if it is already fetched.

    Raises:
        UserError: there is no champion, or the registry cannot be reached.
    """
    rules, limits, card = Drift.load(), Monitor.load(), card or champion()
    version, since = str(card["model_version"]), _since()
    known = [each for each in history() if each.champion == version and each.end > since]
    begin, now = _begin(known, since, rules), datetime.now(UTC)
    length = timedelta(seconds=rules.seconds)
    end = now if new else begin + (now - begin) // length * length
    if end <= begin:
        return Finding(known, alarms(known, rules), [])
    fresh = []
    for window in windows.read(begin, end, 0 if new else rules.seconds, card, drift.seconds(limits.truth_delay)):
        fresh.append(_keep(judge(window, card, rules, limits)))
    idle = (1 if new else (end - begin) // length) - len(fresh)
    return Finding(known + fresh, alarms(known + fresh, rules), fresh, idle)


def judge(window: Window, card: dict[str, Any], rules: Drift, limits: Monitor) -> Look:
    """What is over its limit in a window, and the figures."""
    indices = drift.psi(card.get("distribution", {}), window.counts)
    causes, enough = {}, window.readable >= rules.min_rows
    most = drift.limits_for(card.get("drift", {"sizes": []}), window.readable) if enough else {}
    off = {name: indices[name] for name, limit in most.items() if indices.get(name, 0) > limit}
    if off:
        worst = sorted(off.items(), key=lambda each: -each[1])
        told = [f"{name} {index:.3f}, limit {most[name]:.3f}" for name, index in worst[:TOLD]]
        causes["drift"] = ", ".join(told) + (f" and {len(off) - TOLD} more" if len(off) > TOLD else "")
    if window.refused_share > limits.max_refused and window.refused + window.answers >= rules.min_rows:
        causes["refused"] = f"{window.refused_share:.1%} of records were refused, {limits.max_refused:.1%} may be"
    metric = window.measured()
    if metric is not None and windows.worse(card, metric, limits.max_worse):
        causes["quality"] = (
            f"{metric[0]} {metric[1]:.4g} ({metric[2]:.4g} to {metric[3]:.4g}), {card['metrics'][problem.METRIC]:.4g} on the validation rows"
        )
    figures: dict[str, float] = {
        "answers": window.answers,
        "readable": window.readable,
        "refused": window.refused,
        "truths": window.truths,
        **{f"drift_{name}": index for name, index in indices.items() if window.answers},
        **{f"limit_{name}": limit for name, limit in most.items()},
        **{f"missing_{name}": count / window.answers for name, count in window.missing.items() if count},
    }
    if problem.METRIC in card.get("metrics", {}):
        figures["expected"] = card["metrics"][problem.METRIC]
    if metric:
        figures |= dict(zip((metric[0], f"{metric[0]}_low", f"{metric[0]}_high"), metric[1:], strict=True))
    figures |= {f"milliseconds_{percent}": took for percent in (50, 99) if (took := window.latency(percent / 100))}
    shares = {name: (bins / max(bins.sum(), 1)).round(5).tolist() for name, bins in window.counts.items()}
    ends = windows.stamp(window.begin), windows.stamp(window.end)
    return Look(*ends, str(card["model_version"]), causes, figures, shares)


def alarms(looks: Sequence[Look], rules: Drift) -> dict[str, str]:
    """The causes that enough of the last windows have, each with the reason from the last window that has it.

    A window with too few rows neither raises an alarm nor ends one.
    """
    found = {}
    for cause in dict.fromkeys(name for each in looks for name in each.causes):
        told = [each for each in looks if _tells(cause, each.figures, rules)]
        if drift.alarm([cause in each.causes for each in told], rules):
            found[cause] = next(each.causes[cause] for each in reversed(told) if cause in each.causes)
    return found


def _tells(cause: str, figures: dict[str, float], rules: Drift) -> bool:
    if cause == "quality":
        return figures["truths"] >= quality.FEW
    seen = figures["answers"] + figures["refused"] if cause == "refused" else figures["readable"]
    return seen >= rules.min_rows


def history(most: int = OLDEST) -> list[Look]:
    """The results for the last windows, oldest first, from MLflow."""
    with store.errors():
        client, latest = store.connect(), ["tags.window_end DESC"]
        runs = client.search_runs([conventions.experiment("monitor")], order_by=latest, max_results=most)
    looks = {}
    for run in runs:
        if (tags := run.data.tags).get("causes") and run.info.status == "FINISHED":
            what = tags["window_begin"], tags["window_end"], tags["champion"]
            alerted = tags.get("alerted", "").split()
            # Two machines may have checked the same window.
            looks[what] = Look(*what, json.loads(tags["causes"]), dict(run.data.metrics), {}, run.info.run_id, alerted)
    return sorted(looks.values(), key=lambda each: each.end)


def _keep(found: Look) -> Look:
    tags = {"window_begin": found.begin, "window_end": found.end, "champion": found.champion}
    name = f"{found.begin[:19]}: {', '.join(found.causes) or 'nothing to see'}"
    with store.errors():
        store.connect()
        with mlflow.start_run(experiment_id=conventions.experiment("monitor"), run_name=name, tags=tags) as run:
            # MLflow accepts no other characters in a name.
            mlflow.log_metrics({re.sub(r"[^\w./: -]", "_", key): value for key, value in found.figures.items()})
            mlflow.log_dict(dict(found.shares), SHARES)
            # The run counts once it has this tag: an interrupted one is repeated.
            mlflow.set_tag("causes", json.dumps(found.causes))
    return found._replace(run_id=run.info.run_id)


def _since() -> str:
    """When the champion began to serve, in the log's time format."""
    _, notes = fetch.registered(conventions.model_name())
    at = next((note["at"] for note in notes if note["alias"] == "champion"), "1970-01-01T00:00:00Z")
    return windows.stamp(datetime.fromisoformat(at))


def _begin(known: list[Look], since: str, rules: Drift) -> datetime:
    """Where the next window begins: where the last one ended, else when the champion began to serve."""
    if known:
        return datetime.fromisoformat(known[-1].end)
    oldest = windows.ago(OLDEST * rules.seconds).timestamp() // rules.seconds * rules.seconds
    return datetime.fromisoformat(max(since, windows.stamp(datetime.fromtimestamp(oldest, UTC))))


def alert(found: Finding, rules: Drift) -> None:
    """Post each new alarm to `ALERT_WEBHOOK`, once per cause; what could not be posted is posted at the next look."""
    address = os.environ.get("ALERT_WEBHOOK", "")
    causes = {name: why for name, why in found.alarms.items() if not _alerted(found.looks, name, rules)}
    if not address or not causes:
        return
    said = "; ".join(f"{name}: {why}" for name, why in causes.items())
    content: dict[str, Any] = {"text": f"{conventions.model_name()}: {said}", "causes": causes}
    try:
        answer = requests.post(address, json=content, timeout=10)
        answer.raise_for_status()
        # Some receivers refuse a wrong token with an answer of status 200.
        if answer.text.startswith("{") and answer.json().get("error"):
            raise requests.RequestException(answer)
    except requests.RequestException as error:
        # The address may end with a token: it stays out of logs, and so does the error's own text.
        where = urlsplit(address).hostname
        print(f"warning: the alert could not be posted to {where} ({type(error).__name__})", file=sys.stderr)
        return
    told = " ".join({*causes, *found.looks[-1].alerted})
    with store.errors():
        store.connect().set_tag(found.looks[-1].run_id, "alerted", told)


def _alerted(looks: Sequence[Look], cause: str, rules: Drift) -> bool:
    """Whether a cause was posted since it became an alarm."""
    for number in range(len(looks), 0, -1):
        if cause not in alarms(looks[:number], rules):
            return False
        if cause in looks[number - 1].alerted:
            return True
    return False


def watch(new: bool = False) -> Finding:
    """Check, and report on the terminal, on the page, in the file for Prometheus and to the webhook."""
    rules, card = Drift.load(), champion()
    found = look(new, card)
    for each in found.fresh:
        told = "; ".join(f"{name}: {why}" for name, why in each.causes.items())
        if told and not found.alarms:
            told += f" (an alarm takes {rules.over} of {rules.of} windows)"
        few = each.figures["answers"] < rules.min_rows
        usual = f"too few to tell ({rules.min_rows} are needed)" if few else "nothing to see"
        print(f"{each.begin[:19]} to {each.end[11:19]}: {each.figures['answers']:,.0f} answers; {told or usual}")
    if found.idle and new:
        print("no traffic since the last look")
    elif found.idle:
        print(f"{found.idle:,} window{'s' * (found.idle > 1)} of {rules.window} without traffic")
    if not found.fresh and not found.idle:
        print(f"no window of {rules.window} has ended since the last run (NEW=1 checks the current one)")
    looks, now = history(), {}
    with contextlib.suppress(MlflowException, OSError):  # a missing figure is no reason to stop
        # The bins are those of the champion's training data: those of another model cannot be compared.
        if looks and looks[-1].champion == str(card["model_version"]):
            now = mlflow.artifacts.load_dict(f"runs:/{looks[-1].run_id}/{SHARES}")
    monitor_page.write(looks, found.alarms, card, now)
    monitor_page.expose(found.looks, found.alarms)
    alert(found, rules)
    for name, why in found.alarms.items():
        print(f"ALARM {name}: {why}")
    return found


def main() -> int:
    """`make monitor`: check the answers since the last look; exit code 4 is an alarm."""
    parser = Parser(prog="make monitor", description=main.__doc__)
    parser.add_argument("--new", action="store_true", help="everything since the last look is one window (NEW=1)")
    found = watch(parser.parse_args().new)
    print("report: reports/monitor.html")
    return ALARM if found.alarms else 0
