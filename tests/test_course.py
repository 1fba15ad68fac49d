"""The course, typed as it is written: five lessons take one project from an empty folder to level 4, for each deployment.

`DOCS=1 make test-all ARGS="-k 'test_course and web'"` brings what the pages show up to date.
"""

import contextlib
import difflib
import os
import re
import shlex
import subprocess
import sys

import pytest
from conftest import CHOICES, ROOT, SHARED, Project, answers_at, free_port, listens
from test_bakes import COMPOSED
from test_own_data import edit

COURSE = ROOT / "docs" / "course"
LESSONS = [COURSE / f"level-{level}.md" for level in range(5)]
BLOCK = re.compile(r"```(\w+)([^\n]*)\n(.*?)```", re.S)
PERSON = {f"GIT_{who}_{what}": "ada@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
FIGURE = r"\b[0-9a-f]{8}\b|\d[\d,.:]*\d|(?<!level\\ )\d"
"""Figures that may differ between runs, except levels, in a text whose blanks are escaped."""

LONGEST = 100
"""A longer difference is not shown."""

REWRITE = bool(os.environ.get("DOCS"))


class Student:
    """Runs the commands of a page, makes its edits, and compares the output that it shows with the real one."""

    def __init__(self, template, folder, deployment):
        self.template, self.folder, self.deployment = template, folder, deployment
        self.project, self.running = None, contextlib.ExitStack()
        self.ports = {name: str(free_port()) for name in ("PORT", "UI_PORT", "broker", "stream")}
        self.environment = dict(PERSON)

    def follow(self, page):
        """Process a page from beginning to end."""
        text, said = page.read_text(encoding="utf-8"), None
        with contextlib.ExitStack() as self.running:
            for kind, more, block in BLOCK.findall(text):
                if kind == "sh" and more.strip() in ("", self.deployment):
                    said = "".join(self.type(line) for line in block.splitlines())
                elif kind == "sh":
                    said = None
                elif kind == "diff" and not more:
                    edit(self.project, block)
                elif kind == "text" and not more and said is not None:
                    text = text.replace(block, shown(block, said), 1)
        if REWRITE and self.deployment == "web":
            page.write_text(text, encoding="utf-8")

    def type(self, line):
        """Run a line and return its output. Its comment tells whether it keeps running or fails."""
        command, _, remark = line.partition("  #")
        words = shlex.split(command.replace("deployment=web", f"deployment={self.deployment}"))
        if words[0] == "cd":
            self.project = Project(self.folder / words[1]).borrow_environment()
            return ""
        if "keeps running" in remark:
            return self.start(*words[1:])
        done = self.run(words)
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == ("fails" in remark), f"{line}: {said[-4000:]}"
        return said

    def run(self, words):
        if words[0] == "cookiecutter":
            address = words.index("gh:org/mlops-template")
            words = [*words[:address], "--default-config", str(self.template), *words[address + 1 :]]
            return subprocess.run([sys.executable, "-m", *words], cwd=self.folder, capture_output=True, text=True)
        if words[:3] == ["pipx", "run", "cruft"]:
            command = [sys.executable, "-m", "cruft", *words[3:]]
            done = subprocess.run(command, cwd=self.project.path, capture_output=True, text=True)
            # Its lock names packages that the shared environment has.
            os.utime(SHARED / ".venv" / ".ready")
            return done
        if words[0] == "make":
            port = [f"PORT={self.ports['PORT']}"] if words[1] == "predict" else []
            return self.project.make(*words[1:], *port, timeout=2400, **self.environment, **self.broker(words[1]))
        return self.project.run(*words, **self.environment)

    def broker(self, target):
        """The broker's address, for the commands that use one; its port is a free one here."""
        asks = target in ("broker", "stream", "produce", "watch")
        return {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.ports['broker']}"} if asks else {}

    def start(self, target, *words):
        """Start a command that keeps running until the end of the page."""
        name = {"ui": "UI_PORT", "serve": "PORT"}.get(target, target)
        port = self.ports[name]
        path = {"ui": "", "serve": "readyz", "stream": "readyz"}.get(target)
        up = (lambda _: listens(port)) if path is None else (lambda _: answers_at(f"http://127.0.0.1:{port}/{path}"))
        given = f"{name if target in ('ui', 'serve') else 'PORT'}={port}"
        self.running.enter_context(
            self.project.running(target, *words, given, until=up, **self.environment, **self.broker(target))
        )
        return ""


def shown(block, said):
    """The lines of an output that a page shows, with the new figures.

    Each line that is shown must have been printed, after the one above it; figures may differ, and three dots stand for anything.
    """
    printed, lines = iter(said.splitlines()), []
    for line in block.splitlines():
        if line.strip() == "...":
            lines.append(line)
            continue
        parts = [re.escape(part) for part in re.split(r"\.\.\.", line.strip())]
        pattern = ".*".join(re.sub(FIGURE, r"[0-9a-f,.:]+", part) for part in parts)
        pattern = re.sub(r"(\\ )+", r"\\s+", pattern)
        found = next((each for each in printed if re.search(pattern, each)), None)
        assert found is not None, f"{line!r} was not printed:\n{said[-4000:]}"
        lines.append(line if "..." in line else found.rstrip())
    return "\n".join(lines) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("deployment", CHOICES["deployment"])
def test_a_class_climbs_from_an_empty_folder_to_level_4_by_the_pages_alone(template, tmp_path, deployment):
    student = Student(template, tmp_path, deployment)
    for page in LESSONS:
        student.follow(page)


def answered(baked, level):
    answers = {"problem": "ride-duration", "tracking": "local", "deployment": "web", "ci": "github"}
    return baked(**answers, maturity_level=level)


@pytest.mark.parametrize(("lower", "upper"), [("0", "1"), ("1", "2"), ("2", "3"), ("3", "4")])
def test_a_lesson_shows_which_files_its_level_adds_and_which_it_changes(baked, lower, upper):
    page = LESSONS[int(upper)]
    text = page.read_text(encoding="utf-8")
    before, after = answered(baked, lower), answered(baked, upper)
    new = sorted({file.replace("night_bus", "ride_duration").replace("night-bus", "ride-duration") for file in set(after.files()) - set(before.files())})  # fmt: skip
    wanted = {f"text new {lower} {upper}": folded(new)}
    changes = [
        line
        for name in COMPOSED
        if (path := f"src/night_bus/{name}") in before.files() and path in after.files()
        for line in difference(name, before.text(path), after.text(path))
    ]
    if changes:
        wanted[f"diff changed {lower} {upper}"] = "\n".join(changes) + "\n"
    for mark, block in wanted.items():
        (shown_now,) = re.findall(rf"```{mark}\n(.*?)```", text, flags=re.S)
        if REWRITE:
            text = text.replace(f"```{mark}\n{shown_now}```", f"```{mark}\n{block}```")
            page.write_text(text, encoding="utf-8")
        else:
            assert shown_now == block


def folded(files):
    """Paths as a list, a line for each folder."""
    folders = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        folders.setdefault(folder or ".", []).append(name)
    return "".join(f"{folder + '/':34} {', '.join(names)}\n" for folder, names in folders.items())


def difference(name, before, after):
    """The differences of a file in the format of `diff`, without line numbers; a nearly new file is only named."""
    found = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1))[2:]
    lines = [line for line in found if not line.startswith("@@")]
    head = f"# src/ride_duration/{name}"
    if len(lines) > LONGEST:
        return [f"{head}: another file of {len(after.splitlines())} lines"]
    return [head, *lines] if lines else []


def test_each_word_of_the_glossary_is_explained_where_it_first_stands():
    glossary = (COURSE / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| \[level (\d)\]\(level-(\d)\.md\) \|$", glossary, flags=re.M)
    pages = [
        re.sub(r"\s+", " ", re.sub(r"```.*?```|^#.*?$", "", page.read_text("utf-8"), flags=re.S | re.M))
        for page in LESSONS
    ]
    bold = [(word.lower(), level) for level, text in enumerate(pages) for word in re.findall(r"\*\*(.+?)\*\*", text)]
    assert sorted((word.lower(), int(level)) for word, level, _ in rows) == sorted(bold)
    assert len({word for word, _ in bold}) == len(bold), "a word is explained once"
    for word, level in bold:
        stem = re.compile(rf"\b{re.escape(word)}s?\b", re.I)
        for earlier, text in enumerate(pages[: level + 1]):
            plain = re.sub(r"`[^`]*`|\[[^]]*\]\([^)]*\)", "", text)
            first = stem.search(plain if earlier < level else re.split(re.escape(f"**{word}"), plain, flags=re.I)[0])
            assert first is None, f"{word} stands in level {earlier} before it is explained: {plain[first.start() - 60 : first.end() + 30]}"  # fmt: skip


@pytest.mark.parametrize("level", range(5))
def test_each_exercise_names_what_marks_it(level):
    """A practice that the grader tries at this level or a lower one."""
    source = (
        ROOT / "{{cookiecutter.project_slug}}/src/{{cookiecutter.__package}}/tools/maturity/command.py"
    ).read_text()
    practices = {name: int(at) for at, name in re.findall(r'Practice\(\s*(\d), "(\w+)"', source)}
    text = LESSONS[level].read_text(encoding="utf-8").split("## Exercises")[1].split("<details>")[0]
    exercises = re.findall(r"^\d\. (.+(?:\n   .+)*)", text, flags=re.M)
    assert len(exercises) == 3
    for exercise in exercises:
        named = re.findall(r"`make maturity [^`]*(?:PRACTICE=([\w,]+)|LEVEL=\d)", exercise)
        assert named, exercise
        assert all(practices[name] <= level for each in named if each for name in each.split(",")), exercise


def test_the_pages_of_the_course_link_to_what_is_there():
    for page in COURSE.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


RUN = """
import sys, nbclient, nbformat
book = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
print(*(output.get("text", "") for cell in book.cells for output in cell.get("outputs", [])))
"""


@pytest.mark.slow
def test_the_notebooks_and_the_listing_of_the_course_text_run_in_a_project(bake):
    project = bake().borrow_environment()
    assert project.make("pipeline").returncode == 0
    said = {}
    for name in ("tracking", "drift"):
        done = project.run(".venv/bin/python", "-c", RUN, str(COURSE / f"{name}.ipynb"))
        assert done.returncode == 0, done.stderr[-3000:]
        said[name] = done.stdout
    assert "rows to train on" in said["tracking"]
    over = dict(re.findall(r"(\w+) +limit .*?(\d+)% of the changed days", said["drift"]))
    assert int(over["DOLocationID"]) > 80
    assert int(over["pickup_hour"]) < 20
    (listing,) = re.findall(r"```python\n(.*?)```", (COURSE / "course-text.md").read_text(encoding="utf-8"), flags=re.S)
    done = project.run(".venv/bin/python", "-c", listing)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^1 READY \d+\.\d+\nchampion 1$", done.stdout, flags=re.M)
