"""Describes a connection to Kafka, in one place for kafka-python, aiokafka and Faust."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class KafkaConnection:
    """Where Kafka is and how to authenticate. The password never appears in ``repr``."""

    bootstrap_servers: str
    """``host:port``; several are separated by commas."""
    security_protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    replication_factor: int = 1
    """The replication factor of the topics that Everlearn creates."""

    @property
    def servers(self) -> list[str]:
        return self.bootstrap_servers.split(",")

    def ssl_context(self) -> ssl.SSLContext | None:
        """Returns the TLS settings with the configured CA file, or None if the protocol does not use TLS."""
        return ssl.create_default_context(cafile=self.ssl_cafile) if self.security_protocol.endswith("SSL") else None
