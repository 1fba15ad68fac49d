"""The monitor sees what moves, says nothing where nothing does, and looks at each window once."""

import http.server
import json
import threading
from datetime import timedelta

import numpy as np
import pytest
import requests
from answered import NOW, NUMBER, Log

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data.drift import Drift
from {{ cookiecutter.__package }}.monitoring import logged, monitor, monitor_page, truth, windows
from {{ cookiecutter.__package }}.registry import versions
from {{ cookiecutter.__package }}.tracking import conventions

RULES = Drift(window="1h", min_rows=100)


@pytest.fixture
def log(trained, tmp_path, monkeypatch):
    """A registry with a champion that has served for days, and a log that a test fills."""
    found = Log()
    monkeypatch.setattr(logged, "rows", found.read)
    monkeypatch.setattr(logged, "refused", found.read_refused)
    monkeypatch.setattr(truth, "known", lambda: found.truths)
    monkeypatch.setenv("MODEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(conventions, "model_name", lambda: f"monitored-{tmp_path.name}")
    monkeypatch.setattr(conventions, "experiment_name", lambda: f"monitored/{tmp_path.name}")
    monkeypatch.setattr(monitor, "_since", lambda: windows.stamp(NOW - timedelta(days=9)))
    monkeypatch.setattr(monitor_page, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(Drift, "load", classmethod(lambda cls: RULES))
    versions.register(trained.model_uri, trained.run_id, "a card")
    return found


def test_hours_like_the_training_data_raise_nothing(log, predictor):
    for ago in (3, 2, 1):
        log.hour(predictor, ago)
    found = monitor.look()
    assert [(each.figures["answers"], each.causes.keys() - {"drift"}) for each in found.fresh] == [(250, set())] * 3
    assert found.alarms == {}


def test_records_that_move_are_an_alarm_in_the_second_hour_and_not_in_the_first(log, predictor):
    log.hour(predictor, 2, moved=True)
    log.hour(predictor, 3)
    looks = monitor.look().looks
    assert ["drift" in each.causes for each in looks][:2] == [False, True]
    assert "drift" not in monitor.alarms(looks[:2], RULES)
    log.hour(predictor, 1, moved=True)
    looks = [monitor.judge(each, predictor.card, RULES, monitor.Monitor()) for each in hours(predictor, 3)]
    assert ["drift" in each.causes for each in looks] == [False, True, True]
    assert "limit" in monitor.alarms(looks, RULES)["drift"]


def registered(predictor):
    """The card of version 1."""
    return predictor.card | {"model_version": "1"}


def hours(predictor, count):
    return windows.read(NOW - timedelta(hours=count), NOW, 3_600, registered(predictor), 0)


def test_few_answers_cannot_tell(log, predictor):
    log.hour(predictor, 1, rows=RULES.min_rows - 1, moved=True)
    assert "drift" not in monitor.look().fresh[-1].causes


def test_answers_that_do_not_come_true_are_told_with_their_interval(log, predictor):
    log.hour(predictor, 1, off=3.0)
    assert problem.METRIC in monitor.look().fresh[-1].causes["quality"]


def test_truth_counts_in_the_window_in_which_it_becomes_ripe(log, predictor):
    log.hour(predictor, 11, off=3.0)
    log.hour(predictor, 1)
    begin = NOW - timedelta(hours=1)
    (early,) = windows.read(begin, NOW, 3_600, registered(predictor), 5 * 3_600)
    (late,) = windows.read(begin, NOW, 3_600, registered(predictor), 10 * 3_600)
    assert [(each.answers, each.truths) for each in (early, late)] == [(250, 0), (250, 250)]
    look = monitor.judge(late, registered(predictor), RULES, monitor.Monitor())
    assert "quality" in look.causes


def test_quality_is_that_of_the_champion_alone(log, predictor):
    log.hour(predictor, 1)
    log.hour(predictor, 1, role="challenger", version="2", off=3.0)
    (window,) = windows.read(NOW - timedelta(hours=1), NOW, 3_600, registered(predictor), 0)
    assert (window.answers, window.truths) == (500, 250)


def test_a_log_that_is_older_than_an_edit_of_the_problem_stops_nothing(log, predictor):
    log.hour(predictor, 1)
    for row in log.rows[:20]:
        row["record"] = {**row["record"], NUMBER.name: "far"}
    for number, row in enumerate(log.rows[10:20]):
        row["record"] = {**row["record"], NUMBER.name: [1.0] * number}
    for row in log.rows[20:40]:
        row["answer"] = {"another": "field"}
    (window,) = windows.read(NOW - timedelta(hours=1), NOW, 3_600, registered(predictor), 0)
    assert (window.answers, window.readable, window.truths) == (250, 210, 210)
    assert sum(window.counts["prediction"]) == 210


def test_records_that_are_refused_are_counted_with_the_others(log, predictor):
    log.hour(predictor, 1)
    log.refused = [(windows.stamp(NOW - timedelta(minutes=30)), 40)]
    (look,) = monitor.look().fresh
    assert look.figures["refused"] == 40
    assert look.causes["refused"].startswith("13.8% of records")


def test_each_window_is_looked_at_once(log, predictor):
    log.hour(predictor, 2)
    log.hour(predictor, 1)
    assert len(monitor.look().fresh) == 2
    assert monitor.look().fresh == []
    assert [each.figures["answers"] for each in monitor.history()] == [250, 250]


def test_a_look_that_was_cut_off_is_done_again(log, predictor, monkeypatch):
    log.hour(predictor, 1)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(monitor.mlflow, "set_tag", killed)
        with pytest.raises(KeyboardInterrupt):
            monitor.look()
    assert len(monitor.look().fresh) == 1


def test_hours_without_traffic_are_neither_an_alarm_nor_the_end_of_one(log, predictor):
    log.hour(predictor, 5, moved=True)
    log.hour(predictor, 1, moved=True)
    found = monitor.look()
    assert len(found.fresh) == 2
    assert found.idle >= 3
    assert "drift" in found.alarms


def test_an_hour_with_a_hundredfold_of_answers_is_no_alarm(log, predictor):
    for ago, rows in ((3, 250), (2, 25_000), (1, 250)):
        log.hour(predictor, ago, rows=rows)
    found = monitor.look()
    assert [each.figures["answers"] for each in found.fresh] == [250, 25_000, 250]
    assert found.alarms == {}


def test_answers_of_a_clock_that_is_ahead_are_looked_at_once_their_hour_is_over(log, predictor):
    log.hour(predictor, -1)
    assert monitor.look().fresh == []
    (window,) = windows.read(NOW + timedelta(hours=1), NOW + timedelta(hours=2), 3_600, registered(predictor), 0)
    assert window.answers == 250


def test_hours_with_few_answers_are_neither_an_alarm_nor_the_end_of_one(log, predictor):
    for ago in (5, 4):
        log.hour(predictor, ago, moved=True)
    for ago in (3, 2, 1):
        log.hour(predictor, ago, rows=10)
    found = monitor.look()
    assert len(found.fresh) == 5
    assert "drift" in found.alarms


def test_what_the_command_leaves_a_page_and_figures_for_prometheus_and_exit_code_4(log, predictor, monkeypatch, capsys):
    log.hour(predictor, 2, moved=True)
    log.hour(predictor, 1, moved=True)
    monkeypatch.setattr("sys.argv", ["monitor"])
    assert monitor.main() == monitor.ALARM
    assert "ALARM drift: " in capsys.readouterr().out
    page = (monitor_page.REPORTS / "monitor.html").read_text()
    assert "alarm <strong>drift</strong>" in page
    assert page.count("data:image/png;base64") == 1 + len(predictor.card["drift"]["limits"])
    figures = (monitor_page.REPORTS / "monitor.prom").read_text()
    assert 'monitor_alarm{cause="drift"} 1.0' in figures
    assert 'monitor_window{figure="answers"} 250.0' in figures


def test_the_page_of_a_new_champion_shows_no_bins_of_the_one_before(log, predictor, monkeypatch):
    log.hour(predictor, 1)
    (window,) = hours(predictor, 1)
    look = monitor.judge(window, predictor.card | {"model_version": "0"}, RULES, monitor.Monitor())
    monitor._keep(look._replace(shares={name: [0.5, 0.5] for name in look.shares}))
    monkeypatch.setattr(monitor, "look", lambda new, card: monitor.Finding([], {}, []))
    monitor.watch()
    assert (monitor_page.REPORTS / "monitor.html").exists()


def test_a_window_that_two_machines_have_looked_at_counts_once(log, predictor):
    log.hour(predictor, 1, moved=True)
    (look,) = monitor.look().fresh
    monitor._keep(look)
    assert len(monitor.history()) == 1


def test_features_that_are_many_or_have_strange_names_are_kept(log, predictor):
    log.hour(predictor, 1)
    (window,) = hours(predictor, 1)
    names = [f"zone={number} of those with a long name" for number in range(400)]
    edges = {"edges": [0.0], "shares": [1.0, 0.0, 0.0]}
    window.counts = {name: np.array([0, 0, 250]) for name in names}
    card = registered(predictor) | {"distribution": dict.fromkeys(names, edges)}
    card["drift"] = {"sizes": [100], "limits": {name: [0.1] for name in names}, "left_out": []}
    monitor._keep(monitor.judge(window, card, RULES, monitor.Monitor()))
    assert monitor.history()[-1].causes["drift"].endswith("and 390 more")


def test_an_alert_that_could_not_be_posted_is_posted_at_the_next_look(log, predictor, monkeypatch, capsys):
    posted, taken, refused = [], requests.Response(), requests.Response()
    taken.status_code, refused.status_code, refused._content = 204, 200, b'{"error": {"message": "wrong token"}}'
    monkeypatch.setenv("ALERT_WEBHOOK", "http://127.0.0.1:9/runs/secret")
    for ago in (2, 1):
        log.hour(predictor, ago, moved=True)
    monitor.watch()
    monkeypatch.setattr(requests, "post", lambda *_, **__: refused)
    monitor.watch()
    said = capsys.readouterr().err
    assert said.count("could not be posted to 127.0.0.1") == 2
    assert "secret" not in said
    monkeypatch.setattr(requests, "post", lambda *_, json, **__: posted.append(json) or taken)
    for _ in range(2):
        monitor.watch()
    assert len(posted) == 1
    assert "drift" in posted[0]["causes"]


def test_an_alarm_is_posted_once(log, predictor, monkeypatch):
    posted = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("ALERT_WEBHOOK", f"http://127.0.0.1:{server.server_port}/")
    for ago in (2, 1):
        log.hour(predictor, ago, moved=True)
    for _ in range(2):
        monitor.watch()
    server.shutdown()
    assert len(posted) == 1
    assert "drift" in posted[0]["causes"]
    assert "drift: " in posted[0]["text"]


def test_memory_does_not_grow_with_the_answers(log, predictor, monkeypatch):
    log.hour(predictor, 1, rows=1_000)
    monkeypatch.setattr(windows, "SAMPLE", 100)
    monkeypatch.setattr(windows, "ROWS", 300)
    most, add = [], windows.Window.add
    monkeypatch.setattr(
        windows.Window, "add", lambda self, rows, *args: most.append(len(rows)) or add(self, rows, *args)
    )
    (window,) = windows.read(NOW - timedelta(hours=1), NOW, 3_600, registered(predictor), 0)
    assert (window.answers, window.truths, len(window.pairs)) == (1_000, 1_000, 100)
    assert sum(window.counts["prediction"]) == 1_000
    assert most == [300, 300, 300, 100]
