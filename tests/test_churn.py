"""The churn problem on the published file, and the client that selects customers to contact."""

import json
import re

import pytest
from conftest import NAMED, service

PUBLISH = """
import csv, sys
from night_bus import problem
columns = {name: values.tolist() for name, values in problem.sample(7_043, seed=7).items()}
published = {name: alias for alias, name in problem.ALIASES.items() if name != 'Churn'}
special = {'dsl': 'DSL', 'bank_transfer_(automatic)': 'Bank transfer (automatic)', 'credit_card_(automatic)': 'Credit card (automatic)'}
def spelled(name, value, row):
    if name == 'totalcharges' and columns['tenure'][row] == 0: return ' '
    if not isinstance(value, str) or name == 'customerid': return value
    return special.get(value, value.replace('_', ' ').capitalize())
with open(sys.argv[1], 'w', newline='') as file:
    table = csv.writer(file); table.writerow([published.get(name, name) for name in columns])
    for row in range(7_043): table.writerow([spelled(name, values[row], row) for name, values in columns.items()])
"""
REFERENCE = """
# By hand, with nothing of the project but its split: one-hot categories, scaled numbers, the best of two estimators by
# cross-validation on the training rows.
import sys, pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from night_bus.base import params
from night_bus.data import clean, read
from night_bus.data.split import split
settings = params.load()
parts = split(clean.clean(*read.rows(settings.data, sys.argv[1])), settings.data.validation_share, settings.data.seed)
(train, y), (test, z) = ((pd.DataFrame(dict(part.columns)), part.target) for part in parts)
numbers = ['tenure', 'monthlycharges', 'totalcharges']
def whole(estimator):
    encode = make_column_transformer((StandardScaler(), numbers), remainder=OneHotEncoder(handle_unknown='ignore'))
    return make_pipeline(encode, estimator)
candidates = [whole(LogisticRegression(max_iter=2000)), whole(GradientBoostingClassifier(random_state=0))]
best = max(candidates, key=lambda each: cross_val_score(each, train, y, scoring='roc_auc', cv=5).mean())
print(roc_auc_score(z, best.fit(train, y).predict_proba(test)[:, 1]))
"""


@pytest.fixture
def project(bake):
    return bake(**NAMED, problem="churn", maturity_level="1").borrow_environment()


@pytest.mark.slow
def test_the_published_file_trains_in_one_command_as_well_as_a_careful_pipeline(project):
    path = str(project.path / "telco.csv")
    assert project.run(".venv/bin/python", "-c", PUBLISH, path).returncode == 0
    header = project.text("telco.csv").splitlines()[0]
    assert {"customerID", "SeniorCitizen", "TotalCharges", "Churn"} <= set(header.split(","))
    done = project.make("train", f"DATA={path}")
    assert done.returncode == 0, done.stderr
    assert "7,043 of 7,043 rows" in done.stdout
    ours = json.loads(project.text("model/model.json"))["metrics"]["roc_auc"]
    reference = project.run(".venv/bin/python", "-c", REFERENCE, path)
    assert reference.returncode == 0, reference.stderr
    print(f"roc_auc {ours:.4f}, by hand {float(reference.stdout):.4f}")
    assert ours > float(reference.stdout) - 0.01


@pytest.mark.slow
def test_the_client_says_whom_to_write_to(project):
    assert project.make("train").returncode == 0
    code = (
        "import csv; from night_bus import problem; s = problem.sample(900, seed=3); n = ['customerid', *problem.Record.model_fields];"
        "w = csv.writer(open('customers.csv', 'w', newline='')); w.writerow(n); w.writerows(zip(*(s[k].tolist() for k in n)))"
    )
    assert project.run(".venv/bin/python", "-c", code).returncode == 0
    with service(project) as port:
        one = project.make("marketing", f"PORT={port}")
        many = project.make("marketing", "FILE=customers.csv", f"PORT={port}")
    nobody = project.make("marketing", "PORT=1")
    assert re.search(r"^[01] of 1 customers should get a message$", one.stdout, flags=re.M), one.stdout + one.stderr
    written = re.findall(r"^write to \d{5}-[A-Z]{5}: leaves with probability (0\.\d\d|1\.00)$", many.stdout, flags=re.M)
    assert f"{len(written)} of 900 customers should get a message" in many.stdout
    assert 50 < len(written) < 450
    assert all(float(probability) >= 0.5 for probability in written)
    assert "start it with `make serve`" in nobody.stderr
