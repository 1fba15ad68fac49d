"""Two replicas of the service behind nginx, with one registry: what a promotion changes, and whose predictions are logged where."""

import contextlib
import shutil
import subprocess

import in_use
import pytest
from conftest import NAMED, free_port, listens, serving, wait
from test_in_use import WHY, edit, tracked
from test_stores import upload

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx: apt-get install nginx-light"),
]
PROXY = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream replicas {{ {servers} }}
    # A request that one replica fails must not succeed unseen with the other.
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://replicas; proxy_next_upstream off; }} }}
}}
"""


class Replicas(in_use.Web):
    """Two services, each with a log of its own, behind nginx on `port`."""

    def logs(self):
        """The folders of the two logs."""
        return [self.project.path / "logs" / name for name in ("a", "b")]

    @contextlib.contextmanager
    def running(self):
        """Both services and nginx, for the length of a with block."""
        ports, folder = [free_port(), free_port()], self.project.path / "nginx"
        folder.mkdir(exist_ok=True)
        servers = " ".join(f"server 127.0.0.1:{port};" for port in ports)
        (folder / "nginx.conf").write_text(PROXY.format(folder=folder, servers=servers, port=self.port))
        with contextlib.ExitStack() as held:
            for port, log in zip(ports, self.logs(), strict=True):
                held.enter_context(serving(self.project, port, **self.variables, PREDICTION_LOG=str(log)))
            proxy = subprocess.Popen(["nginx", "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf"])
            held.callback(proxy.wait)
            held.callback(proxy.terminate)
            wait(lambda: listens(self.port), 20)
            yield proxy


def test_a_promotion_reaches_both_replicas_without_a_failed_request_and_their_logs_are_read_as_one(bake, s3):
    project = bake(**NAMED, deployment="web", tracking="remote", maturity_level="3").borrow_environment()
    edit(project, r"^n_estimators = \d+", "n_estimators = 20")
    with tracked(project, "remote") as who:
        for trees in (20, 90):
            edit(project, r"^n_estimators = \d+", f"n_estimators = {trees}")
            done = project.make("pipeline", **who)
            assert done.returncode == 0, done.stdout + done.stderr
        use = Replicas(project, who)
        with use.running(), use.asked():
            wait(lambda: len(use.answers) > 50, 20)
            before = use.versions()
            for command in (["promote", f"VERSION={3 - int(*before)}", WHY], ["rollback", WHY]):
                expected = {"1", "2"} - before
                assert project.make(*command, **who).returncode == 0
                wait(lambda expected=expected: use.versions() == expected, use.patience)
                before = expected
        assert use.failed == []
        for log in use.logs():
            assert len(list(log.glob("*.jsonl"))) >= 2, "each of two workers has files of its own"
            upload(s3, log, "log")
        store = {"PREDICTION_LOG": "s3://rides/log"}
        done = project.make("predictions", "OUTPUT=all.parquet", **who, **store)
        assert done.returncode == 0, done.stderr
        rows = {row["ride_id"]: row["model_version"] for row in in_use.rows(project, "all.parquet")}
        assert len(in_use.rows(project, "all.parquet")) == len(rows) == len(use.answers)
        assert rows == {key: answer["model_version"] for key, answer in use.answers.items()}
