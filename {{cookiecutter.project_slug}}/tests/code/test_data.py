"""Reading, cleaning and splitting: what goes in, what is dropped and why, what comes out."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from {{ cookiecutter.__package }} import data, problem
from {{ cookiecutter.__package }}.cli import UserError


@pytest.fixture
def rides():
    return problem.sample(400, seed=1)


def test_every_row_is_either_kept_or_counted_under_the_rule_that_dropped_it(rides):
    rides["trip_distance"][:3] = -1.0
    rides["PULocationID"] = rides["PULocationID"].astype(float)
    rides["PULocationID"][3:5] = np.nan
    cleaned = data.clean("rides", rides)
    assert cleaned.dropped["trip_distance under 0"] == 3
    assert cleaned.dropped["PULocationID missing"] == 2
    assert len(cleaned) + sum(cleaned.dropped.values()) == cleaned.rows_read == 400


def test_rides_of_1_to_60_minutes_are_kept_and_no_others(rides):
    start = rides["lpep_pickup_datetime"]
    seconds = np.resize([59, 60, 3600, 3601], 400).astype("timedelta64[s]")
    cleaned = data.clean("rides", {**rides, "lpep_dropoff_datetime": start + seconds})
    assert sorted(set(cleaned.target)) == [1.0, 60.0]
    assert cleaned.dropped == {"duration under 1 minute": 100, "duration over 60 minutes": 100}


def test_rows_come_out_oldest_first_whatever_their_order_in_the_file(rides):
    backwards = {name: values[::-1] for name, values in rides.items()}
    times = data.clean("backwards", backwards).columns[problem.TIME]
    assert np.all(np.diff(times) >= np.timedelta64(0))
    assert data.clean("backwards", backwards).span == data.clean("rides", rides).span


def test_the_split_is_by_time_and_loses_no_row(dataset):
    older, newest = data.split(dataset, 0.2)
    assert older.columns[problem.TIME].max() <= newest.columns[problem.TIME].min()
    assert len(older) + len(newest) == len(dataset)
    assert len(newest) == round(len(dataset) * 0.2)
    assert np.array_equal(np.concatenate([older.target, newest.target]), dataset.target)


def test_parquet_csv_and_the_names_of_yellow_cabs_give_the_same_rows(rides, tmp_path):
    green = pa.table({**rides, "ehail_fee": pa.nulls(400)})
    yellow = pa.table({name.replace("lpep", "tpep"): values for name, values in rides.items()})
    seconds = green.set_column(0, "lpep_pickup_datetime", green["lpep_pickup_datetime"].cast(pa.timestamp("s")))
    pa.parquet.write_table(green, tmp_path / "green.parquet")
    pa.parquet.write_table(yellow, tmp_path / "yellow.parquet")
    pa.parquet.write_table(seconds, tmp_path / "seconds.parquet")
    pa.csv.write_csv(green, tmp_path / "green.csv")
    files = sorted(tmp_path.iterdir())
    assert len({data.clean(file.name, data.read(file)).fingerprint for file in files}) == 1


def test_the_fingerprint_changes_with_a_single_value(rides):
    before = data.clean("rides", rides).fingerprint
    rides["trip_distance"][7] += 0.01
    assert data.clean("rides", rides).fingerprint != before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.parquet does not exist"):
        data.read(tmp_path / "nothing.parquet")


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match="not a readable parquet file"):
        data.read(tmp_path / "broken.parquet")


def test_a_missing_column_is_named(rides, tmp_path):
    del rides["trip_distance"]
    pa.parquet.write_table(pa.table(rides), tmp_path / "rides.parquet")
    with pytest.raises(UserError, match="no column trip_distance"):
        data.read(tmp_path / "rides.parquet")


def test_a_column_of_the_wrong_type_is_named(rides, tmp_path):
    rides["trip_distance"] = np.full(400, "far")
    pa.parquet.write_table(pa.table(rides), tmp_path / "rides.parquet")
    with pytest.raises(UserError, match="column trip_distance should hold numbers"):
        data.read(tmp_path / "rides.parquet")


def test_a_file_without_rows_is_refused(rides, tmp_path):
    pa.parquet.write_table(pa.table(rides).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(UserError, match="no row is left"):
        data.clean("empty", data.read(tmp_path / "empty.parquet"))
