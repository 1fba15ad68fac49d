"""Fetching a file: over real HTTP, resumed where it broke off, and the same bytes ever after."""

import http.server
import threading
from typing import ClassVar

import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import data_lock, download
from {{ cookiecutter.__package }}.tools import get_data

CONTENT = bytes(range(256)) * 40


class Publisher(http.server.BaseHTTPRequestHandler):
    """Serves `CONTENT`, from the byte that is asked for."""

    content = CONTENT
    ranges: ClassVar[list] = []

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted[6:-1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def publisher():
    handler = type("Handler", (Publisher,), {"ranges": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_port}/month.parquet"
    yield handler
    server.shutdown()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder without data."""
    monkeypatch.setattr(data_lock, "ROOT", tmp_path)
    monkeypatch.setattr(data_lock, "FILE", tmp_path / "data.lock")
    monkeypatch.setattr(data_lock, "CACHE", tmp_path / "cache")
    return tmp_path


def test_a_file_is_fetched_once(publisher, project):
    for _ in range(2):
        path = data_lock.fetch(publisher.url)
        assert path == project / "data" / "month.parquet"
        assert path.read_bytes() == CONTENT
    assert len(publisher.ranges) == 1


def test_a_broken_download_is_resumed(publisher, tmp_path):
    (tmp_path / "month.parquet.partial").write_bytes(CONTENT[:5_000])
    download.get(publisher.url, tmp_path / "month.parquet")
    assert (tmp_path / "month.parquet").read_bytes() == CONTENT
    assert publisher.ranges == ["bytes=5000-"]


def test_a_named_file_comes_back_from_where_it_is_published(publisher, project):
    path = data_lock.fetch(publisher.url)
    data_lock.keep(path, problem.sample(10, seed=1), publisher.url)
    path.unlink()
    (project / "cache" / data_lock.entries()["data/month.parquet"]["sha256"]).unlink()
    assert data_lock.fetch(publisher.url).read_bytes() == CONTENT
    assert len(publisher.ranges) == 2


def test_a_file_that_has_changed_is_refused(publisher, project):
    path = data_lock.fetch(publisher.url)
    data_lock.keep(path, problem.sample(10, seed=1), publisher.url)
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(UserError, match=r"is not the file that data\.lock names"):
        data_lock.fetch(publisher.url)
    assert not path.exists()


def test_without_a_network_the_way_out_is_told(project):
    with pytest.raises(UserError, match="generated sample"):
        data_lock.fetch("http://127.0.0.1:9/month.parquet")


@pytest.mark.parametrize("month", ["2024", "2024-13", "01-2024", "2024-1", "../x"])
def test_a_month_that_is_none_is_refused(month, monkeypatch):
    monkeypatch.setattr(problem, "SOURCE", "https://example.org/{month}.parquet")
    with pytest.raises(UserError, match="is no month"):
        get_data.address(month)
    assert get_data.address("2024-01") == "https://example.org/2024-01.parquet"


def test_without_a_source_there_is_nothing_to_fetch(monkeypatch):
    monkeypatch.setattr(problem, "SOURCE", "")
    with pytest.raises(UserError, match="no SOURCE"):
        get_data.address()
