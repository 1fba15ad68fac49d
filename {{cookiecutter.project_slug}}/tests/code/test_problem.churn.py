"""Features, target and the published file's spelling against values worked out by hand."""

import numpy as np
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import clean, read, schema
from {{ cookiecutter.__package }}.problem import Record

PUBLISHED = """customerID,gender,SeniorCitizen,Partner,Dependents,tenure,PhoneService,MultipleLines,InternetService,OnlineSecurity,OnlineBackup,DeviceProtection,TechSupport,StreamingTV,StreamingMovies,Contract,PaperlessBilling,PaymentMethod,MonthlyCharges,TotalCharges,Churn
7590-VHVEG,Female,0,Yes,No,1,No,No phone service,DSL,No,Yes,No,No,No,No,Month-to-month,Yes,Electronic check,29.85,29.85,No
3668-QPYBK,Male,0,No,No,2,Yes,No,DSL,Yes,Yes,No,No,No,No,Month-to-month,Yes,Mailed check,53.85,108.15,Yes
4472-LVYGI,Female,0,Yes,Yes,0,No,No phone service,DSL,Yes,No,Yes,Yes,Yes,No,Two year,Yes,Bank transfer (automatic),52.55, ,No
1452-KIOVK,Male,1,No,Yes,22,Yes,Yes,Fiber optic,No,Yes,No,No,Yes,No,Month-to-month,Yes,Credit card (automatic),89.1,1949.4,Maybe
"""
"""Lines in the header and spelling of the published file; the last one's outcome is not known."""


def columns(**fields):
    return schema.columns([Record.model_validate({**problem.EXAMPLE, **fields}, strict=False)])


def test_each_category_is_the_place_among_its_choices():
    (row,) = problem.features(columns(contract="two_year", gender="male", tenure=7, totalcharges=70.5))
    found = dict(zip(problem.FEATURES, row.tolist(), strict=True))
    assert (found["contract"], found["gender"], found["tenure"], found["totalcharges"]) == (2, 1, 7, 70.5)
    assert found["multiplelines"] == 1
    assert len(found) == 19


def test_the_published_spelling_becomes_the_record_s(tmp_path):
    (tmp_path / "telco.csv").write_text(PUBLISHED)
    cleaned = clean.clean("telco", read.read(tmp_path / "telco.csv"))
    assert cleaned.target.tolist() == [0, 1, 0]
    assert cleaned.dropped == {"churn missing": 1}
    assert cleaned.columns["totalcharges"].tolist() == [29.85, 108.15, 0.0]
    assert cleaned.columns["paymentmethod"].tolist() == [
        "electronic_check",
        "mailed_check",
        "bank_transfer_(automatic)",
    ]
    assert cleaned.columns["multiplelines"].tolist() == ["no_phone_service", "no", "no_phone_service"]


def test_a_customer_who_is_not_new_and_has_no_total_is_left_out(tmp_path):
    (tmp_path / "telco.csv").write_text(PUBLISHED.replace("53.85,108.15", "53.85, "))
    assert clean.clean("telco", read.read(tmp_path / "telco.csv")).dropped["totalcharges missing"] == 1


@pytest.mark.parametrize(("threshold", "leaves"), [(0.5, [False, True, True]), (0.7, [False, False, True])])
def test_a_customer_leaves_from_the_threshold_on(threshold, leaves):
    answer = problem.answer(np.array([0.2, 0.5, 0.9], np.float32), threshold=threshold)
    assert answer["churn"].tolist() == leaves
    assert answer["churn_probability"] == pytest.approx([0.2, 0.5, 0.9])


def test_the_sample_is_the_same_for_the_same_seed_only():
    one, same, other = problem.sample(50, 1), problem.sample(50, 1), problem.sample(50, 2)
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["monthlycharges"], other["monthlycharges"])


def test_drift_makes_more_people_leave():
    usual, drifted = (problem.target(problem.sample(4_000, 1, drift=drift)).mean() for drift in (False, True))
    assert drifted > usual + 0.05
