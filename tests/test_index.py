"""Setup with a company's package index: through a proxy, with a private certificate and a login."""

import base64
import contextlib
import http.server
import os
import pathlib
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import urllib.parse

import pytest
from conftest import NAMED, ROOT, Project

HOST = "packages.example.org"
LOGIN = "robot:s3cret+word"
ADDED = "iniconfig"
"""A small package that a project of level 0 does not have."""

MAKEFILE = (ROOT / "{{cookiecutter.project_slug}}" / "Makefile").read_text(encoding="utf-8")
PIPENV = re.search(r"pip install --quiet (pipenv==[\d.]+)", MAKEFILE)[1]


class Index(http.server.BaseHTTPRequestHandler):
    """A simple index (PEP 503) of a folder of wheels, with basic authentication."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        wheels, given = self.server.wheels, self.headers.get("Authorization", "")
        if given != "Basic " + base64.b64encode(LOGIN.encode()).decode():
            return self.send(401, b"log in")
        place, _, name = urllib.parse.unquote(self.path).strip("/").partition("/")
        if place == "files" and (wheels / name).is_file():
            self.server.sent.add(name)
            content = (wheels / name).read_bytes()
            if name == self.server.altered:
                content = content[:-1] + bytes([content[-1] ^ 1])
            return self.send(200, content)
        found = [each.name for each in wheels.iterdir() if project(each.name) == name]
        links = "".join(f'<a href="/files/{urllib.parse.quote(each)}">{each}</a>' for each in found)
        return self.send(200 if found else 404, links.encode())

    def send(self, status, body):
        self.send_response(status)
        for name, value in (("Content-Type", "text/html"), ("Content-Length", len(body))):
            self.send_header(name, str(value))
        if status == 401:
            self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Print nothing."""


class Proxy(socketserver.StreamRequestHandler):
    """A proxy that connects to the index and records requests for any other host."""

    def handle(self):
        wanted = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass
        if wanted != f"{HOST}:443":
            self.server.refused.append(wanted)
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        with socket.create_connection(self.server.index) as there:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=relay, args=(there, self.connection))
            back.start()
            relay(self.connection, there)
            back.join()


def relay(source, target):
    """Copy what comes from one socket to another until it ends."""
    with contextlib.suppress(OSError):
        while block := source.recv(65536):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)


def project(wheel):
    """The normalized name of the project that a wheel is of."""
    return wheel.split("-")[0].lower().replace("_", "-").replace(".", "-")


@contextlib.contextmanager
def served(server):
    """A server, while the block runs."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def downloaded(cookies_session, tmp_path_factory):
    """The wheels of a small project's lock and of pipenv, from this machine's own index."""
    baked = cookies_session.bake(extra_context={**NAMED, "maturity_level": "0"})
    project, folder = Project(baked.project_path), tmp_path_factory.mktemp("wheels")
    pipenv = str(ROOT / ".pipenv" / "bin" / "pipenv")
    listed = project.run(pipenv, "requirements", "--hash", "--categories", "packages train", PIP_CONFIG_FILE=os.devnull)
    (folder / "requirements.txt").write_text(listed.stdout)
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder / "wheels")]
    for words in (
        ["--no-deps", "--require-hashes", "-r", str(folder / "requirements.txt")],
        [PIPENV, ADDED],
    ):
        done = subprocess.run([*download, *words], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"packages cannot be downloaded here: {done.stderr[-300:]}")
    return folder / "wheels"


@pytest.fixture
def company(downloaded, tmp_path):
    """An index and a proxy, with the settings to use them."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    made = [f"{tmp_path}/key.pem", "-out", f"{tmp_path}/ca.pem"]
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={HOST} -addext subjectAltName=DNS:{HOST} -keyout"
    subprocess.run(["openssl", *words.split(), *made], check=True, capture_output=True)
    index = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    index.wheels, index.sent, index.altered = downloaded, set(), None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    index.handle_error = lambda *_: None
    index.socket = context.wrap_socket(index.socket, server_side=True, do_handshake_on_connect=False)
    proxy = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy)
    proxy.index, proxy.refused, proxy.daemon_threads = index.server_address, [], True
    with served(index), served(proxy):
        index.proxy = proxy
        user, password = LOGIN.split(":")
        index.settings = {
            "HTTPS_PROXY": f"http://127.0.0.1:{proxy.server_address[1]}",
            "PIP_INDEX_URL": f"https://{user}:{urllib.parse.quote(password)}@{HOST}/simple",
            "PIP_CERT": f"{tmp_path}/ca.pem",
        }
        yield index


def make(project, folder, settings, *words):
    """Run make with these settings, without this machine's settings for indexes, proxies and certificates."""
    said = ("PIP_", "PIPENV_", "MAKE", "VIRTUAL_ENV", "PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(said)}
    kept = {k: v for k, v in kept.items() if not k.lower().endswith(("_proxy", "ca_bundle", "cert_file", "cert_dir"))}
    kept |= {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "PIP_CONFIG_FILE": os.devnull, **settings}
    command = ["make", "--no-print-directory", *words, f"PYTHON={pathlib.Path(sys.executable).resolve()}"]
    return subprocess.run(command, cwd=project.path, env=kept, capture_output=True, text=True, timeout=900)


OURS = f'PIPENV="{ROOT}/.pipenv/bin/pipenv"'


@pytest.mark.slow
def test_a_project_sets_itself_up_and_adds_a_package_from_a_company_s_index(bake, company, tmp_path):
    project = bake(**NAMED, maturity_level="0")
    done = make(project, tmp_path, company.settings, "setup")
    assert done.returncode == 0, done.stdout + done.stderr
    assert company.proxy.refused == []
    assert company.sent == {each.name for each in company.wheels.iterdir() if not each.name.startswith(ADDED)}
    done = make(project, tmp_path, company.settings, "add", f"PACKAGE={ADDED}")
    assert done.returncode == 0, done.stdout + done.stderr
    lock = project.text("Pipfile.lock")
    assert f'"{ADDED}"' in lock
    assert HOST not in lock
    assert done.stdout.count(LOGIN) == 0
    verify = [f"{project.path}/.pipenv/bin/python", "-m", "pipenv", "verify"]
    assert subprocess.run(verify, cwd=project.path, env=os.environ | {"PIP_CONFIG_FILE": os.devnull}).returncode == 0


@pytest.mark.slow
def test_a_file_that_is_not_the_lock_s_is_refused(bake, company, tmp_path):
    company.altered = next(each.name for each in company.wheels.iterdir() if each.name.startswith("annotated_types"))
    project = bake(**NAMED, maturity_level="0")
    done = make(project, tmp_path, company.settings, "setup", OURS)
    assert done.returncode
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (project.path / ".venv" / ".ready").exists()
    assert list((project.path / ".venv").rglob("annotated_types")) == []


@pytest.mark.parametrize("pipenv", [[], [OURS]], ids=["pipenv", "packages"])
def test_without_an_index_setup_says_what_to_set(bake, tmp_path, pipenv):
    project = bake(**NAMED, maturity_level="0")
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    done = make(project, tmp_path, nowhere, "setup", *pipenv)
    assert done.returncode
    *_, cause, remedy, last = done.stderr.splitlines()
    assert "Connection refused" in cause
    assert "company's index, see README.md" in remedy
    assert last.startswith("make: ***")
    assert len(done.stderr.splitlines()) == 4
    assert "PIP_INDEX_URL" in project.text("README.md")


@pytest.mark.slow
def test_an_index_of_the_machine_does_not_make_the_lock_another_one(bake, tmp_path):
    project = bake(**NAMED, maturity_level="1").borrow_environment()
    elsewhere = {"PIP_INDEX_URL": f"https://{LOGIN}@{HOST}/simple"}
    done = project.make("lint", **elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    judged = project.make("maturity", "PRACTICE=locked", **elsewhere)
    assert "Pipfile.lock is that of Pipfile" in judged.stdout
