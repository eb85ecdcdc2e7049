"""How an aiokafka client reaches a cluster."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.settings import KafkaSettings


@dataclass(frozen=True, kw_only=True)
class KafkaConnection:
    """How to reach a cluster."""

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: Path | None = None

    @classmethod
    def from_settings(cls, bootstrap_servers: str, kafka: KafkaSettings) -> KafkaConnection:
        password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
        return cls(
            bootstrap_servers=bootstrap_servers,
            security_protocol=kafka.security_protocol,
            sasl_mechanism=kafka.sasl_mechanism,
            sasl_username=kafka.sasl_username,
            sasl_password=password,
            ssl_cafile=kafka.ssl_cafile,
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        if "SSL" not in self.security_protocol:
            return None
        return ssl.create_default_context(cafile=str(self.ssl_cafile) if self.ssl_cafile else None)

    def client_arguments(self) -> dict[str, Any]:
        """Keyword arguments of every aiokafka client."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers.split(","),
            "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context(),
        }
        if self.sasl_mechanism is not None:
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return arguments
