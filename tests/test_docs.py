"""The documentation: its pages build without a warning, its reference matches the code, and the commands of its tutorial work.

`DOCS=1 make test-all ARGS="-k test_docs"` brings the reference and what the tutorial shows up to date.
"""

import ast
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import CHOICES, QUESTIONS, ROOT
from test_course import Student

DOCS = ROOT / "docs"
REWRITE = bool(os.environ.get("DOCS"))


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("zensical", reason="zensical needs Python 3.11.5 or newer")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    front = (tmp_path / "build" / "site" / "index.html").read_text(encoding="utf-8")
    assert "<h1" in front
    # Readers behind a company's proxy get all of a page from the site itself.
    assert not re.findall(r'<(?:script|img|link rel="stylesheet")[^>]+(?:src|href)="https?://[^"]+"', front)


def test_every_page_is_in_the_contents():
    named = re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8"))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert there == set(named)
    assert len(named) == len(set(named))


WAYS = {
    **{(deployment, "local"): CHOICES["maturity_level"] for deployment in CHOICES["deployment"]},
    **{(deployment, "remote"): ["2", "4"] for deployment in CHOICES["deployment"]},
}
"""The bakes from which the availability of a setting or a command is read."""


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(each.replace('|', '&#124;') for each in line)} |" for line in lines)


def where(found):
    """The bakes that have something, in a few words: from which level on, and with which answers."""
    ways = {tuple(each[:2]) for each in found}
    said = []
    for place, question in enumerate(("deployment", "tracking")):
        values = {each[place] for each in ways}
        if values != set(CHOICES[question]):
            said.append(f"{question} {', '.join(sorted(values))}")
    least = min(each[2] for each in found)
    first = {deployment: min(each[2] for each in found if each[0] == deployment) for deployment, *_ in found}
    if early := sorted(answer for answer, level in first.items() if level < max(first.values())):
        return f"level {max(first.values())} on; deployment {', '.join(early)}: level {least} on"
    return "; ".join([*([f"level {least} on"] if least > "0" else []), *said]) or "all"


def settings(text):
    """The settings of params.toml: (table and key, value, comment)."""
    name = ""
    for line in text.splitlines():
        if head := re.match(r"\[([\w.]+)\] *(?:# *(.*))?$", line):
            name = head[1]
        elif found := re.match(r"(\w+) = (.*?) *(?:# (.*))?$", line):
            yield f"{name}.{found[1]}", found[2], found[3] or ""


def reference(baked):
    """The page: questions, settings and commands, as cookiecutter.json, params.toml and make of the bakes have them."""
    questions = []
    for name, values in QUESTIONS.items():
        if name[0] != "_":
            prompt = QUESTIONS["__prompts__"][name]
            if isinstance(values, list):
                questions += [[f"`{name}`", f"`{value}`", prompt[value]] for value in values]
            else:
                questions.append([f"`{name}`", "text", prompt])
    known, commands = {}, {}
    for (deployment, tracking), levels in WAYS.items():
        for level in levels:
            project = baked(
                problem="ride-duration", deployment=deployment, tracking=tracking, maturity_level=level, ci="github"
            )
            way = (deployment, tracking, level)
            for key, value, comment in settings(project.text("params.toml")):
                known.setdefault(key, [value, comment, []])[2].append(way)
            for command, meaning in re.findall(r"^  ([\w-]+) +(.+)$", project.make().stdout, flags=re.M):
                commands.setdefault(command, [meaning, []])[1].append(way)
    return "\n".join(
        [
            "# Reference",
            "",
            "Made by `tests/test_docs.py` from `cookiecutter.json`, `params.toml` and `make` of the projects; the values are those of taxi rides.",
            "",
            "## Questions",
            "",
            table(["question", "answer", "meaning"], questions),
            "",
            "## Settings",
            "",
            "`params.toml` of a project. An unknown table or key is an error that names the nearest known one.",
            "",
            table(
                ["setting", "value", "in", "meaning"],
                [[f"`{key}`", f"`{value}`", where(ways), comment] for key, (value, comment, ways) in known.items()],
            ),
            "",
            "## Commands",
            "",
            "`make` in a project lists its own.",
            "",
            table(
                ["command", "in", "what it does"],
                [
                    [f"`make {name}`", where(ways), meaning]
                    for name, (meaning, ways) in commands.items()
                    if name != "help"
                ],
            ),
            "",
        ]
    )


def architecture(project):
    """The page: the folders of a package with what their modules are for, and the picture of who imports whom."""
    package, folders, arrows = "src/night_bus/", {}, set()
    for name in project.files():
        if not name.startswith(package) or not name.endswith(".py") or not project.text(name).strip():
            continue
        parts = name[len(package) :].split("/")
        folder = parts[0] if len(parts) > 1 else "top"
        tree = ast.parse(project.text(name))
        about = (ast.get_docstring(tree) or "").split("\n")[0].rstrip(".")
        folders.setdefault(folder, []).append([f"`{'/'.join(parts)}`", about])
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = parts[: len(parts) - node.level]
                for each in node.names:
                    there = [*base, *(node.module or each.name).split(".")]
                    arrows.add((folder, there[0] if there[0] in FOLDERS else "top"))
    lines = [f"    {one} --> {other}" for one, other in sorted(arrows) if one != other]
    named = [f"    {folder}" for folder in FOLDERS if folder in folders]
    parts = [
        "# Architecture",
        "",
        ARCHITECTURE,
        "",
        "```mermaid",
        "flowchart TD",
        f"    top[{TOP}]",
        *named,
        *lines,
        "```",
        "",
    ]
    for folder in ["top", *FOLDERS]:
        if folder in folders:
            parts += [
                f"## {TOP if folder == 'top' else folder}",
                "",
                table(["module", "what it is"], folders[folder]),
                "",
            ]
    return "\n".join(parts)


TOP = "the files at the top"
FOLDERS = (
    "base", "data", "tracking", "model", "training", "registry", "pipeline", "serving", "monitoring", "tracking_server", "tools",
)  # fmt: skip
ARCHITECTURE = """The package of a project at level 4 with a web service and a team's tracking server, read from its imports; lower levels have fewer of these modules, and
no other ones but `serving/served_model.py`, `training/recipe.py` and `pipeline/gate.py`, which put together what runs. An arrow points to what is imported: it goes one way only, which
`import-linter` checks in `make lint`. A record becomes an answer by `model/predictor.py`; everything around it wraps it and is one too."""


@pytest.mark.parametrize("page", ["reference", "architecture"])
def test_a_page_that_is_made_from_the_code_is_up_to_date(baked, page):
    whole = {
        "problem": "ride-duration",
        "deployment": "web",
        "tracking": "remote",
        "maturity_level": "4",
        "ci": "github",
    }
    text = reference(baked) if page == "reference" else architecture(baked(**whole))
    path = DOCS / f"{page}.md"
    if REWRITE:
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, "DOCS=1 make test ARGS='-k made_from_the_code' writes it anew"


@pytest.mark.slow
def test_the_tutorial_works_as_it_is_typed(template, tmp_path):
    student = Student(template, tmp_path, "web")
    student.follow(DOCS / "tutorial.md")
    aliases = student.project.make("registry").stdout
    assert re.search(r"^1 +champion", aliases, flags=re.M), "the rollback gave the alias back to the first version"


def test_the_plan_follows_from_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import scale

    page = (DOCS / "scale.md").read_text(encoding="utf-8")
    found = scale.units(page)
    assert scale.written(page, found) == page
    dearer = scale.plan(found | {"requests": found["requests"] / 2}, 10_000)
    assert int(dearer["web: cores"]) >= 2 * int(scale.plan(found, 10_000)["web: cores"]) - 1
