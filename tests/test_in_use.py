"""Level 3 end to end: models are refused, tried and promoted while a service runs, and each answer is checked."""

import contextlib
import csv
import math
import os
import random
import re
import signal
import subprocess
import time

import in_use
import pytest
from conftest import CHOICES, NAMED, service, wait
from test_projects import post
from test_remote import team_server

pytestmark = pytest.mark.slow

WHY = "REASON=fewer errors"
RECORD = {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6}


def edit(project, old, new):
    """Change params.toml."""
    path = project.path / "params.toml"
    text = path.read_text(encoding="utf-8")
    assert re.search(old, text, flags=re.M), old
    # At once: a job may begin to read it now.
    path.with_suffix(".new").write_text(re.sub(old, new, text, flags=re.M), encoding="utf-8")
    path.with_suffix(".new").replace(path)


@contextlib.contextmanager
def tracked(project, tracking):
    """The tracking store of a project, for the length of a with block; returns the variables of a user who may promote."""
    if tracking == "local":
        yield {}
        return
    with team_server(project) as team:
        yield team.variables("max")


@pytest.mark.parametrize("tracking", CHOICES["tracking"])
@pytest.mark.parametrize("deployment", CHOICES["deployment"])
def test_what_the_gate_and_people_decide_is_followed_in_use_and_nothing_is_lost(bake, tmp_path, deployment, tracking):
    project = bake(**NAMED, deployment=deployment, tracking=tracking, maturity_level="3").borrow_environment()
    edit(project, r"^n_estimators = \d+", "n_estimators = 20")
    with tracked(project, tracking) as who:
        first = project.make("pipeline", **who)
        assert "version 1 is champion" in first.stdout, first.stderr
        with in_use.DEPLOYMENTS[deployment](project, who).around() as use:
            with use.running() as process, use.asked():
                if process:
                    # The process that queries the registry is killed, as by a lack of memory, and is started again.
                    asks = subprocess.run(
                        ["pgrep", "-n", "-g", str(process.pid), "-f", "follow --uri"], capture_output=True
                    )
                    os.kill(int(asks.stdout), signal.SIGKILL)
                decide(project, who, use)
            assert use.failed == []
            # A challenger at 20 %: it gets the same keys after a restart.
            assert project.make("ab", "SHARE=0.2", "VERSION=3", WHY, **who).returncode == 0
            keys = [f"key-{number}" for number in range(10_000)]
            with use.running():
                roles = use.roles(keys)
            assert abs(roles.count("challenger") - 2_000) < 4 * math.sqrt(10_000 * 0.2 * 0.8)
            with use.running():
                assert use.roles(keys[:500]) == roles[:500], "a restart sends keys elsewhere"
            use.killed()
            account(project, who, use, tmp_path / "truth.csv")


def decide(project, who, use):
    """A worse model, an equal one, a better one, and a rollback: the served version follows."""
    # Worse than the champion: refused, and the reason is in the registry's log.
    edit(project, r"^n_estimators = 20", "n_estimators = 4")
    done = project.make("pipeline", **who)
    assert done.returncode != 0
    assert "is worse than" in done.stderr
    assert "refuse" in project.make("log", **who).stdout
    # As good as the champion: challenger.
    edit(project, r"^n_estimators = 4", "n_estimators = 20")
    edit(project, r"^min_child_weight = 5", "min_child_weight = 6")
    done = project.make("pipeline", **who)
    assert "undecided" in done.stdout, done.stdout + done.stderr
    assert "version 2 is challenger" in done.stdout
    assert use.versions() == {"1"}
    # Better: champion, and the running service answers with it within ten seconds.
    edit(project, r"^n_estimators = 20", "n_estimators = 90")
    done = project.make("pipeline", **who)
    assert "version 3 is champion; it replaced version 1" in done.stdout, done.stdout + done.stderr
    wait(lambda: use.versions() == {"3"}, use.patience)
    if isinstance(use, in_use.Web):
        use.pause = 0
        time.sleep(5)
    assert project.make("rollback", WHY, **who).returncode == 0
    moved = time.monotonic()
    wait(lambda: use.versions() == {"1"}, use.patience)
    time.sleep(1)
    print(f"a rollback was followed within {time.monotonic() - moved:.1f} s")
    if isinstance(use, in_use.Web):
        usual, worst = use.slowest(moved - 5, moved), use.slowest(moved, time.monotonic())
        print(
            f"99 % of a second's answers within {usual * 1000:.0f} ms before, {worst * 1000:.0f} ms at most meanwhile"
        )
        assert worst < max(4 * usual, 0.2)
        use.pause = 0.03


def account(project, who, use, truth):
    """Each answer is in the log; the truth is joined once, and the report's verdict is right: version 3 is better."""
    assert "predictions written" in project.make("predictions", "OUTPUT=log.parquet", **who).stdout
    found = in_use.rows(project, "log.parquet")
    logged = {(row["ride_id"], row["model_version"], row["role"]) for row in found}
    if not isinstance(use, in_use.Web):  # whose clients saw it killed
        assert use.failed == []
    answered = {(key, answer["model_version"], answer["role"]) for key, answer in use.answers.items()}
    assert len(answered) > 10_000
    assert answered <= logged
    with truth.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["prediction_id", "duration"])
        for row in found:
            wide = 2 if row["model_version"] == "3" else 5
            came = row["duration"] + random.Random(row["prediction_id"]).gauss(0, wide)
            table.writerow([row["prediction_id"], f"{min(max(came, 1), 60):.3f}"])  # as training would use it
    for _ in range(2):
        done = project.make("truth", f"DATA={truth}", **who)
        assert f"{len(found):,} of {len(found):,} predictions have theirs" in done.stdout, done.stderr
    assert "0 of" in project.make("quality", **who).stdout
    report = project.make("ab-report", **who)
    assert report.stdout.startswith("better: the challenger's squared error is lower than the champion's by "), (
        report.stdout + report.stderr
    )
    assert "as expected" in report.stdout
    name = found[0]["prediction_id"]
    traced = project.make("trace", f"PREDICTION={name}", **who).stdout
    assert re.search(rf"prediction_id +{name}\n", traced)
    assert re.search(r"data_fingerprint +\w", traced)
    assert re.search(rf"image +{in_use.IMAGE}\n", traced)
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    assert "version 1 served at" in project.make("log", f"AT={now}", **who).stdout


def test_a_team_s_service_follows_its_registry_and_a_member_s_better_model_waits_for_a_maintainer(bake):
    project = bake(**NAMED, deployment="web", tracking="remote", maturity_level="3").borrow_environment()
    edit(project, r"^n_estimators = \d+", "n_estimators = 20")
    with team_server(project) as team:
        member, maintainer, viewer = (team.variables(name) for name in ("mo", "max", "vera"))
        assert "version 1 is champion" in project.make("pipeline", **maintainer).stdout
        # A service only needs read access.
        with service(project, **viewer) as port:
            edit(project, r"^n_estimators = 20", "n_estimators = 90")
            done = project.make("pipeline", **member)
            assert "version 2 is challenger" in done.stdout, done.stdout + done.stderr
            assert "a maintainer may promote it: make promote VERSION=2" in done.stdout
            assert post(port, RECORD)["model_version"] == "1"
            assert "maintainer" in project.make("ab", "SHARE=0.5", WHY, **member).stderr
            assert project.make("ab", "SHARE=1", WHY, **maintainer).returncode == 0
            wait(lambda: post(port, RECORD)["role"] == "challenger", 12)
            assert project.make("promote", "VERSION=2", WHY, **maintainer).returncode == 0
            wait(lambda: (post(port, RECORD)["model_version"], post(port, RECORD)["role"]) == ("2", "champion"), 12)
            assert project.make("rollback", WHY, **maintainer).returncode == 0
            wait(lambda: post(port, RECORD)["model_version"] == "1", 12)


def test_a_log_in_an_object_store_is_read_there_and_its_table_written_there(bake, s3):
    project = bake(**NAMED, deployment="batch", maturity_level="3").borrow_environment()
    for words in (
        ["pipeline"],
        ["data"],
        ["score", "INPUT=data/sample.parquet", "OUTPUT=s3://rides/scored/day.parquet"],
    ):
        done = project.make(*words, IMAGE=in_use.IMAGE)
        assert done.returncode == 0, done.stderr
    where = {"PREDICTION_LOG": "s3://rides/scored"}
    done = project.make("predictions", "OUTPUT=s3://rides/tables/log.parquet", **where)
    assert "predictions written" in done.stdout, done.stderr
    s3.download_file("rides", "tables/log.parquet", str(project.path / "log.parquet"))
    read = "import pyarrow.parquet as p; t = p.read_table('log.parquet'); print(t.num_rows, t['prediction_id'][0])"
    rows, name = project.run(".venv/bin/python", "-c", read).stdout.split()
    assert 19_000 < int(rows) <= 20_000
    assert re.search(rf"image +{in_use.IMAGE}\n", project.make("trace", f"PREDICTION={name}", **where).stdout)
