"""What this project predicts, and from what: how long a taxi ride takes. Replace this file for another problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .base.fields import WHOLE, Columns, LocalTime

TITLE = "How long will the ride take?"
TASK = "regression"
TARGET = "duration"
UNIT = "minutes"
TIME = "lpep_pickup_datetime"
ID = "ride_id"
METRIC = "rmse"

Zone = Annotated[int, Field(ge=1, le=265, description="Taxi zone, 1 to 265"), WHOLE]


class Record(BaseModel):
    """What is known when a ride begins. Other fields are ignored."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    PULocationID: Annotated[Zone, Field(title="Pick-up zone")]
    DOLocationID: Annotated[Zone, Field(title="Drop-off zone")]
    trip_distance: float = Field(title="Distance", ge=0, le=200, description="Miles")
    lpep_pickup_datetime: LocalTime | None = Field(
        None,
        title="Pick-up time",
        description="Local time in New York, without an offset. Left out, it means a Wednesday at noon.",
    )


class Answer(BaseModel):
    """The model's answer for one record."""

    duration: float = Field(title="Duration", description="Predicted duration of the ride in minutes")


EXAMPLE = {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6, "lpep_pickup_datetime": "2024-01-10T08:30:00"}

# --- from a record to a prediction -----------------------------------------------------------------------------------

FEATURES = ("PULocationID", "DOLocationID", "trip_distance", "pickup_hour", "pickup_weekday")
CATEGORIES = ("PULocationID", "DOLocationID")
SEGMENTS = ("pickup_hour", "trip_distance")
MONDAY = np.datetime64("2024-01-01", "us")
NOON_ON_A_WEDNESDAY = 60.0
"""In hours after Monday."""


def features(columns: Columns) -> NDArray[np.float32]:
    """The model's input, shape (n, 5): both zones, miles, hour of day (0 to 24), weekday (Monday is 0).

    A missing pick-up time means a Wednesday at noon, in training and in serving.
    """
    hours = (columns[TIME] - MONDAY) / np.timedelta64(1, "h")
    hours[np.isnan(hours)] = NOON_ON_A_WEDNESDAY
    matrix = np.empty((len(hours), len(FEATURES)), np.float32)
    matrix[:, 0] = columns["PULocationID"]
    matrix[:, 1] = columns["DOLocationID"]
    matrix[:, 2] = columns["trip_distance"]
    matrix[:, 3] = hours % 24
    matrix[:, 4] = hours // 24 % 7
    return matrix


def answer(scores: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """The model's output, shape (n,), as the fields of `Answer`: minutes, at least one as in the training data."""
    return {"duration": np.maximum(scores, 1.0, dtype=np.float64).round(4)}


# --- from a published file to training data --------------------------------------------------------------------------

SOURCE = "https://d37ci6vzurychx.cloudfront.net/trip-data/green_tripdata_{month}.parquet"
"""The NYC Taxi and Limousine Commission's trip records, one file a month (`2024-01`)."""

RAW: dict[str, type] = {
    "lpep_pickup_datetime": np.datetime64,
    "lpep_dropoff_datetime": np.datetime64,
    "PULocationID": int,
    "DOLocationID": int,
    "trip_distance": float,
}
"""The columns that training needs from a file; others are ignored."""

ALIASES = {"tpep_pickup_datetime": "lpep_pickup_datetime", "tpep_dropoff_datetime": "lpep_dropoff_datetime"}
"""Yellow cabs' files have other names for the same times."""

TARGET_RULES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.bool_]]] = {
    "duration under 1 minute": lambda minutes: minutes < 1,
    "duration over 60 minutes": lambda minutes: minutes > 60,
}
"""Rides that are dropped from training: cancelled ones, and meters that were not switched off."""


def prepare(raw: Columns) -> Columns:
    """The columns of a file as `Record` spells them: these have the right names already."""
    return raw


def target(raw: Columns) -> NDArray[np.float64]:
    """The true duration of each ride in minutes, shape (n,)."""
    ride = raw["lpep_dropoff_datetime"] - raw["lpep_pickup_datetime"]
    return np.asarray(ride / np.timedelta64(1, "m"), np.float64)


# --- sample data ------------------------------------------------------------------------------------------------------

# Medians and shares of 10,000 real green-cab rides of January and February 2016.
# fmt: off
RIDES_BY_HOUR = [344, 263, 214, 142, 114, 96, 223, 351, 480, 456, 432, 436,
                 495, 494, 491, 510, 435, 532, 651, 611, 558, 563, 550, 436]
MPH_BY_HOUR = [13.9, 13.9, 14.2, 15.7, 16.7, 19.5, 14.3, 11.4, 9.1, 9.1, 9.3, 8.9,
               9.4, 9.1, 9.4, 9.2, 9.6, 9.5, 9.1, 10.3, 10.9, 11.6, 12.0, 12.8]
# fmt: on
RIDES_BY_WEEKDAY = [1346, 1292, 1250, 1401, 1634, 1590, 1364]


def sample(rows: int, seed: int, *, drift: bool = False) -> dict[str, NDArray[Any]]:
    """Generated rides of January and February 2024 in the published schema; the same seed gives the same rides.

    Zones have fixed positions, so distance follows from the two zones; speed from the hour, the weekday and the length
    of the ride. A little over one row in a hundred is as implausible as in the real files. With `drift`, roads are a
    third slower and more rides begin in zones that were quiet before.
    """
    rng = np.random.default_rng(seed)
    town = np.random.default_rng(265)
    place = town.normal(0, 2.2, (265, 2))
    demand = town.pareto(1.1, 265) + 0.05
    if drift:
        demand = demand + demand[::-1]
    days = np.arange(np.datetime64("2024-01-01"), np.datetime64("2024-03-01"))
    weekday = days.astype(np.int64) - MONDAY.astype("datetime64[D]").astype(np.int64)
    day = rng.choice(days, rows, p=_shares(np.asarray(RIDES_BY_WEEKDAY)[weekday % 7]))
    hour = rng.choice(24, rows, p=_shares(RIDES_BY_HOUR))
    pickup = day.astype("datetime64[s]") + (hour * 3600 + rng.integers(0, 3600, rows)).astype("timedelta64[s]")

    start = rng.choice(265, rows, p=_shares(demand))
    near = np.exp(-np.linalg.norm(place[:, None] - place[None], axis=2) / 1.2) * demand
    cumulative = np.cumsum(near / near.sum(axis=1, keepdims=True), axis=1)[start]
    end = np.minimum((cumulative < rng.random(rows)[:, None]).sum(axis=1), 264)
    straight = np.linalg.norm(place[start] - place[end], axis=1)
    miles = (0.35 + 1.3 * straight) * rng.lognormal(0, 0.2, rows)

    mph = np.asarray(MPH_BY_HOUR)[hour] * np.where(np.isin(day, days[np.isin(weekday % 7, (5, 6))]), 1.12, 1.0)
    mph = mph * (0.75 + 0.25 * np.sqrt(miles)) * (0.7 if drift else 1.0)
    minutes = 1.5 + miles / mph * 60 * rng.lognormal(0, 0.2, rows)
    odd = rng.random(rows)
    minutes = np.where(odd < 0.006, rng.uniform(0, 0.9, rows), minutes)
    minutes = np.where(odd > 0.994, rng.uniform(61, 1400, rows), minutes)
    order = np.argsort(pickup, kind="stable")
    rides = {
        "lpep_pickup_datetime": pickup.astype("datetime64[us]"),
        "lpep_dropoff_datetime": (pickup + (minutes * 60).astype("timedelta64[s]")).astype("datetime64[us]"),
        "PULocationID": start + 1,
        "DOLocationID": end + 1,
        "trip_distance": np.where(rng.random(rows) < 0.002, 0.0, miles.round(2)),
    }
    return {name: values[order] for name, values in rides.items()}


def _shares(weights: Any) -> NDArray[np.float64]:
    shares = np.asarray(weights, np.float64)
    return np.asarray(shares / shares.sum())
