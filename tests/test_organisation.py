"""Projects in an organisation: with its own defaults, in an existing repository, several in one repository."""

import fnmatch
import re
import subprocess
import sys

import yaml
from conftest import ROOT, git
from test_bakes import lint_workflows

PAGE = (ROOT / "docs" / "organisation.md").read_text(encoding="utf-8")


def block(kind, first):
    """The code block of the page that begins with these words."""
    return next(each for each in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S) if each.startswith(first))


def cookiecutter(folder, *words):
    command = [sys.executable, "-m", "cookiecutter", "--no-input", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_file_of_answers_makes_an_organisation_s_own_defaults(tmp_path):
    (tmp_path / "defaults.yaml").write_text(block("yaml", "# defaults.yaml"), encoding="utf-8")
    cookiecutter(tmp_path, "--config-file", "defaults.yaml", str(ROOT))
    project = tmp_path / "ride-duration"
    assert "Pricing" in (project / "pyproject.toml").read_text(encoding="utf-8")
    assert (project / ".gitlab-ci.yml").exists()
    assert (project / "deploy" / "tracking-server").exists()


FOLDERS = ["services/ride-duration", "services/customer-churn"]


def together(folder, ci, level="2"):
    """A repository with two projects and the files that the page's script writes to its root; returns their folders."""
    git(folder, "init", "-q", "-b", "main")
    for answers in (
        ["problem=ride-duration", "deployment=streaming"],
        ["problem=churn", "deployment=batch", "tracking=remote"],
    ):
        words = ["--default-config", "--output-dir", "services", str(ROOT), f"ci={ci}", f"maturity_level={level}"]
        cookiecutter(folder, *words, *answers)
    scripts = re.findall(r"```python\n(# projects_ci\.py.*?)```", PAGE, re.S)
    (folder / "projects_ci.py").write_text(scripts[["github", "gitlab"].index(ci)], encoding="utf-8")
    for _ in range(2):
        subprocess.run([sys.executable, "projects_ci.py", *FOLDERS], cwd=folder, check=True)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Two projects")
    return [folder / each for each in FOLDERS]


def test_in_one_repository_the_workflows_of_a_project_run_for_what_changed_in_its_folder(tmp_path):
    projects = together(tmp_path, "github", level="4")
    lint_workflows(tmp_path)
    texts = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / ".github" / "workflows").iterdir()}
    workflows = {name: yaml.load(text, yaml.BaseLoader) for name, text in texts.items()}
    assert set(workflows) == {
        f"{folder.replace('/', '-')}-{path.name}"
        for folder, project in zip(FOLDERS, projects, strict=True)
        for path in (project / ".github" / "workflows").iterdir()
    }

    def run_for(file, event):
        """The folders whose checks are run."""
        return {
            each["defaults"]["run"]["working-directory"]
            for name, each in workflows.items()
            if name.endswith("-ci.yml")
            if any(fnmatch.fnmatch(file, pattern) for pattern in each["on"][event]["paths"])
        }

    for event in ("push", "pull_request"):
        assert run_for("services/ride-duration/params.toml", event) == {FOLDERS[0]}
        assert run_for("services/customer-churn/src/x/y.py", event) == {FOLDERS[1]}
        assert run_for("README.md", event) == set()

    def said(folder):
        """The names that the workflows of a project must not share with another: groups, environments, workflows, variables."""
        mine = [text for name, text in texts.items() if name.startswith(folder.replace("/", "-"))]
        found = re.findall(r"^name: .*|(?:group|environment): \S+|vars\.(?!MLFLOW|REGISTRY)\w+", "\n".join(mine), re.M)
        assert {each.split(":")[0].split(".")[0] for each in found} == {"name", "group", "environment", "vars"}
        return set(found)

    assert not said(FOLDERS[0]) & said(FOLDERS[1])
    names = {each["name"] for each in workflows.values()}
    assert len(names) == len(workflows)
    for name, each in workflows.items():
        assert set(each["on"].get("workflow_run", {}).get("workflows", [])) <= names
        assert set(re.findall(r"--workflow (\S+)", texts[name])) <= set(workflows)
        if "actions/checkout" not in texts[name]:
            continue
        # The targets exist in the folder in which a job runs, and artifacts are paths in it.
        folder = each["defaults"]["run"]["working-directory"]
        targets = (tmp_path / folder / "Makefile").read_text(encoding="utf-8")
        steps = [step for job in each["jobs"].values() for step in job["steps"]]
        for target in (found for step in steps for found in re.findall(r"\bmake ([a-z]+)", step.get("run", ""))):
            assert re.search(rf"^{target}:", targets, flags=re.M)
        for step in (step for step in steps if "actions/checkout" not in step.get("uses", "")):
            given = step.get("with", {})
            for path in [*given.get("path", folder).split(), given.get("context", folder)]:
                assert path.startswith(folder), (name, step)
