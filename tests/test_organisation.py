"""Projects where organisations put them: with defaults of their own, in a repository that exists, several side by side."""

import fnmatch
import re
import subprocess
import sys

import yaml
from conftest import ROOT, git
from test_bakes import lint_workflows

PAGE = (ROOT / "docs" / "organisation.md").read_text(encoding="utf-8")


def block(kind, first):
    """A code block of the page by its first words."""
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


def test_in_one_repository_the_jobs_of_a_project_run_for_what_changed_in_its_folder(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    for answers in (["problem=ride-duration"], ["problem=churn", "deployment=batch"]):
        cookiecutter(tmp_path, "--default-config", "--output-dir", "services", str(ROOT), *answers)
    folders = ["services/ride-duration", "services/customer-churn"]
    (tmp_path / "projects_ci.py").write_text(block("python", "# projects_ci.py"), encoding="utf-8")
    for _ in range(2):
        subprocess.run([sys.executable, "projects_ci.py", *folders], cwd=tmp_path, check=True)
    lint_workflows(tmp_path)
    workflows = {
        path.name: yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
        for path in (tmp_path / ".github" / "workflows").iterdir()
    }
    assert set(workflows) == {f"{folder.replace('/', '-')}.yml" for folder in folders}

    def run_for(file, event):
        return {
            each["defaults"]["run"]["working-directory"]
            for each in workflows.values()
            if any(fnmatch.fnmatch(file, pattern) for pattern in each["on"][event]["paths"])
        }

    for event in ("push", "pull_request"):
        assert run_for("services/ride-duration/params.toml", event) == {folders[0]}
        assert run_for("services/customer-churn/src/x/y.py", event) == {folders[1]}
        assert run_for("README.md", event) == set()
    assert len({each["concurrency"]["group"] for each in workflows.values()}) == 2
    for each in workflows.values():
        # What a job runs is there to be run in the folder that it names.
        folder = tmp_path / each["defaults"]["run"]["working-directory"]
        targets = (folder / "Makefile").read_text(encoding="utf-8")
        steps = [step["run"] for job in each["jobs"].values() for step in job["steps"] if "run" in step]
        assert {"make setup", "make lint", "make test", "make image"} <= set(steps)
        assert all(re.search(rf"^{step.split()[1]}:", targets, flags=re.M) for step in steps)
