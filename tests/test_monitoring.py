"""The alert rules fire when they should, and each panel of the dashboard shows data of a service that Prometheus scrapes."""

import contextlib
import http.server
import json
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import pytest
import yaml
from conftest import NAMED, free_port, service, wait
from test_projects import post

PROJECT = {"problem": "ride-duration", "tracking": "local", "deployment": "web", "maturity_level": "4", "ci": "github"}

needs_prometheus = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed (Debian: prometheus)"
)


@needs_prometheus
@pytest.mark.parametrize("deployment", ["web", "batch", "streaming"])
def test_prometheus_s_own_tool_finds_rules_that_raise_what_they_should(bake, deployment):
    folder = bake(**NAMED, deployment=deployment, maturity_level="4").path / "deploy" / "monitoring"
    for words in (["test", "rules", "rules.test.yml"], ["check", "config", "prometheus.yml"]):
        done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    raised = {
        rule["alert"]
        for group in yaml.safe_load((folder / "rules.yml").read_text())["groups"]
        for rule in group["rules"]
    }
    tested = {
        each["alertname"]
        for case in yaml.safe_load((folder / "rules.test.yml").read_text())["tests"]
        for each in case["alert_rule_test"]
        if each.get("exp_alerts")
    }
    assert raised == tested


class Heard(http.server.BaseHTTPRequestHandler):
    """Stores the bodies that are posted to it."""

    def do_POST(self):
        self.server.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        """Print nothing."""


@pytest.mark.slow
@needs_prometheus
@pytest.mark.skipif(
    not shutil.which("prometheus-alertmanager"), reason="no Alertmanager (Debian: prometheus-alertmanager)"
)
def test_an_alert_of_prometheus_reaches_the_webhook_by_alertmanager(bake, tmp_path):
    """The project's own files, with free ports: a service is down, and the receiver of alerts gets a message."""
    folder = bake(**NAMED, maturity_level="4").path / "deploy" / "monitoring"
    nobody, asked, between = free_port(), free_port(), free_port()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Heard) as team, contextlib.ExitStack() as running:
        team.posted = []
        threading.Thread(target=team.serve_forever, daemon=True).start()
        running.callback(team.shutdown)
        ports = {"9696": nobody, "9698": nobody, "9093": between, "9099": team.server_port}
        for name in ("prometheus.yml", "rules.yml", "alertmanager.yml"):
            text = (folder / name).read_text()
            for usual, now in ports.items():
                text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{now}")
            # Intervals of 15 seconds and a minute are shortened to a second.
            text = text.replace("15s", "1s").replace("for: 1m", "for: 1s")
            if name == "alertmanager.yml":
                text = text.replace("repeat_interval", "group_wait: 1s\n  repeat_interval")
            (tmp_path / name).write_text(text)
        for command in (
            [
                "prometheus-alertmanager",
                f"--config.file={tmp_path}/alertmanager.yml",
                f"--storage.path={tmp_path}/alerts",
                f"--web.listen-address=127.0.0.1:{between}",
                "--cluster.listen-address=",
            ],
            [
                "prometheus",
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{asked}",
                "--rules.alert.resend-delay=1s",
            ],
        ):
            process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            running.callback(process.wait)
            running.callback(process.terminate)
        wait(lambda: team.posted, 60)
    (alert,) = team.posted[0]["alerts"]
    assert alert["labels"]["alertname"] == "ModelDown"
    assert alert["annotations"]["summary"] == f"127.0.0.1:{nobody} does not answer"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed (Debian: systemd)")
def test_systemd_understands_its_units(baked):
    folder = baked(**PROJECT).path / "deploy" / "systemd"
    done = subprocess.run(["systemd-analyze", "verify", *folder.iterdir()], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
@needs_prometheus
def test_every_panel_shows_something_of_a_real_service(bake, tmp_path):
    project = bake(**NAMED, maturity_level="4").borrow_environment()
    assert project.make("pipeline").returncode == 0
    record = {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6}
    with service(project) as port, contextlib.ExitStack() as running:
        for number in range(130):
            post(port, {**record, "PULocationID": 1 + number})
        with contextlib.suppress(AssertionError, OSError):
            post(port, {"PULocationID": 74})
        assert project.make("monitor", "NEW=1").returncode in (0, 2)
        side, shown = free_port(), free_port()
        until = lambda process: scraped(side)  # noqa: E731
        running.enter_context(project.running("operate", "EVERY=1h", f"PORT={side}", until=until))
        config = yaml.safe_load((project.path / "deploy" / "monitoring" / "prometheus.yml").read_text())
        config["global"]["scrape_interval"] = "1s"
        config["rule_files"], config["alerting"] = [], {}
        for job, at in zip(config["scrape_configs"], (port, side), strict=True):
            job["static_configs"][0]["targets"] = [f"127.0.0.1:{at}"]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
        prometheus = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{shown}"], stderr=subprocess.DEVNULL)
        running.callback(prometheus.wait)
        running.callback(prometheus.terminate)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            post(port, record)
            time.sleep(0.2)
        panels = json.loads((project.path / "deploy/monitoring/grafana/dashboards/model.json").read_text())["panels"]
        expressions = [target["expr"] for panel in panels for target in panel["targets"]]
        empty = [each for each in expressions if not queried(shown, each)]
    assert len(expressions) == 11
    assert empty == []


def scraped(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return b"monitor_window{" in answer.read()


def queried(port, expression):
    """The value of an expression in Prometheus, without NaN."""
    address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(address, timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    return [each for each in found if each["value"][1] != "NaN"]
