"""Fetching a file: over real HTTP, whole or not at all, and the same bytes ever after."""

import http.server
import threading

import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import data_lock, sources
from {{ cookiecutter.__package }}.tools import get_data

CONTENT = bytes(range(256)) * 40


def content(path):
    return CONTENT + path.encode()


class Publisher(http.server.BaseHTTPRequestHandler):
    """Serves each path's own content, as far as `most` bytes; then the connection breaks off."""

    asked: list[str]
    most: int

    def do_GET(self):
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content(self.path))))
        self.end_headers()
        self.wfile.write(content(self.path)[: self.most])

    def log_message(self, *_):
        pass


@pytest.fixture
def publisher():
    handler = type("Handler", (Publisher,), {"asked": [], "most": 1_000_000})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_port}/2023/month.parquet"
    yield handler
    server.shutdown()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder without data."""
    for module in (data_lock, params):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(data_lock, "FILE", tmp_path / "data.lock")
    monkeypatch.setattr(data_lock, "CACHE", tmp_path / "cache")
    return tmp_path


def test_a_file_is_fetched_once(publisher, project):
    for _ in range(2):
        path = sources.fetch(publisher.url)
        assert path == project / "data" / "month.parquet"
        assert path.read_bytes() == content("/2023/month.parquet")
        data_lock.keep(path, problem.sample(10, seed=1), publisher.url)
    assert len(publisher.asked) == 1


@pytest.mark.parametrize("mine", [False, True], ids=["another year's", "a file of one's own"])
def test_a_name_that_something_else_has_stands_in_for_nothing(publisher, project, mine):
    if mine:
        (project / "data").mkdir()
        path = project / "data" / "month.parquet"
        path.write_bytes(b"mine")
    else:
        path = sources.fetch(publisher.url)
        data_lock.keep(path, problem.sample(10, seed=1), publisher.url)
    was = path.read_bytes()
    for _ in range(2):
        other = sources.fetch(publisher.url.replace("2023", "2024"))
        assert other.read_bytes() == content("/2024/month.parquet")
    assert path.read_bytes() == was


def test_what_breaks_off_leaves_nothing_that_looks_whole(publisher, project):
    publisher.most = 5_000
    with pytest.raises(UserError, match="cannot fetch"):
        sources.fetch(publisher.url)
    assert list((project / "data").iterdir()) == []
    publisher.most = 1_000_000
    assert sources.fetch(publisher.url).read_bytes() == content("/2023/month.parquet")


def test_a_named_file_comes_back_from_where_it_is_published(publisher, project):
    path = sources.fetch(publisher.url)
    data_lock.keep(path, problem.sample(10, seed=1), publisher.url)
    path.unlink()
    (project / "cache" / data_lock.entries()["data/month.parquet"]["sha256"]).unlink()
    assert sources.fetch(publisher.url).read_bytes() == content("/2023/month.parquet")
    assert len(publisher.asked) == 2


def test_a_file_that_has_changed_is_refused(publisher, project):
    path = sources.fetch(publisher.url)
    data_lock.keep(path, problem.sample(10, seed=1), publisher.url)
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(UserError, match=r"is not the file that data\.lock names"):
        sources.fetch(publisher.url)
    assert not path.exists()


def test_without_a_network_the_way_out_is_told(project):
    with pytest.raises(UserError, match="make train DATA="):
        sources.fetch("http://127.0.0.1:9/month.parquet")


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
