"""Resolve every project's packages at once, cut the result into `templates/locks/`, and renew the Pipfile hashes.

One superset Pipfile holds what any answer may need. Its [packages] table is the union of the others, so that pipenv
resolves all of it together and every category gets the same version of a package.
"""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOCKS = ROOT / "templates" / "locks"
DEPLOYMENTS = ("web", "batch", "streaming")
CATEGORIES = {
    name: name
    for name in (*DEPLOYMENTS, "basic", "monitor", "train", "tracking", "notebook", "broker", "spark", "audit")
} | {"dev-packages": "develop"}


def environment(folder):
    """The process environment without the machine's own package indexes: a lock must be the same everywhere."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_FIND", "PIP_EXTRA", "PIPENV"))
    }
    return clean | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIPENV_IGNORE_VIRTUALENVS": "1",
        "PIPENV_PIPFILE": str(folder / "Pipfile"),
        "PIPENV_VENV_IN_PROJECT": "1",
        "PIPENV_PYTHON": sys.executable,
    }


def superset(wanted):
    """The text of the Pipfile whose [packages] is the union of every category."""
    lines = [line for line in wanted.splitlines() if line and not line.startswith(("#", "["))]
    # A package that one category wants with extras and another without is there once, with them.
    requirements = sorted({line.split(" = ")[0]: line for line in sorted(lines, key=lambda line: "{" in line)}.values())
    return "\n".join(["[packages]", *requirements, "", wanted])


def pipfile_hash(folder):
    """The hash with which `pipenv verify` compares the lock of the project in `folder`."""
    code = "from pipenv.project import Project; print(Project().pipfile.calculate_hash())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(folder), capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-1]


def locked(pipfile, categories):
    """The lock of a Pipfile's text, without the address of any index."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (folder / "Pipfile").write_text(pipfile)
        command = [sys.executable, "-m", "pipenv", "lock", "--categories", " ".join(categories)]
        subprocess.run(command, cwd=folder, env=environment(folder), check=True)
        lock = json.loads((folder / "Pipfile.lock").read_text())
    lock["_meta"]["sources"] = []
    for block in lock.values():
        for pin in block.values():
            if isinstance(pin, dict):
                pin.pop("index", None)
    return lock


def resolve():
    """Renew the template's own lock, and write the JSON of each category of the projects' into a file of `templates/locks/`."""
    own = locked((ROOT / "Pipfile").read_text(), ["packages", "dev-packages"])
    (ROOT / "Pipfile.lock").write_text(json.dumps(own, indent=4, sort_keys=True) + "\n")
    lock = locked(superset((LOCKS / "Pipfile").read_text()), ["packages", *CATEGORIES])
    for category, block in CATEGORIES.items():
        text = json.dumps(lock[block], indent=4, sort_keys=True).replace("\n", "\n    ")
        # Jinja reads one long literal several times faster than the same text between its marks.
        literal = text.replace("\\", "\\\\").replace("'", "\\'")
        (LOCKS / f"{category}.jinja").write_text(f"{{{{ '{literal}' }}}}\n")


def renew_hashes():
    """Bake each kind of Pipfile and write its hash into `cookiecutter.json`."""
    from cookiecutter.main import cookiecutter

    hashes = {}
    for deployment, tracking, level in itertools.product(DEPLOYMENTS, ("local", "remote"), ("0", "1", "2", "4")):
        with tempfile.TemporaryDirectory() as scratch:
            answers = {"deployment": deployment, "tracking": tracking, "maturity_level": level}
            baked = cookiecutter(
                str(ROOT), no_input=True, extra_context=answers, output_dir=scratch, default_config=True
            )
            hashes[f"{deployment}-{tracking}-{level}"] = pipfile_hash(pathlib.Path(baked))
    path = ROOT / "cookiecutter.json"
    questions = path.read_text(encoding="utf-8").splitlines()
    table = "  " + json.dumps({"_lock_hash": hashes})[1:-1] + ","
    lines = [table if line.lstrip().startswith('"_lock_hash"') else line for line in questions]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if "--hashes" not in sys.argv:
        print("resolving every package; this takes a minute or two", flush=True)
        resolve()
    renew_hashes()
