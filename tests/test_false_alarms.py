"""How often a limit on drift is crossed on days that it has not seen, and how soon a shift is: the table of docs/operation.md."""

import json
import os
import pathlib
import re

import pytest
from conftest import NAMED, ROOT

DAYS = """
import json, sys
import numpy as np
from pathlib import Path
from night_bus import problem
from night_bus.data import clean, drift, read

source, seed = sys.argv[1], int(sys.argv[2])
raw = read.read(Path(source)) if source else problem.sample(20_000, seed)
dataset = clean.clean("days", raw)
moments = drift.times(dataset.columns)
middle = np.searchsorted(moments, moments[0] // 86_400 * 86_400 + 31 * 86_400)
rules, found = drift.Drift(), {}
seen = drift.seen(problem.features(dataset.columns))
older = {name: values[:middle] for name, values in seen.items()}
known = drift.reference(older)
limits = drift.limits(known, older, moments[:middle], rules, 42)
newer, times = {name: values[middle:] for name, values in seen.items()}, moments[middle:]
days = list(drift.spans(times, len(times), 86_400, rules.min_rows))
for factor in (1.0, 1.1, 1.2, 1.3, 1.5):
    over = []
    for day in days:
        some = {name: values[day] * (factor if name == "trip_distance" else 1) for name, values in newer.items()}
        indices = drift.psi(known, drift.counts(known, some))
        most = drift.limits_for(limits, day.stop - day.start)
        over.append(any(indices[name] > limit for name, limit in most.items()))
    waits = [next((end for end in range(1, len(over) - start + 1) if drift.alarm(over[start : start + end], rules)), None) for start in range(len(over) - 10)]
    alarms = sum(drift.alarm(over[: end + 1], rules) for end in range(len(over)))
    found[factor] = [len(days), sum(over), alarms, waits]
print(json.dumps(found))
"""

REAL = pathlib.Path(os.environ.get("REAL_TRIPS", ROOT.parent / "shared" / "data" / "nyc_taxi_2016-02.parquet"))
SHOWN = re.compile(r"^\| (\w[\w ]*) \| (\d+) \| (\d+) \| (\d+) \| (.*?) \|$", flags=re.M)


def row(name, found):
    """A row of the table: days, days over a limit, days with an alarm, and days until an alarm for longer distances."""
    days, over, alarms, _ = found[0]["1.0"]
    days, over, alarms = (sum(each["1.0"][place] for each in found) for place in range(3))
    waits = []
    for factor in ("1.1", "1.2", "1.3", "1.5"):
        known = sorted(99 if wait is None else wait for each in found for wait in each[factor][3])
        usual = known[len(known) // 2]
        waits.append(f"{float(factor) - 1:.0%}: {'none within 10' if usual > 10 else usual}")
    return [name, str(days), str(over), str(alarms), ", ".join(waits)]


@pytest.fixture
def measured(bake):
    project = bake(**NAMED).borrow_environment()
    return lambda source, seed: json.loads(project.run(".venv/bin/python", "-c", DAYS, source, str(seed)).stdout)


def shown():
    return {found[1]: list(found.groups()) for found in SHOWN.finditer((ROOT / "docs" / "operation.md").read_text())}


@pytest.mark.slow
def test_generated_days_are_over_a_limit_as_seldom_as_is_said(measured):
    found = row("generated rides", [measured("", seed) for seed in (1, 2, 3, 4, 5)])
    print(found)
    # Three standard deviations above the rate that is asked for.
    days, over = int(found[1]), int(found[2])
    assert over <= 0.03 * days + 3 * (0.03 * days) ** 0.5
    assert shown()["generated rides"] == found


@pytest.mark.slow
@pytest.mark.skipif(
    not REAL.exists(),
    reason="the real trips are not here: set REAL_TRIPS to a file of the TLC's schema, January and February",
)
def test_real_days_are_over_a_limit_as_seldom_as_is_said(measured):
    found = row("real rides", [measured(str(REAL), 0)])
    print(found)
    assert int(found[2]) <= 0.03 * int(found[1]) + 3 * (0.03 * int(found[1])) ** 0.5
    assert found[3] == "0"
    assert shown()["real rides"] == found
