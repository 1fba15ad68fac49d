"""Rows that are not held in memory give the same training as rows that are."""

import pyarrow.parquet
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import parts, read, schema
from {{ cookiecutter.__package }}.data.clean import clean
from {{ cookiecutter.__package }}.data.split import split
from {{ cookiecutter.__package }}.training import train


@pytest.fixture
def folder(tmp_path, settings, monkeypatch):
    """The generated sample as two files, the newest rows first, that are read in parts of about 500 rows."""
    rows = schema.table(problem.sample(settings.data.sample_rows, settings.data.seed))
    for name, some in (("a", rows.slice(1_000)), ("b", rows.slice(0, 1_000))):
        pyarrow.parquet.write_table(some, tmp_path / f"{name}.parquet", row_group_size=250)
    monkeypatch.setattr(parts, "ROWS", 500)
    return tmp_path


def leftovers():
    return list((params.ROOT / ".cache").glob("training-*"))


def test_parts_are_split_and_named_as_all_rows_are(folder, settings):
    whole = split(clean(str(folder), read.read(folder)), settings.data.validation_share, settings.data.seed)
    listed, _, *sides = parts.split(str(folder), settings.data)
    assert len(listed) == settings.data.sample_rows / 500
    for side, expected in zip(sides, whole, strict=True):
        assert (side.rows, side.span, side.fingerprint) == (len(expected), expected.span, expected.fingerprint)
        assert (side.dropped, side.rows_read) == (expected.dropped, settings.data.sample_rows)
        assert side.places.tolist() == expected.places.tolist()


def test_a_sample_of_each_side_is_measured_and_all_rows_are_counted(folder, settings, monkeypatch):
    _, _, every, _ = parts.split(str(folder), settings.data)
    monkeypatch.setattr(parts, "SAMPLED", 400)
    *_, older, newest = parts.split(str(folder), settings.data)
    assert len(older) == pytest.approx(400, abs=100)
    assert len(newest) == pytest.approx(400, abs=100)
    assert (older.rows, older.fingerprint) == (every.rows, every.fingerprint)
    assert set(older.places) < set(every.places)


def test_a_training_on_disk_gives_what_one_in_memory_does(folder, settings, trained, tmp_path):
    # Which rows a tree is given depends on their order.
    (folder / "a.parquet").rename(folder / "c.parquet")
    with train.opened("disk", settings, str(folder)) as sides:
        made = train.train_on(sides, settings, tmp_path / "model")
        assert leftovers()
    assert not leftovers()
    assert made.card["data"] == trained.card["data"] | {"name": str(folder)}
    assert made.card["metrics"] == pytest.approx(trained.card["metrics"], rel=0.01)
    assert made.card["features"] == trained.card["features"]


def test_an_estimator_that_needs_all_rows_is_refused_with_those_that_do_not(folder, settings):
    linear = settings.model_copy(update={"model": params.Model(estimator="linear")})
    with pytest.raises(UserError, match=r"ENGINE=disk cannot fit linear; it can xgboost, "):
        train.opened("disk", linear, str(folder)).__enter__()


def test_a_part_that_cannot_be_read_is_named_and_nothing_is_left(folder, settings):
    rows = pyarrow.parquet.read_table(folder / "b.parquet")
    name = next(iter(problem.RAW))
    pyarrow.parquet.write_table(rows.drop_columns(name), folder / "b.parquet")
    with pytest.raises(UserError, match=rf"b\.parquet has no column {name}"):
        train.opened("disk", settings, str(folder)).__enter__()
    assert not leftovers()
