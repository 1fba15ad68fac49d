"""Reading, cleaning and splitting: what goes in, what is dropped and why, what comes out."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from records import REQUIRED

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import clean, read
from {{ cookiecutter.__package }}.data.split import split

NUMBER = next(field for field in REQUIRED if field.kind is float)


@pytest.fixture
def raw():
    return dict(problem.prepare(problem.sample(400, seed=1)))


def test_every_row_is_either_kept_or_counted_under_the_rule_that_dropped_it(raw):
    values = raw[NUMBER.name].astype(float)
    values[:3], values[3:5] = NUMBER.least - 1, np.nan
    cleaned = clean.clean("raw", {**raw, NUMBER.name: values})
    assert cleaned.dropped[f"{NUMBER.name} under {NUMBER.least:g}"] == 3
    assert cleaned.dropped[f"{NUMBER.name} missing"] == 2
    assert len(cleaned) + sum(cleaned.dropped.values()) == cleaned.rows_read == 400


def test_the_split_loses_no_row_and_is_the_same_every_time(dataset):
    older, newest = split(dataset, 0.2)
    assert len(older) + len(newest) == len(dataset)
    assert sorted([*older.target, *newest.target]) == sorted(dataset.target)
    assert abs(len(newest) - round(len(dataset) * 0.2)) <= 2
    assert [part.fingerprint for part in split(dataset, 0.2)] == [older.fingerprint, newest.fingerprint]
    if problem.TIME:
        assert older.columns[problem.TIME].max() <= newest.columns[problem.TIME].min()
    elif problem.TASK != "regression":
        assert older.target.mean() == pytest.approx(newest.target.mean(), abs=0.01)


def test_parquet_and_csv_give_the_same_rows_whatever_else_is_in_them(raw, tmp_path):
    given = pa.table({**raw, "note": pa.nulls(400)})
    pa.parquet.write_table(given, tmp_path / "raw.parquet")
    pa.csv.write_csv(given, tmp_path / "raw.csv")
    files = sorted(tmp_path.iterdir())
    assert len({clean.clean(file.name, read.read(file)).fingerprint for file in files}) == 1


def test_the_fingerprint_changes_with_a_single_value(raw):
    before = clean.clean("raw", raw).fingerprint
    raw[NUMBER.name][7] += 0.01
    assert clean.clean("raw", raw).fingerprint != before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.parquet does not exist"):
        read.read(tmp_path / "nothing.parquet")


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="not a readable parquet file"):
        read.read(tmp_path / "broken.parquet")


def test_a_missing_column_is_named(raw, tmp_path):
    del raw[NUMBER.name]
    pa.parquet.write_table(pa.table(raw), tmp_path / "raw.parquet")
    with pytest.raises(UserError, match=f"no column {NUMBER.name}"):
        read.read(tmp_path / "raw.parquet")


def test_a_column_of_the_wrong_type_is_named(raw, tmp_path):
    raw[NUMBER.name] = np.full(400, "far")
    pa.parquet.write_table(pa.table(raw), tmp_path / "raw.parquet")
    with pytest.raises(UserError, match=f"column {NUMBER.name} should hold numbers"):
        read.read(tmp_path / "raw.parquet")


def test_a_file_without_rows_is_refused(raw, tmp_path):
    pa.parquet.write_table(pa.table(raw).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(UserError, match="no row is left"):
        clean.clean("empty", read.read(tmp_path / "empty.parquet"))
