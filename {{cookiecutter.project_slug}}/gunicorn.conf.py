"""How gunicorn runs the service; each line says why."""

import math
import os
import pathlib


def cores():
    """How many processor cores this process may use: a container's limit is in its cgroup, not in the machine's count."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        most, period = pathlib.Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(here, max(1, math.ceil(int(most) / int(period))))
    except (OSError, ValueError):  # no cgroup of version 2, or no limit: "max"
        return here


# One process a core: a prediction is pure computation, so more would only wait for each other.
workers = int(os.environ.get("WEB_CONCURRENCY", cores()))
# Connections are kept by threads, so that a slow client holds a thread and not a core.
worker_class = "gthread"
threads = 4
# A stuck worker is replaced; no prediction takes this long.
timeout = 30
# On SIGTERM running requests may finish, within what Kubernetes and Docker wait before they kill.
graceful_timeout = 8
# Longer than the usual 60 s of a load balancer, which must be the one that closes idle connections.
keepalive = 75
# The heartbeat file in memory: on a disk it can block, and the container's file system is read-only.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
# Longer request lines and headers than any client of this service sends are refused early.
limit_request_line = 2048
limit_request_fields = 50
# Logs go to the streams; whoever runs the container collects them.
errorlog = "-"
loglevel = "warning"
accesslog = "-" if os.environ.get("ACCESS_LOG") else None
# No control socket: nothing outside the process should steer it.
control_socket_disable = True
