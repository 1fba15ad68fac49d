"""Champion and challenger as one predictor: a stable hash of each record's key decides which of them answers."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from .. import problem
from ..base.fields import Columns
from ..data import schema
from . import bundle, conformal, live, load
from .bundle import Bundle
from .explain import Explaining
from .live import State
from .predictor import Fixed, Predicts

WAITING = 64
"""The maximum number of queued shadow batches; further ones are skipped."""

ROLE = {"role": {"type": "string", "description": "Who answered: champion, or challenger in a running comparison"}}

ONE = {role: np.array([role], object) for role in ("champion", "challenger", "shadow")}


class Split(Fixed):
    """Two predictors as one; the challenger gets a fixed share of the keys.

    A key is the record's `problem.ID`, else the record itself. Its position between 0 and 1 is the SHA-256 of the
    experiment's name and the key, so that every worker, host and restart assigns it alike, and another experiment
    assigns anew (Kohavi, Tang and Xu 2020, chapter 14).

    Args:
        champion: answers what the challenger does not.
        challenger: the model on trial, if any.
        share: of the keys, from 0 to 1, that the challenger answers.
        experiment: the name that is hashed with each key.
        shadow: the share of the keys for which the challenger's answer is only logged.
        note: receives the columns, answers and milliseconds per record of a shadow batch.
    """

    def __init__(
        self,
        champion: Predicts,
        challenger: Predicts | None = None,
        share: float = 0.0,
        experiment: str = "",
        shadow: float = 0.0,
        note: Callable[[Columns, Columns, float], None] | None = None,
    ) -> None:
        self._champion, self._challenger = champion, challenger
        self._share, self._experiment, self._shadow = share if challenger else 0.0, experiment, shadow
        self._note = note if challenger and shadow else None
        self._waiting: queue.Queue[Columns | None] = queue.Queue(WAITING)
        if self._note:
            threading.Thread(target=self._shadows, daemon=True, name="shadow").start()
        beside = (
            {"challenger": challenger.card["model_version"], "share": share} if challenger else {"challenger": None}
        )
        self.card = {**champion.card, "serving": beside}
        self.fields: Mapping[str, Any] = {**champion.fields, **ROLE}
        self.additions: Mapping[str, Any] = champion.additions
        if self._share and challenger:
            self.additions = {
                name: _Parted(each, challenger.additions[name], self._answers)
                for name, each in champion.additions.items()
                if name in challenger.additions
            }

    def close(self) -> None:
        """Stop the shadow thread once its queue is done."""
        if self._note is not None:
            self._waiting.put(None)

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The answers for n records, each of shape (n,), with `role`: `champion` or `challenger`."""
        rows = len(next(iter(columns.values())))
        if not self._share and self._note is None:
            return _with_role(self._champion.predict(columns), "champion", rows)
        if rows == 1 and self._note is None:  # the most frequent request needs no mask
            tried_one = place(self._experiment, keys(columns, 1)[0]) < self._share
            one, role = (self._challenger, "challenger") if tried_one else (self._champion, "champion")
            return _with_role(one.predict(columns), role, 1)  # type: ignore[union-attr]
        places = self._places(columns, rows)
        tried = places < self._share
        if self._note is not None:
            self._shadowed(columns, (1 - places < self._shadow) & ~tried)
        parts = [(self._champion, "champion", ~tried), (self._challenger, "challenger", tried)]
        found = [
            (mask, _with_role(model.predict(_rows(columns, mask)), role, int(mask.sum())))
            for model, role, mask in parts
            if model is not None and (mask.any() or (model is self._champion and not rows))
        ]
        if len(found) == 1:
            return found[0][1]
        answers = {name: np.empty(rows, each.dtype) for name, each in found[0][1].items()}
        for mask, answer in found:
            for name, values in answer.items():
                answers[name][mask] = values
        return answers

    def _answers(self, columns: Columns) -> NDArray[np.bool_]:
        """Which of n records the challenger answers, shape (n,)."""
        return self._places(columns, len(next(iter(columns.values())))) < self._share

    def _places(self, columns: Columns, rows: int) -> NDArray[np.float64]:
        return np.array([place(self._experiment, key) for key in keys(columns, rows)], np.float64)

    def _shadowed(self, columns: Columns, mask: NDArray[np.bool_]) -> None:
        if mask.any():
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait(_rows(columns, mask))

    def _shadows(self) -> None:
        """Let the challenger answer the queued batches; the champion's client must never wait for it."""
        while (columns := self._waiting.get()) is not None:
            try:
                started = time.perf_counter()
                answers = self._challenger.predict(columns)  # type: ignore[union-attr]
                rows = len(answers["model_version"])
                seconds = time.perf_counter() - started
                self._note(columns, _with_role(answers, "shadow", rows), seconds * 1000 / rows)  # type: ignore[misc]
            except Exception as error:  # a model on trial may raise anything
                print(f"warning: the shadow has no answer: {type(error).__name__}: {error}", flush=True)


class _Parted:
    """An addition to an answer, computed by the model that answers the record."""

    def __init__(self, one: Any, other: Any, which: Callable[[Columns], NDArray[np.bool_]]) -> None:
        self._one, self._other, self._which = one, other, which
        self.field, self.about, self.schema, self.most = one.field, one.about, one.schema, one.most

    def rows(self, columns: Columns) -> list[Any]:
        """One value per record."""
        tried = self._which(columns)
        ours, theirs = (
            iter(each.rows(_rows(columns, mask)) if mask.any() else ())
            for each, mask in ((self._one, ~tried), (self._other, tried))
        )
        return [next(theirs if each else ours) for each in tried.tolist()]

    def columns(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """Columns of shape (n,)."""
        tried = self._which(columns)
        found = dict(self._one.columns(columns))
        if tried.any():
            for name, values in self._other.columns(_rows(columns, tried)).items():
                found[name] = np.array(found[name])
                found[name][tried] = values
        return found


class Notes(Protocol):
    """Receives a shadow's answers."""

    def note(self, columns: Columns, answers: Columns, milliseconds: float) -> None:
        """Store n answers, each of shape (n,), `milliseconds` per record."""


class Served(NamedTuple):
    """What a predictor is built from: at most two models, and the registry's state."""

    champion: Bundle
    challenger: Bundle | None
    said: State


def read(said: State | None = None) -> Served:
    """The models that answer: those that the parent process has pinned, else those that the registry names now.

    Raises:
        ModelError: there is no model to serve.
    """
    said = said or live.pinned() or live.now(load.address())
    challenger = bundle.read(Path(said.challenger)) if said.challenger else None
    return Served(bundle.read(Path(said.champion)), challenger, said)


def build(served: Served | Bundle | None = None, log: Notes | None = None) -> Split:
    """Both models as one predictor that never changes; from `served`, else from what `read` returns.

    `log` receives a shadow's answers.

    Raises:
        ModelError: there is no model to serve, or it does not fit this code.
    """
    if isinstance(served, Bundle):
        return Split(_explaining(served))
    champion, challenger, said = served or read()
    beside = _explaining(challenger, champion) if challenger else None
    return Split(
        _explaining(champion, challenger), beside, said.ab, said.experiment, said.shadow, log.note if log else None
    )


def _explaining(served: Bundle, beside: Bundle | None = None) -> Explaining:
    return Explaining(conformal.predictor(served, beside), served)


def keys(columns: Columns, rows: int) -> list[str]:
    """The key of each of n records: its id, else the record itself as JSON."""
    ids = list(map(known_as, columns[problem.ID].tolist())) if problem.ID in columns else [None] * rows
    if None not in ids:
        return ids  # type: ignore[return-value]
    records = zip(*(columns[field.name].tolist() for field in schema.FIELDS), strict=True)
    return [
        to_json(record, inf_nan_mode="null").decode() if each is None else each
        for each, record in zip(ids, records, strict=True)
    ]


def known_as(given: Any) -> str | None:
    """A record's id as text, the same from a request, an event or a file; None if missing or blank."""
    text = given.decode(errors="replace") if isinstance(given, bytes) else str(given)
    # pandas turns a column of integers with a missing value into floats.
    whole = re.sub(r"\A(-?\d+)\.0+\Z", r"\1", text.strip())
    return None if given is None or given != given else whole or None


def place(experiment: str, key: str) -> float:
    """The position of a key in an experiment, from 0 to 1."""
    digest = hashlib.sha256(f"{experiment}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _rows(columns: Columns, mask: NDArray[np.bool_]) -> Columns:
    return columns if mask.all() else {name: values[mask] for name, values in columns.items()}


def _with_role(answers: dict[str, NDArray[Any]], role: str, rows: int) -> dict[str, NDArray[Any]]:
    return {**answers, "role": ONE[role].repeat(rows)}
