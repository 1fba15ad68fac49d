"""How gunicorn runs the service; each line says why."""

import contextlib
import datetime
import functools
import json
import math
import mmap
import os
import pathlib
import re
import selectors
import socket
import struct
import time

from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn, ThreadWorker


def cores():
    """How many processor cores this process may use: a container's limit is in its cgroup, not in the machine's count."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        most, period = pathlib.Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(here, max(1, math.ceil(int(most) / int(period))))
    except (OSError, ValueError):  # no cgroup of version 2, or no limit: "max"
        return here


OPEN = memoryview(mmap.mmap(-1, 8 * 256)).cast("q")
"""How many connections each worker has, and one more; 0 where there is no such worker. All of them see the same memory."""


def child_exit(server, worker):
    """gunicorn calls this where a worker has gone."""
    OPEN[worker.age % len(OPEN)] = 0


class WholeRequests(ThreadWorker):
    """Threads get whole requests only: one that arrives slowly waits in the event loop, holds no thread, and not for ever.

    Connections that are kept alive stay with the worker that took them, so the one with the fewest takes the next.
    """

    hesitates = 0.0

    SECONDS = 10
    """Within so long from its first byte a request must be here, and its answer be taken."""

    HEAD_BYTES = 1 << 16
    HELD_BYTES = 1 << 26
    """What all requests that are still arriving may hold together in one process."""

    LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,15})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
    CHUNKED = re.compile(rb"^transfer-encoding:", re.IGNORECASE | re.MULTILINE)
    CONTINUE = re.compile(rb"^expect:[ \t]*100-continue[ \t]*\r?\n", re.IGNORECASE | re.MULTILINE)

    def wait_for_and_dispatch_events(self, timeout):
        """As gunicorn does, and tell the other workers how many connections there are."""
        super().wait_for_and_dispatch_events(timeout)
        OPEN[self.age % len(OPEN)] = self.nr_conns + 1

    def accept(self, listener):
        """Take a connection; what it sends is read as it comes."""
        now = time.monotonic()
        if self.nr_conns + 1 > min(filter(None, OPEN), default=1):
            self.hesitates = now if now - self.hesitates > 0.1 else self.hesitates
            # Another worker has fewer: it gets some milliseconds, in case it is busy or gone.
            if now - self.hesitates < 0.005:
                time.sleep(0.0005)
                return
        self.hesitates = 0.0
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            client, address = listener.accept()
            self.nr_conns += 1
            OPEN[self.age % len(OPEN)] = self.nr_conns + 1
            # The kernel's own limit, in seconds and microseconds, for a client that does not take its answer.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", self.SECONDS, 0))
            self.enqueue_req(TConn(self.cfg, client, address, listener.getsockname()))

    def enqueue_req(self, conn):
        """Read what there is of a request; a thread gets it once it is whole."""
        arrived = conn.__dict__.setdefault("arrived", bytearray())
        ended = False
        try:
            while part := conn.sock.recv(1 << 16):
                arrived += part
                if self._whole(conn, arrived):
                    break
            else:
                ended = True
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        if ended and not arrived:
            self._refuse(conn)
        elif ended or self._whole(conn, arrived):
            conn.__dict__ |= {"arrived": bytearray(), "wanted": None, "deadline": None}
            conn.init()
            conn.parser.unreader.unread(conn.parser.unreader.take_buffered() + bytes(arrived))
            conn.data_ready = True
            super().enqueue_req(conn)
        elif len(arrived) > self.HEAD_BYTES and sum(len(c.arrived) for c in self.pending_conns) > self.HELD_BYTES:
            self._refuse(conn, b"503 Service Unavailable")
        else:
            conn.timeout = conn.__dict__.get("deadline") or time.monotonic() + self.SECONDS
            conn.deadline = conn.timeout if arrived else None
            self.pending_conns.append(conn)
            again = functools.partial(self.on_pending_socket_readable, conn)
            self.poller.register(conn.sock, selectors.EVENT_READ, again)

    def _whole(self, conn, arrived):
        """Whether all of a request is here, or more of its head than any request has."""
        wanted = conn.__dict__.get("wanted")
        if wanted is None:
            end = arrived.find(b"\r\n\r\n") + 4
            if end < 4:
                return len(arrived) > self.HEAD_BYTES
            head = bytes(arrived[:end])
            asked = self.CONTINUE.search(head)
            if asked:
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                del arrived[asked.start() : asked.end()]
                end -= asked.end() - asked.start()
            length = self.LENGTH.search(head)
            body = int(length[1]) if length else 0
            # A body that is too large is refused for its length alone.
            wanted = -1 if self.CHUNKED.search(head) else end + (body if body < self.HELD_BYTES // 4 else 0)
            conn.wanted = wanted
        return arrived.endswith(b"0\r\n\r\n") if wanted < 0 else len(arrived) >= wanted

    def _refuse(self, conn, why=b""):
        """Close a connection, and say why where it has begun to ask."""
        with contextlib.suppress(OSError):
            if why:
                conn.sock.send(b"HTTP/1.1 " + why + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self):
        """Refuse what has not arrived in time."""
        for conn in [conn for conn in self.pending_conns if conn.timeout < time.monotonic()]:
            self.pending_conns.remove(conn)
            self.poller.unregister(conn.sock)
            self._refuse(conn, b"408 Request Timeout" if conn.arrived else b"")


class JsonLines(Logger):
    """One JSON line a request: when, what was asked, how it ended; nothing of the record."""

    def access(self, resp, req, environ, request_time):
        """Write the line."""
        if not self.cfg.accesslog:
            return
        version, prediction = environ.get("prediction", (None, None))
        line = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"],
            "status": int(str(resp.status).split()[0]),
            "milliseconds": round(request_time.total_seconds() * 1000, 3),
            "model_version": version,
            "prediction_id": prediction,
        }
        self.access_log.info(json.dumps(line))


# One process a core: a prediction is pure computation, so more would only wait for each other.
workers = int(os.environ.get("WEB_CONCURRENCY", cores()))
# Connections are kept by the event loop; threads have whole requests, so that a slow client holds nothing but its bytes.
worker_class = WholeRequests
threads = 4
# A stuck worker is replaced; no prediction takes this long.
timeout = 30
# On SIGTERM running requests may finish, within what Kubernetes and Docker wait before they kill.
graceful_timeout = 8
# Longer than the usual 60 s of a load balancer, which must be the one that closes idle connections.
keepalive = 75
# The heartbeat file in memory: on a disk it can block, and the container's file system is read-only.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108  # nosec B108
# Longer request lines and headers than any client of this service sends are refused early.
limit_request_line = 2048
limit_request_fields = 50
# Logs go to the streams; whoever runs the container collects them.
errorlog = "-"
loglevel = "warning"
accesslog = "-" if os.environ.get("ACCESS_LOG") else None
logger_class = JsonLines
# No control socket: nothing outside the process should steer it.
control_socket_disable = True
