"""Check a release: print the notes of the version to be tagged, or what is missing.

`python scripts/release.py v0.2.0` exits with 1 and one line where the tag is not the template's version, the changelog has no
section for it, or something is still under Unreleased.
"""

import argparse
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def notes(tag, version, changelog):
    """The changelog's section of a version, for the tag `v<version>`.

    Raises:
        SystemExit: tag, version and changelog do not fit; the message says what to do.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", version):
        sys.exit(f"error: _version in cookiecutter.json is {version}, which is no semantic version")
    if tag != f"v{version}":
        sys.exit(
            f"error: the tag is {tag}, _version in cookiecutter.json is {version}: tag v{version}, or change _version"
        )
    sections = dict(re.findall(r"^## \[([^\]]+)\](.*?)(?=^## \[|\Z)", changelog, flags=re.M | re.S))
    if version not in sections:
        sys.exit(f"error: CHANGELOG.md has no section [{version}]: rename [Unreleased] to [{version}] - <date>")
    heading, _, text = sections[version].partition("\n")
    if not re.fullmatch(r" - \d{4}-\d{2}-\d{2}", heading):
        sys.exit(f"error: CHANGELOG.md has [{version}] without its date: [{version}] - 2026-01-31")
    if sections.get("Unreleased", "").strip():
        sys.exit(f"error: CHANGELOG.md still has entries under [Unreleased]: move them to [{version}]")
    return text.strip()


def main():
    """Print the notes of the tag's release."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tag", help="the tag of the release, v0.2.0")
    version = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["_version"]
    print(notes(parser.parse_args().tag, version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
