"""Builds the Faust app of a stream: how it reaches Kafka, and which parts of Faust are switched off."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faust

from schemas.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """How a stream reaches Kafka and how patient it is."""

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = None
    session_timeout_seconds: float = 10.0
    max_poll_interval_seconds: float = 300.0
    commit_seconds: float = 1.0
    buffer: int = 1024
    """Messages that wait in memory, beyond which reading pauses."""

    def credentials(self) -> Any:
        """Faust's form of the security settings."""
        if self.security_protocol == "PLAINTEXT":
            return None
        if self.security_protocol == "SSL":
            return self.ssl_context
        if self.sasl_username is None or self.sasl_password is None or self.sasl_mechanism is None:
            raise ConfigurationError(
                f"[kafka] {self.security_protocol} needs sasl_mechanism, sasl_username "
                "and EVERLEARN_KAFKA_SASL_PASSWORD"
            )
        return faust.SASLCredentials(
            username=self.sasl_username,
            password=self.sasl_password,
            mechanism=self.sasl_mechanism,
            ssl_context=self.ssl_context,
        )


def faust_app(agent: str, settings: StreamSettings, scratch: Path, instance: str | None) -> Any:
    """Returns an app that declares no topic, keeps no table, opens no port and waits for no stream to drain.

    ``instance``: the static member's name in the agent's group. ``scratch``: where Faust makes its empty folder.
    """
    return faust.App(
        f"everlearn-{agent}",
        broker=[f"aiokafka://{server}" for server in settings.bootstrap_servers.split(",")],
        broker_credentials=settings.credentials(),
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
