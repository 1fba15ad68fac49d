"""`data.lock` names data sets by content; the exact ones come back from the cache, a folder, S3 or where they came from."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import data_lock, sources
from {{ cookiecutter.__package }}.data.schema import table
from {{ cookiecutter.__package }}.tools import get_data


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with a file in data/."""
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(data_lock, "ROOT", tmp_path)
    monkeypatch.setattr(data_lock, "FILE", tmp_path / "data.lock")
    monkeypatch.setattr(data_lock, "CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    pa.parquet.write_table(table(problem.sample(500, 1)), tmp_path / "data" / "rows.parquet")
    return tmp_path


def make_data(monkeypatch, *words):
    """`make data`, as a person types it."""
    monkeypatch.setattr("sys.argv", ["data", *words])
    get_data.main()


def spoil(path):
    pa.parquet.write_table(table(problem.sample(600, 2)), path)


def test_a_data_set_is_named_by_its_content_its_rows_and_their_span(project, monkeypatch, capsys):
    make_data(monkeypatch, "--keep", str(project / "data" / "rows.parquet"))
    (name, entry), *_ = json.loads((project / "data.lock").read_text()).items()
    assert name == "data/rows.parquet"
    assert entry["rows"] == 500
    assert entry["sha256"] == data_lock.sha256(project / "data" / "rows.parquet")
    assert bool(entry["span"]) == bool(problem.TIME)
    assert "named in data.lock" in capsys.readouterr().out


def test_training_says_when_data_are_not_those_that_are_named(project, monkeypatch, capsys):
    path = project / "data" / "rows.parquet"
    make_data(monkeypatch, "--keep", str(path))
    sources.rows(params.Data(), str(path))
    assert capsys.readouterr().err == ""
    spoil(path)
    sources.rows(params.Data(), str(path))
    assert "data/rows.parquet is not the file that data.lock names (500 rows" in capsys.readouterr().err


@pytest.mark.parametrize("gone", ["missing", "different"])
def test_make_data_brings_the_exact_file_back_from_the_cache(project, monkeypatch, capsys, gone):
    path = project / "data" / "rows.parquet"
    make_data(monkeypatch, "--keep", str(path))
    digest = data_lock.sha256(path)
    path.unlink() if gone == "missing" else spoil(path)
    make_data(monkeypatch)
    assert data_lock.sha256(path) == digest
    assert "was restored from the cache" in capsys.readouterr().out
    # What somebody had there is not lost.
    assert len(list(path.parent.glob("rows.parquet.*.replaced"))) == (gone == "different")
    make_data(monkeypatch)
    assert "matches data.lock" in capsys.readouterr().out


def test_a_folder_that_a_team_shares_has_it_for_those_who_have_no_cache(project, monkeypatch, capsys):
    path = project / "data" / "rows.parquet"
    monkeypatch.setenv("DATA_STORE", str(project / "shared"))
    make_data(monkeypatch, "--keep", str(path))
    digest = data_lock.sha256(path)
    path.unlink()
    (project / "cache" / digest).unlink()
    make_data(monkeypatch)
    assert data_lock.sha256(path) == digest
    assert f"was restored from {project / 'shared'}" in capsys.readouterr().out


def test_what_is_found_nowhere_or_has_other_content_is_told(project, monkeypatch):
    path = project / "data" / "rows.parquet"
    make_data(monkeypatch, "--keep", str(path))
    path.unlink()
    (project / "cache" / json.loads((project / "data.lock").read_text())["data/rows.parquet"]["sha256"]).write_bytes(
        b"x"
    )
    with pytest.raises(UserError, match="is not in the cache: set DATA_STORE"):
        make_data(monkeypatch)
    assert not path.exists()
    assert [each.name for each in (project / "data").iterdir()] == []


def test_a_file_elsewhere_is_not_named(project, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "rows.parquet"
    spoil(elsewhere)
    with pytest.raises(UserError, match="outside the project"):
        make_data(monkeypatch, "--keep", str(elsewhere))


def test_a_damaged_lock_says_how_to_mend_it(project, monkeypatch):
    (project / "data.lock").write_text("[")
    with pytest.raises(UserError, match="git checkout"):
        make_data(monkeypatch)


def test_a_store_that_cannot_be_written_names_nothing(project, monkeypatch):
    (project / "file").write_text("")
    monkeypatch.setenv("DATA_STORE", str(project / "file"))
    with pytest.raises(UserError, match="cannot be written"):
        make_data(monkeypatch, "--keep", str(project / "data" / "rows.parquet"))
    assert not (project / "data.lock").exists()


@pytest.mark.parametrize("name", ["../rows.parquet", "/etc/passwd", "data/../../x", "data/\0", "data", "d" * 300])
def test_a_name_that_is_no_file_of_the_project_is_refused_and_nothing_written(project, name):
    entry = {"sha256": "ab" * 32, "bytes": 1, "rows": 1, "span": "", "origin": ""}
    data_lock.FILE.write_text(json.dumps({name: entry}))
    before = sorted(project.parent.rglob("*"))
    with pytest.raises(UserError, match="which is no file of this project"):
        list(data_lock.restore_all())
    assert sorted(project.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "entry", [{}, {"sha256": "../x", "bytes": 1, "rows": 1}, {"sha256": "ab" * 32, "bytes": 1, "rows": []}]
)
def test_an_entry_that_lacks_what_it_should_say_is_named(project, entry):
    data_lock.FILE.write_text(json.dumps({"data/rows.parquet": entry}))
    with pytest.raises(UserError, match=r"data\.lock is damaged \(data/rows.parquet"):
        data_lock.entries()
