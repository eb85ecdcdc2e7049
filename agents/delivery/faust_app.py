"""Builds the Faust app of a stream: how it reaches Kafka, and which parts of Faust are switched off."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust

from schemas.errors import ConfigurationError
from schemas.kafka import KafkaConnection


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """How a stream reaches Kafka and how patient it is."""

    kafka: KafkaConnection
    session_timeout_seconds: float = 10.0
    max_poll_interval_seconds: float = 300.0
    commit_seconds: float = 1.0
    buffer: int = 1024
    """Messages that wait in memory, beyond which reading pauses."""


def credentials(kafka: KafkaConnection) -> faust.SASLCredentials | ssl.SSLContext | None:
    """The connection's security settings in the form that Faust takes."""
    if kafka.security_protocol == "PLAINTEXT":
        return None
    if kafka.security_protocol == "SSL":
        return kafka.ssl_context()
    if kafka.sasl_username is None or kafka.sasl_password is None or kafka.sasl_mechanism is None:
        raise ConfigurationError(
            f"[kafka] {kafka.security_protocol} needs sasl_mechanism, sasl_username and EVERLEARN_KAFKA_SASL_PASSWORD"
        )
    return faust.SASLCredentials(
        username=kafka.sasl_username,
        password=kafka.sasl_password,
        mechanism=kafka.sasl_mechanism,
        ssl_context=kafka.ssl_context(),
    )


def faust_app(agent: str, settings: StreamSettings, scratch: Path, instance: str | None) -> Any:
    """Returns an app that declares no topic, keeps no table, opens no port and waits for no stream to drain.

    ``instance``: the static member's name in the agent's group. ``scratch``: where Faust makes its empty folder.
    """
    return faust.App(
        f"everlearn-{agent}",
        broker=[f"aiokafka://{server}" for server in settings.kafka.servers],
        broker_credentials=credentials(settings.kafka),
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=settings.session_timeout_seconds / 4,
        broker_max_poll_interval=settings.max_poll_interval_seconds,
        broker_request_timeout=max(30.0, settings.session_timeout_seconds + 5),
        broker_commit_interval=settings.commit_seconds,
        broker_max_poll_records=500,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance,
        stream_buffer_maxsize=settings.buffer,
        stream_wait_empty=False,  # with unacked events, shutdown and rebalances would hang
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
        store="memory://",
        datadir=scratch,
    )
