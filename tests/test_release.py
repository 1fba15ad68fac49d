"""A release: its tag, version and changelog fit, and the three projects that it publishes are whole."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from release import notes

WHOLE = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-11-28\n\n### Added\n\n- A thing.\n\n## [0.1.0] - 2026-01-01\n\n- The first.\n"


def test_the_notes_are_the_version_s_section():
    assert notes("v0.2.0", "0.2.0", WHOLE) == "### Added\n\n- A thing."


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "said"),
    [
        ("v0.3.0", "0.2.0", WHOLE, "tag v0.2.0, or change _version"),
        ("v0.2", "0.2", WHOLE, "no semantic version"),
        ("v0.3.0", "0.3.0", WHOLE, "rename \\[Unreleased\\]"),
        ("v0.2.0", "0.2.0", WHOLE.replace(" - 2026-11-28", ""), "without its date"),
        ("v0.2.0", "0.2.0", WHOLE.replace("[Unreleased]\n", "[Unreleased]\n\n- More.\n"), "still has entries"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(tag, version, changelog, said):
    with pytest.raises(SystemExit, match=said):
        notes(tag, version, changelog)


def test_the_changelog_is_ahead_of_the_version_or_has_its_section():
    version = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["_version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{version}]" in changelog or changelog.partition("## [Unreleased]")[2].strip()


def test_three_projects_are_baked_to_be_published():
    done = subprocess.run(
        ["make", "example", "TEMPLATE=https://example.com/template"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name in ("ride-duration", "customer-churn", "my-model"):
        project = ROOT / "build" / "example" / name
        lock = json.loads((project / "Pipfile.lock").read_text(encoding="utf-8"))
        assert lock["default"]
        known = json.loads((project / ".cruft.json").read_text(encoding="utf-8"))
        assert known["template"] == "https://example.com/template", "what is published can be updated"
        assert (project / "README.md").exists()
