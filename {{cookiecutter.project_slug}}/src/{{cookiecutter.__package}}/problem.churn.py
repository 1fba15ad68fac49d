"""What this project predicts, and from what: which customers of a telephone company leave. Replace this file for another problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .base.fields import WHOLE, Columns, Fields

TITLE = "Will the customer leave?"
TASK = "binary"
TARGET = "churn"
UNIT = ""
TIME = ""
ID = "customerid"
METRIC = "roc_auc"

YesNo = Literal["no", "yes"]
Service = Literal["no", "no_internet_service", "yes"]


class Record(BaseModel):
    """What is known about a customer today. Other fields are ignored."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    gender: Literal["female", "male"] = Field(title="Gender")
    partner: YesNo = Field(title="Lives with a partner")
    dependents: YesNo = Field(title="Has dependents")
    phoneservice: YesNo = Field(title="Telephone")
    multiplelines: Literal["no", "no_phone_service", "yes"] = Field(title="Several lines")
    internetservice: Literal["dsl", "fiber_optic", "no"] = Field(title="Internet")
    onlinesecurity: Service = Field(title="Online security")
    onlinebackup: Service = Field(title="Online backup")
    deviceprotection: Service = Field(title="Device protection")
    techsupport: Service = Field(title="Technical support")
    streamingtv: Service = Field(title="Television")
    streamingmovies: Service = Field(title="Films")
    contract: Literal["month-to-month", "one_year", "two_year"] = Field(title="Contract")
    paperlessbilling: YesNo = Field(title="Paperless bills")
    paymentmethod: Literal[
        "bank_transfer_(automatic)", "credit_card_(automatic)", "electronic_check", "mailed_check"
    ] = Field(title="Payment")
    seniorcitizen: Annotated[int, Field(title="Senior citizen", ge=0, le=1, description="1 from 65 years on"), WHOLE]
    tenure: Annotated[int, Field(title="Tenure", ge=0, le=1_200, description="Months as a customer"), WHOLE]
    monthlycharges: float = Field(title="Monthly charges", ge=0, le=10_000, description="Dollars")
    totalcharges: float = Field(
        title="Total charges", ge=0, le=1_000_000, description="Dollars so far; 0 for a new one"
    )


class Answer(BaseModel):
    """The model's answer for one record."""

    churn_probability: float = Field(title="Probability of leaving", description="From 0 to 1")
    churn: bool = Field(title="Leaves", description="Whether the probability reaches decision.threshold of params.toml")


EXAMPLE = {
    "gender": "female", "seniorcitizen": 0, "partner": "yes", "dependents": "no", "phoneservice": "no",
    "multiplelines": "no_phone_service", "internetservice": "dsl", "onlinesecurity": "no", "onlinebackup": "yes",
    "deviceprotection": "no", "techsupport": "no", "streamingtv": "no", "streamingmovies": "no",
    "contract": "month-to-month", "paperlessbilling": "yes", "paymentmethod": "electronic_check", "tenure": 1,
    "monthlycharges": 29.85, "totalcharges": 29.85,
}  # fmt: skip

# --- from a record to a prediction -----------------------------------------------------------------------------------

FIELDS = Fields(Record)
FEATURES, CATEGORIES = FIELDS.names, FIELDS.categories
SEGMENTS = ("tenure", "monthlycharges")


def features(columns: Columns) -> NDArray[np.float32]:
    """The model's input, shape (n, 19): the index of each category among its choices, then the numbers."""
    return FIELDS.features(columns)


def answer(scores: NDArray[np.float32], *, threshold: float = 0.5) -> dict[str, NDArray[Any]]:
    """The model's probabilities, shape (n,), as the fields of `Answer`."""
    probability = np.clip(scores.astype(np.float64), 0, 1).round(6)
    return {"churn_probability": probability, "churn": probability >= threshold}


# --- from a published file to training data --------------------------------------------------------------------------

SOURCE = "https://raw.githubusercontent.com/IBM/telco-customer-churn-on-icp4d/master/data/Telco-Customer-Churn.csv"
"""IBM's sample of 7,043 customers of a telephone company."""

RAW: dict[str, type] = {**FIELDS.raw, "Churn": str}
"""The columns that training needs from a file; others are ignored."""

ALIASES = {
    "SeniorCitizen": "seniorcitizen", "Partner": "partner", "Dependents": "dependents", "PhoneService": "phoneservice",
    "MultipleLines": "multiplelines", "InternetService": "internetservice", "OnlineSecurity": "onlinesecurity",
    "OnlineBackup": "onlinebackup", "DeviceProtection": "deviceprotection", "TechSupport": "techsupport",
    "StreamingTV": "streamingtv", "StreamingMovies": "streamingmovies", "Contract": "contract",
    "PaperlessBilling": "paperlessbilling", "PaymentMethod": "paymentmethod", "MonthlyCharges": "monthlycharges",
    "TotalCharges": "totalcharges", "customerID": "customerid", "churn": "Churn",
}  # fmt: skip
"""The published file has other names for the same columns; its truth is `Churn`, because `churn` is a field of the answer."""

TARGET_RULES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.bool_]]] = {}


def prepare(raw: Columns) -> Columns:
    """The columns of a file as `Record` spells them: lower case and underscores; new customers have not been charged yet."""
    spelled = {name: _spelled(values) if values.dtype == object else values for name, values in raw.items()}
    new = (np.asarray(spelled["tenure"], np.float64) == 0) & np.isnan(np.asarray(spelled["totalcharges"], np.float64))
    return {**spelled, "totalcharges": np.where(new, 0.0, spelled["totalcharges"])}


def _spelled(values: NDArray[Any]) -> NDArray[Any]:
    known = {value: str(value).strip().lower().replace(" ", "_") for value in set(values.tolist()) - {None}}
    return np.array([known.get(value) for value in values.tolist()], object)


def target(raw: Columns) -> NDArray[np.float64]:
    """1 for a customer who left, 0 for one who stayed, NaN where that is not known; shape (n,)."""
    known = {"yes": 1.0, "no": 0.0}
    return np.array([known.get(value, np.nan) for value in raw["Churn"].tolist()])


# --- sample data ------------------------------------------------------------------------------------------------------


def sample(rows: int, seed: int, *, drift: bool = False) -> dict[str, NDArray[Any]]:
    """Generated customers in the record's spelling, with `customerid` and `Churn`; the same seed gives the same customers.

    Shares, charges and the causes of leaving follow published figures of the real file: new customers with a monthly
    contract, fibre and electronic checks leave most, a quarter of all. With `drift`, prices are a third higher, more
    have fibre, and price has more effect.
    """
    rng = np.random.default_rng(seed)

    def pick(*weighted: tuple[str, float]) -> NDArray[Any]:
        values, weights = zip(*weighted, strict=True)
        return np.array(values, object)[rng.choice(len(values), rows, p=np.array(weights) / sum(weights))]

    def either(share: Any) -> NDArray[Any]:
        return np.where(rng.random(rows) < share, "yes", "no").astype(object)

    contract = pick(("month-to-month", 0.55), ("one_year", 0.21), ("two_year", 0.24))
    longest = np.select([contract == "two_year", contract == "one_year"], [1.0, 0.75], 0.45)
    tenure = np.minimum((72 * rng.beta(0.7, 0.9, rows) * longest * 1.25).round(), 72).astype(np.int64)
    internet = pick(("fiber_optic", 0.62 if drift else 0.44), ("dsl", 0.34), ("no", 0.22))
    online = internet != "no"
    senior = (rng.random(rows) < 0.16).astype(np.int64)
    partner = either(0.48)
    phone = np.where(internet == "dsl", either(0.75), "yes").astype(object)

    def service(share: float) -> NDArray[Any]:
        return np.where(online, either(share), "no_internet_service").astype(object)

    services = {
        name: service(share)
        for name, share in {
            "onlinesecurity": 0.37, "onlinebackup": 0.44, "deviceprotection": 0.44, "techsupport": 0.37,
            "streamingtv": 0.49, "streamingmovies": 0.49,
        }.items()
    }  # fmt: skip
    lines = np.where(phone == "yes", either(0.47), "no_phone_service").astype(object)
    extras = sum((values == "yes").astype(float) for values in services.values())
    base = np.select([internet == "fiber_optic", internet == "dsl"], [50.0, 25.0], 0.0)
    monthly = base + 20.0 * (phone == "yes") + 5.0 * (lines == "yes") + 5.2 * extras + rng.normal(0, 1.5, rows)
    monthly = np.maximum(monthly * (1.33 if drift else 1.0), 18.0).round(2)
    payment = pick(
        ("electronic_check", 0.34), ("mailed_check", 0.23), ("bank_transfer_(automatic)", 0.22), ("credit_card_(automatic)", 0.21)
    )  # fmt: skip
    paperless = either(np.where(online, 0.68, 0.29))
    leaning = (
        -1.05
        + np.select([contract == "one_year", contract == "two_year"], [-0.9, -1.8], 0.35)
        - 0.035 * tenure
        + 0.9 * (internet == "fiber_optic")
        - 0.7 * (internet == "no")
        - 0.4 * (services["onlinesecurity"] == "yes")
        - 0.35 * (services["techsupport"] == "yes")
        + 0.4 * (payment == "electronic_check")
        + 0.3 * (paperless == "yes")
        + 0.25 * senior
        + (0.03 if drift else 0.012) * (monthly - 40)
    )
    return {
        "customerid": np.array(
            [f"{number:05d}-{letters}" for number, letters in enumerate(_letters(rng, rows))], object
        ),
        "gender": pick(("female", 0.5), ("male", 0.5)),
        "seniorcitizen": senior,
        "partner": partner,
        "dependents": np.where(partner == "yes", either(0.52), either(0.09)).astype(object),
        "tenure": tenure,
        "phoneservice": phone,
        "multiplelines": lines,
        "internetservice": internet,
        **services,
        "contract": contract,
        "paperlessbilling": paperless,
        "paymentmethod": payment,
        "monthlycharges": monthly,
        "totalcharges": np.where(tenure == 0, 0.0, (monthly * tenure * rng.normal(1, 0.03, rows)).round(2)),
        "Churn": np.where(rng.random(rows) < 1 / (1 + np.exp(-leaning)), "yes", "no").astype(object),
    }


def _letters(rng: np.random.Generator, rows: int) -> list[str]:
    return ["".join(chr(65 + number) for number in word) for word in rng.integers(0, 26, (rows, 5)).tolist()]
