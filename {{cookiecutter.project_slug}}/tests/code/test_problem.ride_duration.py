"""Features, target and metrics against values worked out by hand."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import clean, read, schema
from {{ cookiecutter.__package }}.problem import Record


def columns(**fields):
    record = {"PULocationID": 3, "DOLocationID": 7, "trip_distance": 2.5, **fields}
    return schema.columns([Record.model_validate(record, strict=False)])


def test_each_feature_has_its_own_column():
    (row,) = problem.features(columns(lpep_pickup_datetime="2024-01-12T18:15:00"))
    assert dict(zip(problem.FEATURES, row.tolist(), strict=True)) == {
        "PULocationID": 3,
        "DOLocationID": 7,
        "trip_distance": 2.5,
        "pickup_hour": 18.25,
        "pickup_weekday": 4,
    }


def test_times_before_1970_have_an_hour_and_a_weekday_too():
    (row,) = problem.features(columns(lpep_pickup_datetime="1969-07-20T20:30:00"))
    assert row[3:].tolist() == [20.5, 6]


def test_no_pick_up_time_means_a_wednesday_at_noon():
    unknown = problem.features(columns())
    assert np.array_equal(unknown, problem.features(columns(lpep_pickup_datetime="2024-01-10T12:00:00")))
    assert unknown[0, 3:].tolist() == [12, 2]


def test_the_target_is_in_minutes():
    times = np.array(["2024-01-01T00:00:00", "2024-01-01T00:12:30"], "datetime64[us]")
    raw = {"lpep_pickup_datetime": times[:1], "lpep_dropoff_datetime": times[1:]}
    assert problem.target(raw).tolist() == [12.5]


def test_an_answer_is_never_under_a_minute():
    assert problem.answer(np.array([-3.0, 0.5, 12.3], np.float32))["duration"].tolist() == [1.0, 1.0, 12.3]


def test_the_sample_is_the_same_for_the_same_seed_only():
    one, same, other = problem.sample(50, 1), problem.sample(50, 1), problem.sample(50, 2)
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["trip_distance"], other["trip_distance"])


def test_drift_makes_rides_slower():
    usual, drifted = (problem.sample(4_000, 1, drift=drift) for drift in (False, True))
    speed = [np.median(rides["trip_distance"] / problem.target(rides)) for rides in (usual, drifted)]
    assert speed[1] < 0.85 * speed[0]


@pytest.fixture
def rides():
    return problem.sample(400, seed=1)


def test_rides_of_1_to_60_minutes_are_kept_and_no_others(rides):
    start = rides["lpep_pickup_datetime"]
    seconds = np.resize([59, 60, 3600, 3601], 400).astype("timedelta64[s]")
    cleaned = clean.clean("rides", {**rides, "lpep_dropoff_datetime": start + seconds})
    assert sorted(set(cleaned.target)) == [1.0, 60.0]
    assert cleaned.dropped == {"duration under 1 minute": 100, "duration over 60 minutes": 100}


def test_rows_come_out_oldest_first_whatever_their_order_in_the_file(rides):
    backwards = {name: values[::-1] for name, values in rides.items()}
    times = clean.clean("backwards", backwards).columns[problem.TIME]
    assert np.all(np.diff(times) >= np.timedelta64(0))
    assert clean.clean("backwards", backwards).span == clean.clean("rides", rides).span


def test_parquet_csv_and_the_names_of_yellow_cabs_give_the_same_rows(rides, tmp_path):
    green = pa.table({**rides, "ehail_fee": pa.nulls(400)})
    yellow = pa.table({name.replace("lpep", "tpep"): values for name, values in rides.items()})
    seconds = green.set_column(0, "lpep_pickup_datetime", green["lpep_pickup_datetime"].cast(pa.timestamp("s")))
    pa.parquet.write_table(green, tmp_path / "green.parquet")
    pa.parquet.write_table(yellow, tmp_path / "yellow.parquet")
    pa.parquet.write_table(seconds, tmp_path / "seconds.parquet")
    pa.csv.write_csv(green, tmp_path / "green.csv")
    files = sorted(tmp_path.iterdir())
    assert len({clean.clean(file.name, read.read(file)).fingerprint for file in files}) == 1
