"""Rows that are not held in memory give the same training as rows that are."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import xgboost

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import parts, read, schema, sources, storage
from {{ cookiecutter.__package }}.data.clean import clean
from {{ cookiecutter.__package }}.data.split import split
from {{ cookiecutter.__package }}.training import disk, train


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


def test_every_class_is_in_a_sample_and_both_sides_are_drawn_alike(folder, settings, monkeypatch):
    monkeypatch.setattr(parts, "SAMPLED", 200)
    *_, older, newest = parts.split(str(folder), settings.data)
    whole = parts.both(older, newest)
    share = len(whole) / whole.rows
    assert (whole.target.size, whole.rows) == (len(whole), older.rows + newest.rows)
    assert (whole.places < settings.data.sample_rows).all()
    assert sum(np.isin(whole.places, newest.places)) / newest.rows == pytest.approx(share, rel=0.5)
    if problem.TASK != "regression":
        monkeypatch.setattr(parts, "SAMPLED", 1)
        *_, older, _ = parts.split(str(folder), settings.data)
        assert set(older.target) == set(whole.target)


def test_files_of_two_formats_are_read_in_memory_as_they_are_in_parts(folder, settings):
    rows = pyarrow.parquet.read_table(folder / "b.parquet")
    pyarrow.csv.write_csv(rows, folder / "b.csv")
    (folder / "b.parquet").unlink()
    whole = split(clean(str(folder), read.read(folder)), settings.data.validation_share, settings.data.seed)
    *_, older, newest = parts.split(str(folder), settings.data)
    assert [each.fingerprint for each in whole] == [older.fingerprint, newest.fingerprint]


def test_rows_that_change_before_they_are_fitted_are_not_fitted(folder, settings):
    listed, cut, *_ = parts.split(str(folder), settings.data)
    names = [str(number) for number in range(len(problem.FEATURES) + 1)]
    numbers = [pa.record_batch([pa.array(range(len(listed)))], ["id"])]
    assert sum(len(batch) for batch in parts.matrices(numbers, listed, cut, names))
    rows = pyarrow.parquet.read_table(folder / "b.parquet")
    pyarrow.parquet.write_table(
        pa.concat_tables([rows.slice(1), rows.slice(0, 1)]), folder / "b.parquet", row_group_size=250
    )
    with pytest.raises(UserError, match="changed while it was read"):
        list(parts.matrices(numbers, listed, cut, names))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("s3://b/rows?since=2024-01&until=2024-03", ("s3://b/rows", "2024-01", "2024-03")),
        ("s3://b/rows?region=x?until=2024", ("s3://b/rows?region=x", "", "2024")),
        ("s3://b/rows?since=2023&since=2024", ("s3://b/rows", "2024", "")),
        ("data/month=????-0?/*", ("data/month=????-0?/*", "", "")),
    ],
)
def test_the_parts_that_are_chosen_are_a_part_of_the_name(name, found):
    assert storage.parts(name) == found


def test_only_what_was_typed_is_a_pattern(folder, monkeypatch):
    odd = folder / "[work]" / "own"
    odd.mkdir(parents=True)
    (folder / "a.parquet").rename(odd / "a.parquet")
    monkeypatch.chdir(odd.parent)
    for name in ("own", "o*/*.parquet", str(odd)):
        assert [str(each) for each in sources.files(name)] == [(odd / "a.parquet").as_posix()]


def test_an_address_with_a_password_is_refused():
    with pytest.raises(UserError, match="credentials belong in the environment"):
        sources.files("s3://key:secret@bucket/rows")


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


def test_of_very_many_rows_each_block_continues_with_the_trees_of_those_before(folder, settings, monkeypatch, capsys):
    monkeypatch.setattr(disk, "FITTED", settings.data.sample_rows // 4)
    with train.opened("disk", settings, str(folder)) as sides:
        everything = np.column_stack([problem.features(sides.older.columns), sides.older.target]).astype(np.float32)
        fitted = sides.fit(everything[:, :-1], sides.older.target, settings)
        files = sorted(leftovers()[0].glob("block-????"))
        blocks = [np.fromfile(file, np.float32).reshape(-1, disk.WIDTH) for file in files]
    assert "each tree is fitted on about " in capsys.readouterr().out
    assert len(blocks) > 2
    assert sorted(row.tobytes() for block in blocks for row in block) == sorted(row.tobytes() for row in everything)
    # Neighbours are often alike: rows in the order of their time, or of their class.
    assert all(block[:20].tobytes() != everything[:20].tobytes() for block in blocks)
    booster, shares = fitted.get_booster(), np.array_split(range(fitted.get_num_boosting_rounds()), len(blocks))
    assert booster.num_boosted_rounds() == fitted.get_num_boosting_rounds()
    bins = xgboost.QuantileDMatrix(blocks[0][:, :-1], blocks[0][:, -1], missing=fitted.missing)
    for number, (block, trees) in enumerate(zip(blocks, shares, strict=True)):
        features, before = block[:, :-1], int(trees[0])
        rows = xgboost.QuantileDMatrix(features, block[:, -1], missing=fitted.missing, ref=bins)
        if before:
            made = booster[:before].predict(xgboost.DMatrix(features, missing=fitted.missing), output_margin=True)
            rows.set_base_margin(made)
        given = fitted.get_xgb_params() | {"random_state": (fitted.random_state or 0) + number}
        if problem.TASK == "multiclass":
            given |= {"num_class": disk.classes(sides.older.target)}
        assert booster[before : before + 1].get_dump() == xgboost.train(given, rows, 1).get_dump()


def test_a_training_on_blocks_can_be_repeated(folder, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "FITTED", settings.data.sample_rows // 4)
    made = []
    for _ in range(2):
        with train.opened("disk", settings, str(folder)) as sides:
            made.append(train.train_on(sides, settings, tmp_path / "model").card["metrics"])
    assert made[0] == made[1]


def test_an_estimator_that_needs_all_rows_is_refused_with_those_that_do_not(folder, settings):
    linear = settings.model_copy(update={"model": params.Model(estimator="linear")})
    with pytest.raises(UserError, match=r"ENGINE=disk cannot fit linear; it can xgboost, "):
        train.opened("disk", linear, str(folder)).__enter__()


def test_a_parameter_that_an_engine_would_ignore_is_refused(folder, settings):
    given = params.Model(estimator="xgboost", xgboost={"early_stopping_rounds": 5})
    with pytest.raises(UserError, match="ENGINE=disk does not know early_stopping_rounds = 5"):
        train.opened("disk", settings.model_copy(update={"model": given}), str(folder)).__enter__()


def test_a_part_that_cannot_be_read_is_named_and_nothing_is_left(folder, settings):
    rows = pyarrow.parquet.read_table(folder / "b.parquet")
    name = next(iter(problem.RAW))
    pyarrow.parquet.write_table(rows.drop_columns(name), folder / "b.parquet")
    with pytest.raises(UserError, match=rf"b\.parquet has no column {name}"):
        train.opened("disk", settings, str(folder)).__enter__()
    assert not leftovers()
