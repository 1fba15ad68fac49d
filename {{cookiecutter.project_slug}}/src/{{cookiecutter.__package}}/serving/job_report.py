"""`make score`, with a page about the job on request: its rows, why some were refused, its predictions beside those for the training data."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .. import problem
from ..base.errors import UserError
from ..data import drift
from ..data.storage import Place
from ..model import conformal
from . import batch
from .job import Counts
from .scorer import Scored

MOST_REASONS, MOST_EXAMPLES, MOST_CHARACTERS = 100, 3, 40
"""How much is held of refused rows, so that memory does not grow with their number."""

OTHER = ("", "any other reason")


class Seen:
    """What a report tells of a job's batches; a job calls it with each.

    Args:
        card: the model's.
    """

    def __init__(self, card: dict[str, Any]) -> None:
        # A model that was trained at a lower level has none.
        known = card.get("distribution", {}).get(drift.PREDICTION, {"edges": [], "shares": []})
        self._known: drift.Reference = {drift.PREDICTION: known} if known["edges"] else {}
        self._field, self._private = _watched(), set(getattr(problem, "PRIVATE", ()))
        names = conformal.classes(card) if problem.TASK == "multiclass" else []
        self._classes = {str(name): number for number, name in enumerate(names)}
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.examples: dict[tuple[str, str], list[str]] = {}
        self.bins = np.zeros(len(known["shares"]), np.int64)

    def __call__(self, source: Place, scored: Scored) -> None:
        """Count a batch."""
        said = scored.accepted.column(self._field)
        if self._classes:
            said = pa.array([self._classes.get(str(each)) for each in said.to_pylist()], pa.float64())
        values = said.cast(pa.float64()).to_numpy(zero_copy_only=False)
        self.bins += drift.counts(self._known, {drift.PREDICTION: values}).get(drift.PREDICTION, 0)
        columns = {problem.ALIASES.get(name, name): name for name in scored.rejected.schema.names}
        for row, reason in enumerate(scored.rejected.column("reason").to_pylist()):
            key = self._said(reason)
            key = key if key in self.reasons or len(self.reasons) < MOST_REASONS else OTHER
            self.reasons[key] += 1
            held = self.examples.setdefault(key, [])
            if len(held) < MOST_EXAMPLES:
                where = f"row {scored.rejected.column('row_number')[row]} of {source.path.rpartition('/')[2]}"
                if key[0] in columns and key[0] not in self._private:
                    value = scored.rejected.column(columns[key[0]])[row].as_py()
                    where += " (missing)" if value is None else f" ({value!r:.{MOST_CHARACTERS}})"
                held.append(where)

    def _said(self, reason: str) -> tuple[str, str]:
        """A field and what is wrong with it, without anything of a private field."""
        field, _, why = reason.partition(": ")
        if field.startswith("the line has "):
            return "", field
        # A rule of the project's own may repeat the value.
        if field in self._private or (self._private and field == "(body)"):
            why = "its value breaks a rule"
        return field, re.sub(r" \(and \d+ more\)$", "", why)

    @property
    def shares(self) -> list[float]:
        """The share of the predictions in each bin; empty if there are none."""
        return (self.bins / self.bins.sum()).tolist() if self.bins.sum() else []

    @property
    def index(self) -> float:
        """How far the predictions are from those for the training data."""
        return drift.psi(self._known, {drift.PREDICTION: self.bins})[drift.PREDICTION]

    def picture(self) -> bytes:
        """The predictions beside those for the training data: PNG."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 3), layout="constrained")
        axes, then = figure.subplots(), self._known[drift.PREDICTION]
        places = np.arange(len(self.bins))
        axes.bar(places - 0.2, then["shares"], 0.4, color="grey", label="training data")
        axes.bar(places + 0.2, self.shares, 0.4, color="C0", label="this job")
        names = list(self._classes)
        labels = [names[int(edge)] if names else f"{edge:.3g}" for edge in then["edges"]]
        axes.set_xticks(places, ["lower", *labels, "missing"], fontsize="small")
        axes.set_xlabel(f"{self._field}{problem.UNIT and f' in {problem.UNIT}'}, from each value on")
        axes.set_ylabel("share of the rows")
        axes.legend()
        held = io.BytesIO()
        figure.savefig(held, dpi=90)
        return held.getvalue()


def _watched() -> str:
    """The field of an answer whose distribution the card has: the target, or the probability of class 1."""
    if problem.TASK != "binary":
        return problem.TARGET
    # The field with the probability is the one whose values follow the score.
    scores = np.array([0.1234, 0.8766], np.float32)
    tried = problem.answer(scores).items()
    close = (name for name, each in tried if each.dtype.kind == "f" and np.allclose(each, scores, atol=1e-3))
    return next(close, problem.TARGET)


def markdown(card: dict[str, Any], given: Any, counts: Counts, seconds: float, seen: Seen) -> str:
    """The report as Markdown, of a job with the options `given`."""
    from ..base import reports

    figures = [
        ["model", f"{card['name']} {card['model_version']} (run `{card['run_id']}`)"],
        ["SHA-256 of the model", f"`{card['graph_sha256']}`"],
        ["input", f"`{given.input}`"],
        ["output", f"`{given.output}`"],
        ["rows read", f"{counts.rows:,}"],
        ["scored", f"{counts.rows - counts.rejected:,}"],
        ["rejected", f"{counts.rejected:,} ({counts.rejected / max(counts.rows, 1):.2%})"],
        ["files written", f"{counts.files:,}"],
        ["files up to date, not read", f"{counts.up_to_date:,}"],
        ["time", f"{seconds:.1f} s, {counts.rows / seconds:,.0f} rows/s"],
    ]
    failed = [f"- **error**: {reason}" for reason in (*counts.failed, *counts.refused)]
    rejected = [
        [field or "-", why, f"{count:,}", "; ".join(seen.examples[field, why])]
        for (field, why), count in seen.reasons.most_common()
    ]
    refused = reports.table(["field", "reason", "rows", "for example"], rejected) if rejected else "None."
    told = (
        f"The stability index is {seen.index:.3f}: 0 for the same distribution as in training, {drift.DRIFTED} or more for another one."
        if seen.shares
        else "There are none, or the model's card has none of its training data to compare them with."
    )
    parts = [f"# Scoring job of {card['name']}", *failed, reports.table(figures[0], figures[1:])]
    return "\n\n".join([*parts, "## Rejected rows", refused, "## Predictions", told]) + "\n"


def main() -> int:
    """`make score`: predictions for the rows of INPUT, written to OUTPUT; with REPORT also a page about the job."""
    parser = batch.arguments()
    parser.add_argument("--report", default="", help="write a page about the job (REPORT=reports/job.html)")
    given = parser.parse_args()
    if not given.report:
        return batch.main(given)
    page = Path(given.report)
    if page.suffix != ".html" or "://" in given.report:
        raise UserError(f"REPORT={given.report} is no page on this machine: REPORT=reports/job.html")
    if given.engine == "spark":
        raise UserError("REPORT is for jobs on one machine: leave it out, or leave out ENGINE=spark")
    try:
        # An image that scores has neither these nor what they import.
        import matplotlib  # noqa: F401

        from ..base import reports
    except ImportError as error:
        raise UserError(f"REPORT needs the packages of training, and {error.name} is not here: leave it out") from None
    page.parent.mkdir(parents=True, exist_ok=True)
    ready = batch.prepared(given)
    seen = ready.work.watch = Seen(ready.card)
    counts, seconds = batch.carried_out(ready, force=given.force)
    text, title = markdown(ready.card, given, counts, seconds, seen), f"Scoring job of {ready.card['name']}"
    pictures = {"predictions of this job and of the training data": seen.picture()} if seen.shares else {}
    reports.write(page.parent, page.stem, title, text, pictures)
    code = batch.report(counts, seconds)
    print(f"report: {page}")
    return code
