"""Ground truth: stored beside the prediction log, and joined with it by the prediction's or the record's id."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from .. import problem
from ..base import params
from ..base.errors import Parser, UserError, first_line
from ..data import read
from ..model.ab_split import known_as
from ..model.predictor import PREDICTION
from . import logged

TRUTH = params.ROOT / "truth"
"""A copy of each file of truths, named by its content: the same file twice is stored once."""

YES_NO = {"true": 1.0, "yes": 1.0, "1": 1.0, "false": 0.0, "no": 0.0, "0": 0.0}


def add(path: Path) -> tuple[int, int]:
    """Store the truth in a CSV or Parquet file; returns its number of rows, and how many of them have no truth that training would use.

    The file has `prediction_id` or the record's id, and the target: in a column of that name, or in the columns that
    `problem.target` reads.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    table, written = read.table(path)
    if not (keys := [name for name in (PREDICTION, problem.ID) if name in table.column_names]):
        raise UserError(f"{path} has neither {PREDICTION} nor {problem.ID}: add one of them")
    try:
        columns = {name: pa.array(map(known_as, table.column(name).to_pylist()), pa.string()) for name in keys}
        truth = _truth(table, written, path)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from None
    if numeric := truth.dtype.kind == "f":
        # Rows that training would drop are no measure of a model that was never trained on such rows.
        broken = [rule(truth) for rule in problem.TARGET_RULES.values()]
        truth = np.where(np.any([~np.isfinite(truth), *broken], axis=0), np.nan, truth)
    columns["truth"] = pa.array(truth, pa.float64() if numeric else pa.string(), from_pandas=True)
    TRUTH.mkdir(exist_ok=True)
    name = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    partial = TRUTH / f".{name}.partial"
    pa.parquet.write_table(pa.table(columns), partial)
    partial.replace(TRUTH / f"{name}.parquet")
    return len(truth), int(columns["truth"].null_count)


def _truth(table: pa.Table, written: read.Dialect, path: Path) -> NDArray[Any]:
    if problem.TARGET in table.column_names:
        values = table.column(problem.TARGET)
        if problem.TASK == "multiclass":
            return np.array([None if each is None else str(each) for each in values.to_pylist()], object)
        if not pa.types.is_string(values.type):
            return np.array([np.nan if each is None else float(each) for each in values.to_pylist()], np.float64)
        words = {str(each).strip().lower() for each in values.to_pylist() if each is not None}
        if problem.TASK == "binary" and words - {""} <= set(YES_NO):
            return np.array([YES_NO.get(str(each).strip().lower(), np.nan) for each in values.to_pylist()], np.float64)
        if problem.TARGET not in problem.RAW:
            return read.column(values, problem.TARGET, float, written)
    there = {problem.ALIASES.get(name, name): name for name in table.column_names}
    raw = {
        name: read.column(table.column(there[name]), name, kind, written)
        for name, kind in problem.RAW.items()
        if name in there
    }
    try:
        return problem.target(raw)
    except KeyError as error:
        raise UserError(f"{path} has no column {problem.TARGET}, and none called {error.args[0]}") from None


def known() -> dict[tuple[str, str], Any]:
    """(name of the key, key) -> truth; the one given last counts. A file that cannot be read is left out with a warning."""
    found: dict[tuple[str, str], Any] = {}
    for path in sorted(TRUTH.glob("*.parquet"), key=lambda each: each.stat().st_mtime):
        try:
            table = pa.parquet.read_table(path)
        except (OSError, pa.ArrowException) as error:
            print(f"warning: {path} is left out: {first_line(error)}", file=sys.stderr)
            continue
        # The task may have been different when it was stored.
        kind = str if problem.TASK == "multiclass" else float
        truths = [each if isinstance(each, kind) else None for each in table.column("truth").to_pylist()]
        for name in (problem.ID, PREDICTION):
            if name in table.column_names:
                pairs = zip(table.column(name).to_pylist(), truths, strict=True)
                found |= {(name, key): truth for key, truth in pairs if key is not None and truth is not None}
    return found


def of(row: dict[str, Any], truths: dict[tuple[str, str], Any]) -> Any:
    """The truth of a logged prediction; None if it is not known yet."""
    came = truths.get((PREDICTION, row["prediction_id"]))
    name = known_as(row["record"].get(problem.ID))
    return truths.get((problem.ID, name)) if came is None and name is not None else came


class Said:
    """The predicted value in an answer that the metric uses: the target, the probability of class 1, or the class."""

    def __init__(self) -> None:
        self._field = problem.TARGET
        if problem.TASK == "binary":
            # The field with the probability is the one whose values follow the score.
            tried = problem.answer(np.array([0.1234, 0.8766], np.float32))
            close = [name for name, values in tried.items() if values.dtype.kind == "f" and np.allclose(values, [0.1234, 0.8766], atol=1e-3)]  # fmt: skip
            self._field = close[0] if close else problem.TARGET

    def __call__(self, answer: dict[str, Any]) -> Any:
        """The predicted value in a logged answer; None if its form differs, because the log is older than an edit of problem.py."""
        try:
            return (str if problem.TASK == "multiclass" else float)(answer[self._field])
        except (KeyError, TypeError, ValueError):
            return None


def main() -> None:
    """`make truth`: store the truth from DATA=file, and print how many predictions have theirs."""
    parser = Parser(prog="make truth", description=main.__doc__)
    parser.add_argument("--data", default="", help="a CSV or Parquet file (DATA=truth.csv)")
    given = parser.parse_args()
    if not given.data:
        raise UserError(f"which file? make truth DATA=truth.csv, with {PREDICTION} or {problem.ID}, and {problem.TARGET}")  # fmt: skip
    if not Path(given.data).is_file():
        raise UserError(f"DATA={given.data} does not exist")
    before = known()
    rows, missing = add(Path(given.data))
    truths = known()
    if other := sum(before[key] != came for key, came in truths.items() if key in before):
        print(f"warning: {other:,} truths differ from earlier ones: the latest ones count", file=sys.stderr)
    found = [of(row, truths) is not None for row in logged.rows() if row["role"] != "shadow"]
    print(
        f"{rows - missing:,} truths kept, {missing:,} rows without one that training would use; {sum(found):,} of {len(found):,} predictions have theirs"
    )
