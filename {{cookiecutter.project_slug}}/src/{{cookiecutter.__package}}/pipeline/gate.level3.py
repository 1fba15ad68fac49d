"""The gate before the registry, with three verdicts: a worse model is refused, a better one is promoted."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from ..base import params, reports
from ..base.errors import UserError
from ..data.clean import Dataset
from ..model import bundle
from ..model.predictor import Predictor
from ..registry import champion_log, versions
from ..tracking import conventions, store
from ..tracking.conventions import Run
from ..training import evaluate
from . import rival, verdict
from .verdict import Verdict

PATIENCE_SECONDS = 600
"""The time limit of the behavioural tests."""


class Judged(NamedTuple):
    """The gate's result: lines for the terminal, Markdown for the model card, the verdict, and the champion it was compared with."""

    lines: list[str]
    report: str
    verdict: Verdict
    champion: str


def judge(trained: Run, champion: versions.Champion, newest: Dataset, settings: params.Params) -> Judged:
    """Compare a trained model with the champion on the rows `newest`, and run the behavioural tests.

    The verdict is a tag of the run; a refusal is also in the registry's log.

    Raises:
        UserError: it is worse than the champion or than the baseline, or a test of `tests/model` fails.
    """
    rules = verdict.Rules.load()
    worth = evaluate.beats_no_model(trained.card, rules.min_improvement)
    if champion.version is None:
        if failed := behaviour(trained.folder):
            raise UserError(f"gate: it fails a behavioural test: {failed}; nothing was registered")
        return Judged([f"{worth}; {champion.instead}"], "", Verdict("better", champion.instead, []), "")
    candidate = Predictor(bundle.read(trained.folder))
    found = _compared(candidate, champion.version, champion.model, newest, settings, rules)
    failed = behaviour(trained.folder) if found.outcome != "worse" else ""
    if failed:
        found = Verdict("worse", f"it fails a behavioural test: {failed}", found.rows)
    lines = list(verdict.lines(found))
    report = f"## Beside champion {champion.version.version}\n\n{found.outcome}: {found.why}\n\n{reports.table(verdict.HEADER, found.rows)}\n"
    with store.errors():
        client = mlflow.MlflowClient()
        client.set_tag(trained.run_id, "verdict", found.outcome)
        client.set_tag(trained.run_id, "verdict_reason", found.why)
        client.set_tag(trained.run_id, "verdict_beside", str(champion.version.version))
        client.log_text(trained.run_id, report, "verdict.md")
    if found.outcome == "worse":
        _note(champion.version.version, "refuse", f"run {trained.run_id[:8]}: {found.why}")
        print("\n".join(lines))
        raise UserError(f"gate: {found.why}; nothing was registered")
    return Judged(lines, report, found, str(champion.version.version))


def _compared(
    candidate: Predictor,
    version: ModelVersion,
    model: Predictor | None,
    newest: Dataset,
    settings: params.Params,
    rules: verdict.Rules,
) -> Verdict:
    ours = candidate.measured(newest.columns)
    try:
        theirs = model.measured(newest.columns) if model is not None else rival.scores(version, newest, settings.data)
    except rival.CannotCompareError as error:
        return Verdict("undecided", f"champion {version.version} cannot be compared: {error}", [])
    found = verdict.compare(newest, ours, theirs, rules, settings.data.seed)
    if model is None:
        return found
    times, row = verdict.slower(candidate, model, newest)
    if times > rules.max_latency:
        return Verdict("worse", f"one record takes {times:.2f} times as long as with the champion", [*found.rows, row])
    return Verdict(found.outcome, found.why, [*found.rows, row])


def behaviour(folder: Path) -> str:
    """Run `tests/model` against the bundle in a folder; returns the name of the first test that fails, or an empty string.

    Raises:
        UserError: they cannot be run here.
    """
    tests = params.ROOT / "tests" / "model"
    if not tests.exists():
        return ""
    if not importlib.util.find_spec("pytest"):
        raise UserError("gate: tests/model cannot be run, as pytest is not installed: run `make setup`")
    words = ["-q", "-x", "--no-header", "--tb=no", "-p", "no:cacheprovider", str(tests)]
    environment = {**os.environ, "BEHAVIOUR_OF": str(folder.resolve())}
    command = [sys.executable, "-m", "pytest", *words]
    try:
        done = subprocess.run(command, cwd=params.ROOT, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"tests/model does not end within {PATIENCE_SECONDS} s"
    if done.returncode in (0, 5):  # 5: there are none
        return ""
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0].partition("::")[2] if failed else (done.stdout + done.stderr).strip()[-200:]


def follow_up(version: str, judged: Judged) -> Iterator[str]:
    """Promote a better model if `[gate] promote` says so and this user may; yields a line for each step."""
    if judged.verdict.outcome != "better":
        _note(version, "undecided", f"version {version}: {judged.verdict.why}")
        yield f"it stays challenger; try it on some of the records: make ab SHARE=0.1 VERSION={version}"
    elif verdict.Rules.load().promote == "ask":
        yield f"promote it to serve it: make promote VERSION={version}"
    elif verdict.Rules.load().promote == "steps":
        yield "it is rolled out by steps: make operate"
    else:
        try:
            yield versions.promote(version, judged.verdict.why, judged.champion)
        except versions.OtherChampionError as error:
            yield f"it stays challenger: {error}; run the pipeline again to compare them"
        except (UserError, MlflowException) as error:
            if "maintainer" not in str(error):
                raise
            yield f"a maintainer may promote it: make promote VERSION={version}"


def _note(was: str, action: str, reason: str) -> None:
    """Log a decision that moves no alias in the registry's log, if this user may."""
    with store.errors():
        try:
            champion_log.note(store.connect(), conventions.model_name(), action, "", str(was), "", reason)
        except MlflowException as error:
            if "maintainer" not in str(error):
                raise
