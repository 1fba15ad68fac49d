"""How the project's programs connect to the broker: topics from params.toml, address and credentials from the environment."""

from __future__ import annotations

import os
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from pydantic import Field

from ..base import params
from ..base.errors import UserError


class Stream(params.Section):
    """Topic names, and the number of events that are answered together."""

    table = "stream"
    events: str = "events"
    predictions: str = "predictions"
    dead_letters: str = "dead-letters"
    group: str = "predictor"
    partitions: int = Field(default=4, ge=1)
    batch_size: int = Field(default=500, ge=1, le=10_000)
    linger_seconds: float = Field(default=0.05, gt=0, le=10)


BOOTSTRAP_SERVERS = "127.0.0.1:9092"
"""The address of the broker of `make broker` and `compose.yaml`."""

CLIENT = ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_", "KAFKA_SSL_")
"""The variables for a client; a broker's own container has others that begin with KAFKA_."""


def settings(**more: Any) -> dict[str, Any]:
    """A client's settings: `KAFKA_SASL_PASSWORD` in the environment becomes librdkafka's `sasl.password`, and so on."""
    given = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in os.environ.items()
        if name.startswith(CLIENT)
    }
    # What librdkafka would log is reported by this program.
    return {"bootstrap.servers": BOOTSTRAP_SERVERS, "log_level": 2, **given, **more}


def require_topics(*names: str, partitions: int, seconds: float = 10) -> None:
    """Create the topics that do not exist yet.

    Raises:
        UserError: the broker does not answer, or refuses.
    """
    where = settings()["bootstrap.servers"]
    try:
        admin = AdminClient(settings())
        there = admin.list_topics(timeout=seconds).topics
        wanted = [NewTopic(name, num_partitions=partitions) for name in names if name not in there]
        for done in admin.create_topics(wanted, request_timeout=seconds).values() if wanted else ():
            done.result()
    except KafkaException as failure:
        error: KafkaError = failure.args[0]
        if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise UserError(
                f"no Kafka broker answers at {where} ({error.str()}): start one with `make broker`, or set "
                "KAFKA_BOOTSTRAP_SERVERS, and KAFKA_SECURITY_PROTOCOL and KAFKA_SASL_... where it wants a log-in"
            ) from None
