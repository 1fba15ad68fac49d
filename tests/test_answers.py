"""A bad answer is refused in one line that names it and a good one, and leaves nothing behind; a good one survives."""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import AUTHOR, NAMED, ROOT
from cookiecutter.environment import StrictEnvironment

BAD = [
    ("project_name", ""),
    ("project_name", "   "),
    ("project_name", "x" * 200),
    ("project_name", "two\nlines"),
    ("project_name", "$(id)"),
    ("project_name", "`id`"),
    ("project_name", "back\\slash"),
    ("project_name", "🚕"),
    ("project_slug", "../x"),
    ("project_slug", "/tmp/absolute"),
    ("project_slug", "Ride"),
    ("project_slug", "7rides"),
    ("project_slug", "class"),
    ("project_slug", "match"),
    ("project_slug", "json"),
    ("project_slug", "mlflow"),
    ("project_slug", "flask"),
    ("project_slug", "packaging"),
    ("project_slug", "con"),
    ("project_slug", "com1"),
    ("project_slug", "x" * 200),
    ("project_slug", "ride--duration"),
    ("project_slug", "ride duration"),
    ("description", "two\nlines"),
    ("description", ""),
    ("author", "tab\tand\x07bell"),
    ("author", "'''; import os; os.abort() #\n"),
]


def cookiecutter(answers, folder):
    """Bake from the command line, as a user does."""
    words = [f"{name}={answer}" for name, answer in answers.items()]
    command = [
        sys.executable,
        "-m",
        "cookiecutter",
        "--no-input",
        "--default-config",
        "-o",
        str(folder),
        str(ROOT),
        *words,
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize(("question", "answer"), BAD, ids=[f"{q}={ascii(a)[:20]}" for q, a in BAD])
def test_a_bad_answer_is_refused_and_nothing_is_left(question, answer, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    done = cookiecutter({question: answer}, folder)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    if question != "project_name":
        assert done.stderr.splitlines()[0].startswith(f"{question} "), done.stderr
        assert "; try: " in done.stderr.splitlines()[0]


@pytest.mark.parametrize("level", ["0", "1"])
def test_mage_is_refused_where_there_is_no_pipeline_to_run(level, tmp_path):
    done = cookiecutter({"orchestrator": "mage", "maturity_level": level}, tmp_path)
    assert done.returncode != 0
    refusal = done.stderr.splitlines()[0]
    why = f"needs pipelines, which begin at maturity_level 2, and this is {level}"
    assert refusal == f"orchestrator 'mage' {why}; try: ci"
    assert list(tmp_path.iterdir()) == []


def test_a_nul_byte_is_refused_too(cookies):
    for question in ("project_name", "project_slug", "author"):
        assert cookies.bake(extra_context={question: "a\0b"}).exit_code != 0


def test_an_answer_is_data_to_the_hook_and_never_code(tmp_path):
    done = cookiecutter({"author": '""" + str(__import__("os").abort()) + """'}, tmp_path)
    assert done.returncode == 0, done.stderr


def test_an_awkward_author_survives_into_every_file_that_names_her(bake):
    project = bake(**NAMED)
    pyproject = tomllib.loads(project.text("pyproject.toml"))
    assert pyproject["project"]["authors"] == [{"name": AUTHOR}]
    assert pyproject["tool"]["mlops-template"]["names"]["team"] == AUTHOR
    assert pyproject["project"]["description"] == NAMED["description"]
    assert json.loads(project.text(".cruft.json"))["context"]["cookiecutter"]["author"] == AUTHOR


NAMES = {
    "L'été des taxis": "l-ete-des-taxis",
    "Children's Hospital": "children-s-hospital",
    "R&D: no-shows": "r-d-no-shows",
    "50% off": "project-50-off",
    'Says "when"': "says-when",
    "# 1 of: many, [yes] *really* — no? null ~": "project-1-of-many-yes-really-no-null",
    "Passengers who are late for their connecting flights": "passengers-who-are-late-for",
}
"""Names of projects and the names of their folders."""


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_people_write_and_survives_into_every_file(bake, name):
    project = bake(project_name=name, description=f"All about {name}.", author=name, maturity_level="2")
    assert project.path.name == NAMES[name]
    assert project.text("README.md").startswith(f"# {name}\n")
    assert f"All about {name}." in project.text("README.md")
    pyproject = tomllib.loads(project.text("pyproject.toml"))
    assert pyproject["project"]["name"] == NAMES[name]
    assert pyproject["tool"]["mlops-template"]["names"]["team"] == name
    assert json.loads(project.text(".cruft.json"))["context"]["cookiecutter"]["project_name"] == name
    for path in project.files():
        read = {
            ".json": json.loads,
            ".toml": tomllib.loads,
            ".yaml": yaml.safe_load,
            ".yml": yaml.safe_load,
            ".py": ast.parse,
        }
        read.get(pathlib.Path(path).suffix, len)(project.text(path))
    assert project.make("help").returncode == 0


def test_the_problem_is_asked_first_and_the_name_follows(tmp_path):
    words = [sys.executable, "-m", "cookiecutter", "--default-config", "--output-dir", str(tmp_path), str(ROOT)]
    # A shell sets PWD to the current folder.
    width = {**os.environ, "COLUMNS": "80", "PWD": str(tmp_path)}
    done = subprocess.run(words, input="2\n" + "\n" * 9, capture_output=True, text=True, cwd=tmp_path, env=width)
    asked = done.stdout.split("[2/")[0]
    assert "What should the first model predict?" in asked
    assert "(Customer Churn)" in done.stdout
    assert "1 - Level 2: automated training (level 1, pipeline, data checks, registry)\n" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if re.match(r"    \d - ", line)) <= 80
    made, *next_steps = [line.strip() for line in done.stdout.partition("Made ")[2].splitlines() if line.strip()]
    assert made == "customer-churn (churn, local, web, level 2). Next:"
    assert next_steps[:3] == ["cd customer-churn", "make setup", "make pipeline"]
    assert (tmp_path / "customer-churn" / "README.md").is_file()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("git+https://host.example/team/template.git", "https://host.example/team/template.git"),
        ("git+ssh://git@host.example/template.git", "ssh://git@host.example/template.git"),
        ("git@host.example:team/template.git", "git@host.example:team/template.git"),
        ("gh:team/template", "https://github.com/team/template"),
        ("bb:team/template", "https://bitbucket.org/team/template"),
        ("/home/ana/template", "/home/ana/template"),
    ],
)
def test_cruft_finds_the_template_by_the_address_that_was_typed(given, kept):
    source = (ROOT / "{{cookiecutter.project_slug}}" / ".cruft.json").read_text(encoding="utf-8")
    questions = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    context = StrictEnvironment(context={"cookiecutter": questions}, **questions["_jinja2_env_vars"])
    text = context.from_string(source).render(cookiecutter={**questions, "_template": given})
    assert json.loads(text)["template"] == kept


def test_a_name_in_another_script_becomes_a_latin_slug(bake):
    project = bake(project_name="Žižkov 王")
    assert project.path.name == "zizkov-wang"
    assert project.text("README.md").startswith("# Žižkov 王\n")


def test_baking_over_a_folder_that_exists_is_refused_and_changes_nothing(tmp_path):
    (tmp_path / "ride-duration").mkdir()
    (tmp_path / "ride-duration" / "mine.txt").write_text("mine")
    assert cookiecutter({}, tmp_path).returncode != 0
    assert os.listdir(tmp_path / "ride-duration") == ["mine.txt"]


def test_every_question_and_choice_is_labelled():
    questions = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    labels = questions["__prompts__"]
    for name, default in questions.items():
        if name.startswith("_"):
            continue
        assert name in labels
        if isinstance(default, list):
            assert set(default) == set(labels[name]) - {"__prompt__"}


def test_the_hooks_need_the_standard_library_only():
    for hook in (pathlib.Path(ROOT) / "hooks").glob("*.py"):
        imported = {line.split()[1] for line in hook.read_text().splitlines() if line.startswith(("import ", "from "))}
        assert imported <= sys.stdlib_module_names
        assert not imported & {"subprocess", "socket", "urllib"}
