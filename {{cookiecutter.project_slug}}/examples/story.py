"""A demo of a few minutes: traffic, drift, an alarm, a new model rolled out in steps, and a rollback of a worse one."""

import argparse
import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import store
import traffic

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.data import clean, schema

PACKAGE = params.PACKAGE.name
FOLDER = params.ROOT / ".cache" / "story"
MADE = (
    ".cache",
    ".git",
    ".venv",
    ".pipenv",
    ".env*",
    ".outbox",
    "mlflow.db*",
    "mlartifacts",
    "mlruns",
    "data",
    "data.lock",
    "model",
    "reports",
    "predictions",
    "scored",
    "truth",
    "__pycache__",
    ".*_cache",
    "backups",
)
"""Files that the project generates, and a server's data: the story does not copy them."""

LED_OUT = (
    "ALERT_",
    "DATA_STORE",
    "IMAGE",
    "KAFKA_",
    "LOG_",
    "MLFLOW_",
    "MODEL_",
    "POSTGRES_",
    "PREDICTION_",
    "S3_",
    "TRACKING_",
    "TUNE_",
)
"""Prefixes of variables for the real project: its stores, its server, its alerts."""

GIT = ["git", "-c", "user.name=story", "-c", "user.email=story@localhost", "-c", "commit.gpgsign=false"]
HASTE = {
    r"hold = .*": 'hold = "1s"',
    r"steps = .*": "steps = [0.2, 0.5, 1.0]",
    r"min_answers = .*": "min_answers = 50",
    r"watch = .*": 'watch = "20s"',
    r"cooldown = .*": 'cooldown = "0s"',
    r"budget = .*": "budget = 20",
    r"rule = .*": 'rule = "window"',
    r'window = "30d".*': 'window = "40s"',
}
"""Settings that shorten what takes hours in production."""


def copied():
    """A copy of the project in a separate folder, so that the story does not touch its runs, models or data."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    made, compiled = shutil.ignore_patterns(*MADE), shutil.ignore_patterns("__pycache__")
    # MADE applies to these folders only: `data` is also a folder of the package.
    where = (str(params.ROOT), str(params.ROOT / "deploy" / "tracking-server"))
    shutil.copytree(params.ROOT, FOLDER, ignore=lambda at, names: (made if at in where else compiled)(at, names))
    settings = (FOLDER / "params.toml").read_text(encoding="utf-8")
    for pattern, value in HASTE.items():
        settings = re.sub(rf"^{pattern}", value, settings, flags=re.M)
    (FOLDER / "params.toml").write_text(settings, encoding="utf-8")
    commit("init", "--quiet")
    commit("add", "--all")
    commit("commit", "--quiet", "--message", "The story begins")


def commit(*words):
    """Run git in the copy, so that each of its versions can be traced and reproduced; without git, they cannot."""
    if shutil.which("git"):
        # Variables that a git hook sets would point to another repository.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        subprocess.run([*GIT, *words], cwd=FOLDER, env=kept, check=True)
    exclude, own = (folder / ".git" / "info" / "exclude" for folder in (FOLDER, params.ROOT))
    if "init" in words and exclude.parent.exists():
        known = own.read_text(encoding="utf-8") if own.is_file() else ""
        exclude.write_text(f"{known}\n*.log\n*.csv\n*.parquet\n/data.lock\n", encoding="utf-8")


def environment():
    """The environment of the story's commands, without the project's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LED_OUT)}
    return kept | {"PYTHONPATH": str(FOLDER / "src"), "PYTHON_DOTENV_DISABLED": "1"}


class World:
    """Records and their truth for each day; after the change, their distribution differs."""

    def __init__(self):
        self.changed, self._seeds = False, itertools.count(101)

    def day(self, rows):
        """The given number of records with an id, as JSON, and the truth of each."""
        seed = next(self._seeds)
        raw = problem.sample(2 * rows, seed, drift=self.changed)
        found = clean.clean("the world", raw)
        found = found.take(np.random.default_rng(seed).permutation(len(found))[:rows])
        columns = dict(found.columns)
        if problem.TIME:  # newer than the training data
            columns[problem.TIME] = columns[problem.TIME] + np.timedelta64(60 + seed // 7 * 7, "D")
        records = schema.table(columns).to_pylist()
        for number, record in enumerate(records):
            record[problem.ID] = f"{seed}-{number}"
            record |= {name: each.isoformat() for name, each in record.items() if hasattr(each, "isoformat")}
        return records, dict(zip((record[problem.ID] for record in records), found.target.tolist(), strict=True))

    def trickle(self, send, over):
        """Send a record every 20 ms until the story ends, so that there is always a request in progress."""
        while not over.is_set():
            for record in self.day(100)[0]:
                if not over.wait(0.02):
                    send(record)


class Story:
    """Prints what happens, line by line, and stores the lines."""

    def __init__(self, rows, environment):
        self.rows, self.world, self.lines, self.started = rows, World(), [], time.monotonic()
        self.answered, self.environment = 0, environment

    def tell(self, line):
        """Print a line with the seconds since the start."""
        self.lines.append(f"{time.monotonic() - self.started:4.0f} s  {line}")
        print(self.lines[-1], flush=True)

    def command(self, *words, fails=False):
        """Run a command of the project; returns its output."""
        done = subprocess.run(
            [sys.executable, "-m", PACKAGE, *words], cwd=FOLDER, env=self.environment, capture_output=True, text=True
        )
        if not fails and done.returncode:
            sys.exit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def day(self, client):
        """One day: records are answered, their truth is stored, and one round of operation runs; returns its output."""
        records, truth = self.world.day(self.rows)
        client.send(records)
        self.answered += len(records)
        path = FOLDER / "truth.csv"
        lines = [f"{problem.ID},{problem.TARGET}", *(f"{name},{value!r}" for name, value in truth.items())]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.command("truth", "--data", str(path))
        said = self.command("operate", "--new")
        for line in said.splitlines():
            if line.strip() and not line.startswith(" ") and not line.startswith("["):
                self.tell(line)
        return said

    def until(self, client, words, days):
        """Repeat days until a round prints the given words.

        Raises:
            SystemExit: it never does.
        """
        said = ""
        for _ in range(days):
            said = self.day(client)
            if re.search(words, said):
                return said
        sys.exit(f"no round printed {words!r} within {days} days:\n{said}")

    def set(self, pattern, value):
        """Edit the story's settings; returns the old ones."""
        before = (FOLDER / "params.toml").read_text(encoding="utf-8")
        self.write(re.sub(pattern, value, before, flags=re.M), value)
        return before

    def write(self, settings, why):
        """Replace the settings of the story."""
        (FOLDER / "params.toml").write_text(settings, encoding="utf-8")
        commit("commit", "--quiet", "--all", "--message", why)


def tell(story):
    """The whole story."""
    story.command("pipeline")
    story.tell("version 1 is trained on today's data and serves")
    with traffic.client(FOLDER, story.environment, story) as client:
        for _ in range(3):
            if "ALARM" in story.day(client):
                sys.exit("there was an alarm before the data changed")
        story.tell("the data change, without notice")
        story.world.changed = True
        said = story.until(client, "ALARM", 6)
        if "trained again" not in said:
            story.until(client, "trained again", 3)
        said = story.until(client, r"version \d+ is champion; it replaced version 1", 15)
        new = re.search(r"version (\d+) is champion; it replaced", said)[1]
        story.tell(f"version {new} answers all requests; it is watched")
        # From here on, only the story itself starts a training.
        story.set(r"^cooldown = .*", 'cooldown = "1h"')
        story.until(client, f"champion {new} is kept", 8)
        story.tell("a bad candidate on purpose: a model of two trees")
        before = story.set(r"^n_estimators = \d+", "n_estimators = 2")
        said = story.command("operate", "--new", "--retrain", "a bad idea")
        if "no new version" not in said:
            sys.exit(f"a bad candidate was not refused: {said}")
        story.tell(next(line for line in said.splitlines() if "no new version" in line))
        story.write(before, "restore the settings")
        story.tell("a bad champion, promoted by hand: version 1, which was trained before the change")
        story.command("registry", "promote", "1", "--reason", "by hand, against all advice")
        story.until(client, f"version {new} is champion again; version 1 was rolled back", 6)
        if client.failed:
            sys.exit(f"{client.failed} of {story.answered} requests failed")
        story.tell(f"finished: {story.answered:,} records, {client.failed} failed requests")


def main():
    """`make story`: takes three to five minutes and prints each event; the resulting page is reports/monitor.html in .cache/story."""
    parser = argparse.ArgumentParser(prog="make story", description=main.__doc__)
    parser.add_argument("--rows", type=int, default=2_000, help="records a day")
    given = parser.parse_args()
    # Otherwise processes that the story has started would outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    copied()
    known = environment()
    with store.store(FOLDER, known) as its_own:
        tell(Story(given.rows, known | its_own))
    # Restore the real durations: the copy is a project like this one.
    shutil.copy(params.ROOT / "params.toml", FOLDER / "params.toml")
    commit("commit", "--quiet", "--all", "--message", "The story ends")
    page = params.ROOT / "reports" / "story"
    page.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.copy(FOLDER / "reports" / "monitor.html", page / "monitor.html")
    print(f"report: {(page / 'monitor.html').relative_to(params.ROOT)}")


if __name__ == "__main__":
    main()
