"""A Spark session whose executors can import this package."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError, first_line
from .params import PACKAGE

try:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession
except ImportError:
    raise UserError("Spark is not installed here: run `make spark`") from None

# After Ctrl-C, py4j would print a traceback for each call that was under way.
logging.getLogger("py4j").setLevel(logging.CRITICAL)
logging.getLogger().addFilter(lambda record: "while sending command" not in record.getMessage())


@contextlib.contextmanager
def session() -> Iterator[SparkSession]:
    """A session on `SPARK_MASTER`, else on all cores of this machine; it ends with the block.

    Raises:
        UserError: Spark does not start, or fails; the message has the first line of its reason.
    """
    with tempfile.TemporaryDirectory() as scratch:
        started = _start(Path(scratch))
        try:
            yield started
        except (PySparkException, Py4JError, ConnectionError) as error:
            raise UserError(_reason(error) or f"Spark failed ({first_line(error)}): run it again") from None
        finally:
            with contextlib.suppress(Py4JError, ConnectionError):  # its driver may be gone
                started.stop()


def _start(scratch: Path) -> SparkSession:
    archive = shutil.make_archive(str(scratch / "package"), "zip", PACKAGE.parent, PACKAGE.name)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # Errors come back as exceptions; what Java logs about them, and about itself, is hidden.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    warnings.filterwarnings("ignore", category=FutureWarning, module="pyspark")
    master = os.environ.get("SPARK_MASTER", "local[*]")
    if master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.appName(PACKAGE.name).master(master)
    settings = {
        "spark.log.level": "OFF",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        "spark.submit.pyFiles": archive,
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except (PySparkException, Py4JError, RuntimeError, OSError) as error:
        said = first_line(error)
        raise UserError(
            f"Spark does not start ({said}): check that Java 17 is on PATH or in JAVA_HOME, then run it again"
        ) from None


def _reason(error: Exception) -> str:
    """Why Spark failed: an executor's UserError, or the first exception that Java names; else empty."""
    lines = str(error).splitlines()
    ours = (line.partition("UserError: ")[2] for line in lines if "UserError: " in line)
    java = (f"Spark: {line.partition('Exception: ')[2]}: run it again" for line in lines if "Exception: " in line)
    return next(ours, "") or next(java, "")[:300]
