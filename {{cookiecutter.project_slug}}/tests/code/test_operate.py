"""A round of operation: what it decides, that it decides once, and that one which was cut off goes on."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from answered import Log

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import clean, data_lock, read, schema
from {{ cookiecutter.__package }}.model import live
from {{ cookiecutter.__package }}.monitoring import ab_report, logged, monitor, truth
from {{ cookiecutter.__package }}.pipeline import operate, retrain, rollout
from {{ cookiecutter.__package }}.registry import champion_log, share, versions
from {{ cookiecutter.__package }}.tracking import conventions, store

QUIET = monitor.Finding([], {}, [])
DRIFT = monitor.Finding([], {"drift": "far off"}, [])


@pytest.fixture
def log(trained, tmp_path, monkeypatch):
    """A registry with champion 1 and challenger 2, a log that a test fills, and a monitor that sees nothing."""
    found = Log()
    monkeypatch.setattr(logged, "rows", found.read)
    monkeypatch.setattr(truth, "known", lambda: found.truths)
    monkeypatch.setenv("MODEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(conventions, "model_name", lambda: f"operated-{tmp_path.name}")
    monkeypatch.setattr(operate, "LOCK", tmp_path / "operate.lock")
    monkeypatch.setattr(monitor, "watch", lambda new: QUIET)
    for _ in range(2):
        versions.register(trained.model_uri, trained.run_id, "a card")
    return found


def noted(action):
    return [each for each in rollout.notes() if each["action"] == action]


def earlier(action, **ago):
    """A decision that was made some time ago."""
    at = (datetime.now(UTC) - timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"at": at, "by": "somebody", "action": action, "alias": "", "was": "", "now": "", "reason": "drift"}


# --- deciding ---------------------------------------------------------------------------------------------------------


def test_nothing_wrong_means_nothing_done(log):
    assert operate.decide(QUIET) == ""


def test_an_alarm_is_a_reason_to_train_and_records_that_are_refused_are_none(log):
    assert operate.decide(DRIFT) == "drift: far off"
    assert operate.decide(monitor.Finding([], {"refused": "6 % of them"}, [])) == ""


def test_a_training_has_a_cool_down_and_a_budget(log, monkeypatch, capsys):
    monkeypatch.setattr(retrain.Retrain, "load", classmethod(lambda cls: retrain.Retrain(cooldown="1d", budget=3)))
    monkeypatch.setattr(rollout, "notes", lambda: [earlier("retrain", hours=2)])
    assert operate.decide(DRIFT) == ""
    assert "the last time is less than 1d ago" in capsys.readouterr().out
    monkeypatch.setattr(rollout, "notes", lambda: [earlier("retrain", days=days) for days in (2, 3, 4)])
    assert operate.decide(DRIFT) == ""
    assert "3 times a week are allowed" in capsys.readouterr().out
    monkeypatch.setattr(rollout, "notes", lambda: [earlier("retrain", days=days) for days in (2, 3, 8)])
    assert operate.decide(DRIFT)


def test_a_person_needs_no_alarm_and_waits_for_no_cool_down(log, monkeypatch):
    monkeypatch.setattr(rollout, "notes", lambda: [earlier("retrain", hours=2)])
    assert operate.decide(QUIET, "new zones") == "by hand: new zones"


def test_a_schedule_counts_from_the_last_training(log, monkeypatch):
    monkeypatch.setattr(retrain.Retrain, "load", classmethod(lambda cls: retrain.Retrain(every="30d")))
    monkeypatch.setattr(rollout, "notes", lambda: [earlier("retrain", days=29)])
    assert operate.decide(QUIET) == ""
    monkeypatch.setattr(rollout, "notes", lambda: [earlier("retrain", days=31)])
    assert operate.decide(QUIET).startswith("schedule: ")


def test_new_data_count_from_the_last_training(log, predictor, monkeypatch):
    monkeypatch.setattr(retrain.Retrain, "load", classmethod(lambda cls: retrain.Retrain(new_rows=50)))
    monkeypatch.setattr(rollout, "notes", lambda: [earlier("retrain", days=2)])
    log.hour(predictor, 1, rows=49)
    log.hour(predictor, 72, rows=30)
    assert operate.decide(QUIET) == ""
    log.hour(predictor, 2, rows=1)
    assert operate.decide(QUIET) == "new data: 50 answers since the last training have their truth"


# --- one at a time, and stopped by a person ----------------------------------------------------------------------------


def test_a_person_stops_the_rounds_and_lets_them_go_on(log):
    rollout.note("hold", "", "a holiday")
    (line,) = operate.once()
    assert "on hold since" in line
    assert "(a holiday)" in line
    rollout.note("go", "", "")
    assert list(operate.once()) == ["nothing to do"]


def test_a_person_who_stops_the_rounds_still_sees_alarms(log, monkeypatch):
    looked = []
    monkeypatch.setattr(monitor, "watch", lambda new: looked.append(new) or DRIFT)
    rollout.note("hold", "", "a holiday")
    list(operate.once())
    assert (looked, noted("retrain")) == ([False], [])


def test_a_training_by_hand_is_one_training_however_many_rounds_there_are(log, monkeypatch):
    asked = []

    def slept(_):
        if len(asked) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(operate, "once", lambda new, wanted: asked.append(wanted) or [])
    monkeypatch.setattr(operate, "_expose", lambda port: None)
    monkeypatch.setattr(operate.time, "sleep", slept)
    monkeypatch.setattr("sys.argv", ["operate", "--every", "5m", "--retrain", "new zones"])
    with pytest.raises(KeyboardInterrupt):
        operate.main()
    assert asked == ["new zones", "", ""]


@pytest.mark.parametrize("every", ["0s", "soon"])
def test_a_time_between_rounds_that_is_none_is_refused(log, monkeypatch, every):
    monkeypatch.setattr("sys.argv", ["operate", "--every", every])
    with pytest.raises(UserError, match=f"EVERY={every}.*write it as 30s, 5m or 1h"):
        operate.main()


def test_two_rounds_do_not_run_at_once_and_a_dead_one_holds_nothing(log):
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN EXCLUSIVE'); print('held', flush=True); input()"  # fmt: skip
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(operate.LOCK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout.readline().strip() == b"held"
    with pytest.raises(UserError, match="another round"):
        list(operate.once())
    other.kill()
    other.wait()
    assert list(operate.once()) == ["nothing to do"]


# --- training again ----------------------------------------------------------------------------------------------------


def test_a_training_has_the_training_data_and_what_came_true_since(log, predictor, settings, monkeypatch, tmp_path):
    log.hour(predictor, 1, rows=50)
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(params, "load", lambda: settings)
    kept = []
    monkeypatch.setattr(data_lock, "keep", lambda path, columns, origin: kept.append((path, len(columns[schema.TRUE]))))
    path = tmp_path / retrain.data(predictor.card)
    before = clean.clean(*read.rows(settings.data))
    after = clean.clean("again", read.read(path))
    assert len(after) == len(before) + 50
    assert kept == [(path, len(after))]
    assert set(np.round(list(log.truths.values()), 6)) <= set(after.target.round(6))
    again = retrain.data(predictor.card)
    assert tmp_path / again == path, "the same rows are the same file"


def test_of_rows_that_are_a_half_life_older_half_as_many_are_kept(log, predictor, settings, monkeypatch, tmp_path):
    weights = retrain.Retrain(rule="weights", half_life="2w")
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(params, "load", lambda: settings)
    monkeypatch.setattr(data_lock, "keep", lambda path, columns, origin: None)
    everything = read.read(tmp_path / retrain.data(predictor.card))
    monkeypatch.setattr(retrain.Retrain, "load", classmethod(lambda cls: weights))
    if not problem.TIME:
        with pytest.raises(UserError, match="needs rows with a time"):
            retrain.data(predictor.card)
        return
    kept = read.read(tmp_path / retrain.data(predictor.card))
    times = everything[problem.TIME]
    weight = 0.5 ** ((times.max() - times) / np.timedelta64(14, "D"))
    chance = np.sqrt((weight * (1 - weight)).sum())
    assert abs(len(kept[problem.TIME]) - weight.sum()) < 4 * chance
    assert kept[problem.TIME].max() == times.max()


def test_each_decision_is_in_the_log_before_it_is_carried_out(log, monkeypatch):
    monkeypatch.setattr(monitor, "watch", lambda new: DRIFT)
    monkeypatch.setattr(retrain, "data", lambda card: "data/again.parquet")

    def trained_again(path):
        assert [each["reason"] for each in noted("retrain")] == ["drift: far off"]
        raise UserError("gate: it is worse; nothing was registered")

    monkeypatch.setattr(operate.run, "run", trained_again)
    (line,) = operate.once()
    assert "no new version: gate: it is worse" in line
    assert noted("retrained")[0]["reason"].startswith("no new version")


def test_a_training_that_was_cut_off_is_taken_up_again(log, monkeypatch):
    monkeypatch.setattr(retrain, "data", lambda card: "data/again.parquet")
    rollout.note("retrain", "", "drift: far off")
    trainings = []
    monkeypatch.setattr(operate.run, "run", lambda path: trainings.append(path) or "2")
    assert "trained again (drift: far off): version 2" in list(operate.once())
    assert (len(trainings), len(noted("retrain")), len(noted("retrained"))) == (1, 2, 1)
    assert list(operate.once()) == ["nothing to do"]


def test_a_training_that_is_cut_off_each_time_is_given_up(log, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(retrain, "data", lambda card: "data/again.parquet")
    monkeypatch.setattr(operate.run, "run", killed)
    rollout.note("retrain", "", "drift: far off")
    for _ in range(operate.ATTEMPTS - 1):
        with pytest.raises(KeyboardInterrupt):
            list(operate.once())
    (line,) = operate.once()
    assert "it was interrupted 3 times" in line
    assert list(operate.once()) == ["nothing to do"]


def test_a_version_that_was_registered_before_the_cut_is_not_trained_again(log, trained, monkeypatch):
    rollout.note("retrain", "", "drift: far off")
    store.connect().set_tag(trained.run_id, "trigger", operate._trigger(rollout.notes()[0]))
    monkeypatch.setattr(operate.run, "run", lambda path: pytest.fail("it was trained twice"))
    assert "trained again (drift: far off): version 2" in list(operate.once())


def test_who_asks_for_a_training_during_a_roll_out_is_told_that_there_was_none(log, found):
    rollout.begin("2", "better")
    with pytest.raises(UserError, match="nothing was trained"):
        list(operate.once(wanted="new zones"))


# --- rolling out -------------------------------------------------------------------------------------------------------


@pytest.fixture
def found(monkeypatch):
    """What the comparison in use says, for a test to set: answers of each arm, and the interval of the difference."""
    said = {"answers": 1_000, "interval": None, "milliseconds": 1.0}

    def collect(version, role, since="", until="", share=None):
        count = said["answers"] if role == "challenger" else round(said["answers"] * (1 - share) / share)
        took = said["milliseconds"] if role == "challenger" else 1.0
        return ab_report.Arm(version, "", [took] * count, [1.0] * count, [("", "", 1.0, 1.0)] * count)

    monkeypatch.setattr(ab_report, "collect", collect)
    monkeypatch.setattr(ab_report, "difference", lambda *_: said["interval"])
    return said


def test_what_is_better_goes_up_the_steps_and_becomes_champion(log, found):
    assert "a share of 0.05" in rollout.begin("2", "better")
    found["interval"] = (-1.0, -1.5, -0.5)
    assert "a share of 0.25" in rollout.step()
    assert rollout.step().startswith("version 2 is champion")
    assert rollout.running() == ""
    assert rollout.unsettled() == ("2", "1", rollout.notes()[0]["at"])


def test_what_cannot_be_told_apart_keeps_its_step_until_it_was_held_long_enough(log, found, monkeypatch):
    rollout.begin("2", "better")
    assert "keeps its share of 0.05" in rollout.step()
    monkeypatch.setattr(rollout, "age", lambda at: 3_601)
    found["answers"] = 199
    assert "keeps its share of 0.05" in rollout.step()
    found["answers"] = 200
    assert "a share of 0.25" in rollout.step()


def test_a_step_waits_until_what_came_true_can_be_known(log, found, monkeypatch):
    monkeypatch.setattr(monitor.Monitor, "load", classmethod(lambda cls: monitor.Monitor(truth_delay="2h")))
    rollout.begin("2", "better")
    monkeypatch.setattr(rollout, "age", lambda at: 3 * 3_600 - 1)
    assert "keeps its share of 0.05" in rollout.step()
    monkeypatch.setattr(rollout, "age", lambda at: 3 * 3_600)
    assert "a share of 0.25" in rollout.step()


@pytest.mark.parametrize("wrong", [{"interval": (1.0, 0.5, 1.5)}, {"milliseconds": 1.6}])
def test_what_is_worse_or_slower_loses_its_share_and_is_not_tried_again(log, found, wrong):
    rollout.begin("2", "better")
    found |= wrong
    assert "was stopped" in rollout.step()
    assert live.experiment(conventions.model_name()).share == 0
    assert (rollout.running(), operate._better()) == ("", "")


def test_a_roll_out_that_was_cut_off_before_its_first_share_goes_on(log, found):
    rollout.note("rollout", "2", "better")
    assert "a share of 0.05" in rollout.step()


def test_an_end_that_was_cut_off_before_the_share_was_taken_back_is_carried_out(log, found):
    rollout.begin("2", "better")
    rollout.note("stop", "2", "worse")
    assert live.experiment(conventions.model_name()).share == 0.05
    assert "is over" in next(iter(operate.once()))
    assert live.experiment(conventions.model_name()).share == 0
    assert list(rollout.finish()) == []


def test_a_promotion_that_was_cut_off_before_the_alias_moved_is_carried_out(log, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(champion_log.mlflow.MlflowClient, "set_registered_model_alias", killed)
        patched.setattr(champion_log.mlflow.MlflowClient, "delete_registered_model", killed)
        with pytest.raises(KeyboardInterrupt):
            versions.promote("2", "better")
    with pytest.raises(UserError, match="is moving an alias"):
        list(rollout.finish())
    monkeypatch.setattr(champion_log, "STALE_SECONDS", -1)
    assert "version 2 is champion: the promote of" in next(rollout.finish())


def test_a_person_who_ends_the_share_ends_the_roll_out(log, found):
    rollout.begin("2", "better")
    share.give("ab", "0", "it looks wrong")
    assert "somebody has given another share" in rollout.step()
    assert live.experiment(conventions.model_name()).share == 0
    assert (rollout.running(), operate._better()) == ("", "")


def test_another_champion_by_hand_ends_the_roll_out(log, found):
    rollout.begin("2", "better")
    versions.promote("2", "by hand")
    assert rollout.running() == ""


def test_a_roll_out_whose_version_is_archived_or_gone_ends(log, found):
    rollout.begin("2", "better")
    store.connect().set_model_version_tag(conventions.model_name(), "2", "status", "archived")
    assert "was stopped: it is champion, archived or gone" in rollout.step()
    assert live.experiment(conventions.model_name()).share == 0


def test_a_version_that_is_deleted_stops_no_round(log, found):
    rollout.begin("2", "better")
    store.connect().delete_model_version(conventions.model_name(), "2")
    assert any("was stopped" in line for line in operate.once())
    assert list(operate.once()) == ["nothing to do"]


def test_a_step_that_never_gets_its_answers_ends_the_roll_out(log, found, monkeypatch):
    rollout.begin("2", "better")
    found["answers"] = 3
    monkeypatch.setattr(rollout, "age", lambda at: 86_401)
    assert "was stopped: 3 of 200 keys answered" in rollout.step()


def test_what_somebody_decides_during_a_step_counts(log, found, monkeypatch):
    rollout.begin("2", "better")
    found["interval"] = (-1.0, -1.5, -0.5)

    def meanwhile(*_):
        rollout.note("hold", "", "wait")
        return found["interval"]

    monkeypatch.setattr(ab_report, "difference", meanwhile)
    assert "somebody else made a decision" in rollout.step()
    assert live.experiment(conventions.model_name()).share == 0.05


@pytest.mark.parametrize("promote", ["ask", "auto"])
def test_a_person_who_wants_to_be_asked_is_asked(log, trained, monkeypatch, promote):
    store.connect().set_tag(trained.run_id, "verdict", "better")
    assert operate._better() == "2"
    monkeypatch.setattr(operate.Rules, "load", classmethod(lambda cls: operate.Rules(promote=promote)))
    assert list(operate.once()) == ["nothing to do"]


def test_what_was_better_than_another_champion_is_not_rolled_out(log, trained):
    client = store.connect()
    client.set_tag(trained.run_id, "verdict", "better")
    client.set_tag(trained.run_id, "verdict_beside", "7")
    assert operate._better() == ""
    client.delete_tag(trained.run_id, "verdict_beside")


def test_a_decision_comes_after_those_of_a_clock_that_is_ahead(log, monkeypatch):
    with monkeypatch.context() as ahead:
        hour = champion_log.time.time_ns() + 3_600 * 10**9
        ahead.setattr(champion_log.time, "time_ns", lambda: hour)
        rollout.note("go", "", "")
    rollout.note("hold", "", "a holiday")
    assert "(a holiday)" in operate.held()


# --- watching a new champion ---------------------------------------------------------------------------------------------


def promoted(log, predictor, off=0.0):
    """Version 2 is champion, and has answered: as version 1 would, or with an error beside."""
    versions.promote("2", "by hand")
    log.hour(predictor, 0, version="2")
    for row in log.rows:
        row["time"] = (datetime.now(UTC) + timedelta(seconds=2)).isoformat(timespec="milliseconds")
        for name, value in row["answer"].items():
            if isinstance(value, float):
                row["answer"][name] = value + off if problem.TASK == "regression" else abs(value - off)
    return rollout.unsettled()


def test_a_champion_that_is_worse_in_use_is_rolled_back_by_itself(log, predictor):
    moved = promoted(log, predictor, off=30.0 if problem.TASK == "regression" else 0.9)
    assert rollout.watch(moved).startswith("version 1 is champion again; version 2 was rolled back")
    assert noted("rollback")[0]["reason"].startswith("in use: version 2's")
    assert rollout.unsettled() is None


def test_another_champion_meanwhile_is_neither_rolled_back_nor_taken_for_kept(log, predictor, monkeypatch):
    moved = promoted(log, predictor)
    versions.promote("1", "by hand")
    rollout.note("keep", "2", "too late")
    assert rollout.unsettled().version == "1"
    with pytest.raises(versions.OtherChampionError):
        versions.rollback("in use", moved.version)


def test_a_champion_that_cannot_be_compared_is_watched_to_the_end_and_then_kept(log, predictor, monkeypatch):
    moved = promoted(log, predictor)

    def away(*_):
        raise UserError("the registry is away")

    monkeypatch.setattr(rollout, "paired", away)
    assert rollout.watch(moved).startswith("champion 2 is watched: it cannot be compared with version 1")
    monkeypatch.setattr(rollout, "age", lambda at: 86_401)
    assert rollout.watch(moved).startswith("champion 2 is kept: it cannot be compared with version 1")


def test_a_champion_before_that_is_archived_is_told_and_stops_no_round(log, predictor, monkeypatch):
    moved = promoted(log, predictor, off=30.0 if problem.TASK == "regression" else 0.9)
    store.connect().set_model_version_tag(conventions.model_name(), "1", "status", "archived")
    assert "it cannot be rolled back, as version 1 is archived or gone" in rollout.watch(moved)
    monkeypatch.setattr(rollout, "age", lambda at: 86_401)
    rollout.watch(moved)
    assert rollout.unsettled() is None, "training again is what is left"


def test_a_champion_that_is_as_good_is_kept_after_its_time(log, predictor, monkeypatch):
    moved = promoted(log, predictor)
    assert "champion 2 is watched" in rollout.watch(moved)
    monkeypatch.setattr(rollout, "age", lambda at: 90_000)
    assert rollout.watch(moved).startswith("champion 2 is kept")
    assert rollout.unsettled() is None


def test_the_first_champion_and_one_that_came_back_are_not_watched(log):
    assert rollout.unsettled() is None
    versions.promote("2", "by hand")
    versions.rollback("by hand")
    assert rollout.unsettled() is None


def test_a_decision_says_who_made_it_when_and_why(log):
    rollout.note("hold", "", "a holiday")
    (last, *_) = champion_log.log(versions.model())
    assert (last["action"], last["reason"]) == ("hold", "a holiday")
    assert last["by"]
    assert last["at"].endswith("Z")
