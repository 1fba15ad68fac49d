"""Reading, cleaning and splitting: what goes in, what is dropped and why, what comes out."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pydantic
import pytest
from records import FIRST_REQUIRED

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import clean, read, schema
from {{ cookiecutter.__package }}.data.split import split

NUMBER = next((field for field in FIRST_REQUIRED if field.kind is float), FIRST_REQUIRED[0])
pytestmark = pytest.mark.skipif(NUMBER.kind is not float, reason="no field of this problem is a number with decimals")


@pytest.fixture
def raw():
    columns = dict(problem.prepare(problem.sample(400, seed=1)))
    known = columns[NUMBER.name]
    return columns if NUMBER.required else columns | {NUMBER.name: np.nan_to_num(known, nan=np.nanmedian(known))}


def test_text_that_is_no_utf_8_is_told_by_its_column():
    values = pa.array([b"caf\xe9"]).view(pa.string())
    with pytest.raises(UserError, match=r"column place should hold text but is string: .*utf-8"):
        read.column(values, "place", str)


def test_every_row_is_either_kept_or_counted_under_the_rule_that_dropped_it(raw):
    values = raw[NUMBER.name].astype(float)
    values[:3], values[3:5] = NUMBER.least - 1, np.nan
    cleaned = clean.clean("raw", {**raw, NUMBER.name: values})
    assert cleaned.dropped[f"{NUMBER.name} under {NUMBER.least:g}"] == 3
    assert cleaned.dropped.get(f"{NUMBER.name} missing", 0) == (2 if NUMBER.required else 0)
    assert len(cleaned) + sum(cleaned.dropped.values()) == cleaned.rows_read == 400


def test_the_split_loses_no_row_and_is_the_same_every_time(dataset):
    older, newest = split(dataset, 0.2)
    assert len(older) + len(newest) == len(dataset)
    assert sorted([*older.target, *newest.target]) == sorted(dataset.target)
    assert abs(len(newest) - round(len(dataset) * 0.2)) <= (2 if problem.TIME else 100)
    assert [part.fingerprint for part in split(dataset, 0.2)] == [older.fingerprint, newest.fingerprint]
    if problem.TIME:
        assert older.columns[problem.TIME].max() <= newest.columns[problem.TIME].min()
    elif problem.TASK != "regression":
        assert older.target.mean() == pytest.approx(newest.target.mean(), abs=0.06)


def test_another_seed_gives_every_row_another_hash(dataset):
    assert not set(dataset.hashes(1)) & set(dataset.hashes(2))


def test_a_row_keeps_its_side_when_the_data_grow(dataset, monkeypatch):
    monkeypatch.setattr(problem, "TIME", "")
    few, many = (split(dataset.take(slice(rows)), 0.2) for rows in (1_000, 2_000))
    for before, after in zip(few, many, strict=True):
        assert set(before.places) < set(after.places)


def test_parquet_and_csv_give_the_same_rows_whatever_else_is_in_them(raw, tmp_path):
    given = pa.table({**raw, "note": pa.nulls(400)})
    pa.parquet.write_table(given, tmp_path / "raw.parquet")
    pa.csv.write_csv(given, tmp_path / "raw.csv")
    files = sorted(tmp_path.iterdir())
    assert len({clean.clean(file.name, read.read(file)).fingerprint for file in files}) == 1


def written(raw, path, change=lambda line: line, times=1):
    """The rows as a CSV file, each line changed."""
    pa.csv.write_csv(pa.table(raw), path)
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join(change(line) for line in [header, *lines * times]) + "\n")
    return path


def test_semicolons_decimal_commas_and_a_packed_file_give_the_same_rows(raw, tmp_path):
    plain = written(raw, tmp_path / "plain.csv")
    other = written(raw, tmp_path / "other.csv", lambda line: line.replace(",", ";").replace(".", ","))
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(other.read_bytes()))
    found = [clean.clean("raw", read.read(path)) for path in (plain, other, tmp_path / "packed.csv.gz")]
    assert len({each.fingerprint for each in found}) == 1


def test_decimals_that_begin_late_are_numbers_too(raw, tmp_path):
    raw[NUMBER.name] = raw[NUMBER.name].astype(float).round()
    path = written(raw, tmp_path / "late.csv", times=100)
    raw[NUMBER.name] = raw[NUMBER.name] + 0.5
    path.write_text(path.read_text() + written(raw, tmp_path / "end.csv").read_text().partition("\n")[2])
    assert path.stat().st_size > 1_500_000
    assert read.read(path)[NUMBER.name][-1] % 1 == 0.5


@pytest.mark.parametrize("word", ["NA", " ", "null"])
def test_what_stands_for_nothing_is_missing(raw, tmp_path, word):
    place = list(raw).index(NUMBER.name)

    def without(line):
        cells = line.split(",")
        return ",".join([*cells[:place], word, *cells[place + 1 :]])

    path = written(raw, tmp_path / "gaps.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], without(lines[3]), *lines[4:]]) + "\n")
    assert np.flatnonzero(np.isnan(read.read(path)[NUMBER.name])).tolist() == [2]


def test_the_row_and_the_value_that_cannot_be_read_are_named(raw, tmp_path):
    path = written({**raw, NUMBER.name: raw[NUMBER.name].astype(str)}, tmp_path / "odd.csv")
    lines = path.read_text().splitlines()
    value = raw[NUMBER.name].astype(str)[4]
    path.write_text("\n".join([*lines[:5], lines[5].replace(value, "12 km", 1), *lines[6:]]) + "\n")
    with pytest.raises(UserError, match=f"column {NUMBER.name} should hold numbers .*row 5 has '12 km'"):
        read.read(path)


def test_a_quotation_mark_that_is_left_open_is_told(tmp_path):
    (tmp_path / "open.csv").write_text('a,b\n"' + "1,2\n" * 50_000)
    with pytest.raises(UserError, match=r"open\.csv is not a readable csv file .*left open"):
        read.table(tmp_path / "open.csv")


def test_the_fingerprint_changes_with_a_single_value(raw):
    before = clean.clean("raw", raw).fingerprint
    raw[NUMBER.name][7] += 0.01
    assert clean.clean("raw", raw).fingerprint != before


def test_a_row_that_only_the_record_s_own_rule_refuses_is_not_trained_on(raw, monkeypatch):
    most = float(np.quantile(raw[NUMBER.name], 0.5))

    class Record(problem.Record):
        @pydantic.field_validator(NUMBER.name)
        @classmethod
        def not_too_much(cls, value):
            if value > most:
                raise ValueError("too much")
            return value

    monkeypatch.setattr(schema, "Record", Record)
    monkeypatch.setattr(schema, "PLAIN", False)
    cleaned = clean.clean("raw", raw)
    assert cleaned.columns[NUMBER.name].max() <= most
    assert cleaned.dropped[f"{NUMBER.name}: Value error, too much"] > 100
    assert len(cleaned) + sum(cleaned.dropped.values()) == 400


def test_columns_that_only_together_give_the_target_are_named(dataset, monkeypatch):
    if problem.TASK == "multiclass":
        pytest.skip("one feature does not order several classes")
    assert clean.leaks(dataset) == []
    rng = np.random.default_rng(1)
    part = rng.normal(0, dataset.target.std(), len(dataset))
    matrix = problem.features(dataset.columns)
    first, *_, last = problem.FEATURES
    matrix[:, 0], matrix[:, -1] = part, dataset.target - part
    monkeypatch.setattr(problem, "features", lambda columns: matrix)
    assert clean.leaks(dataset) == [first, last]


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
