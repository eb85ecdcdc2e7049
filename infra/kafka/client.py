"""Connects kafka-python and aiokafka: builds their arguments, bounds their waits, and translates their errors."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from infra.settings import Settings
from schemas.errors import ConfigurationError, EverlearnError, InvalidEvent, Unavailable
from schemas.kafka import KafkaConnection
from schemas.topics import MAX_RECORD_BYTES

T = TypeVar("T")

MAX_BATCH_BYTES = MAX_RECORD_BYTES + 1024 * 1024
"""The largest batch that a topic accepts. A dead letter is the original record with more headers, so it needs room."""
CONNECT_SECONDS = 10.0
"""How long a client tries to reach the first broker."""
REQUEST_SECONDS = 10.0


def kafka_connection(settings: Settings) -> KafkaConnection:
    """Returns the connection of the settings. Raises Unavailable for an embedded broker that does not run."""
    kafka = settings.kafka
    return KafkaConnection(
        bootstrap_servers=settings.kafka_bootstrap(),
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_username=kafka.sasl_username,
        sasl_password=kafka.sasl_password.get_secret_value() if kafka.sasl_password else None,
        ssl_cafile=str(kafka.ssl_cafile) if kafka.ssl_cafile else None,
        replication_factor=kafka.replication_factor,
    )


def client_options(connection: KafkaConnection) -> dict[str, Any]:
    """Returns the arguments of every kafka-python client."""
    # The library waits up to half a minute between attempts; a broker that restarts is back in two seconds.
    options = {**_shared_options(connection), "reconnect_backoff_max_ms": 1000}
    return options if connection.ssl_cafile is None else {**options, "ssl_cafile": connection.ssl_cafile}


def aio_options(connection: KafkaConnection) -> dict[str, Any]:
    """Returns the arguments of every aiokafka client."""
    return {**_shared_options(connection), "ssl_context": connection.ssl_context()}


def _shared_options(connection: KafkaConnection) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": connection.servers,
        "security_protocol": connection.security_protocol,
    }
    if connection.security_protocol.startswith("SASL_"):
        options["sasl_mechanism"] = connection.sasl_mechanism or "PLAIN"
        options["sasl_plain_username"] = connection.sasl_username
        options["sasl_plain_password"] = connection.sasl_password
    return options


def connect(make: Callable[..., T], config: KafkaConnection, seconds: float = CONNECT_SECONDS, **options: Any) -> T:
    """Makes a KafkaProducer, KafkaConsumer or KafkaAdminClient that has reached a broker.

    Raises Unavailable where no broker answers in time, ConfigurationError where it refuses.
    """
    from kafka import errors
    from kafka.net.compat import KafkaNetClient
    from kafka.net.connection import KafkaConnection as BrokerConnection
    from kafka.net.manager import KafkaConnectionManager
    from kafka.net.selector import NetworkSelector

    made: list[KafkaNetClient] = []
    refusals: deque[Exception] = deque(maxlen=1)

    class WatchedManager(KafkaConnectionManager):
        """Collects why brokers refused a connection: kafka-python only logs it and raises a timeout in the end."""

        def get_connection(self, *args: Any, **kwargs: Any) -> BrokerConnection:
            connection: BrokerConnection = super().get_connection(*args, **kwargs)  # type: ignore[no-untyped-call]
            connection.init_future.add_errback(collect)
            return connection

    def collect(error: Exception) -> None:
        if isinstance(error, (errors.SaslAuthenticationFailedError, errors.AuthorizationError)):
            refusals.append(error)

    def make_client(**kwargs: Any) -> KafkaNetClient:
        selector = NetworkSelector(**kwargs)
        manager = WatchedManager(selector, **kwargs)  # type: ignore[no-untyped-call]  # its library annotates no functions
        made.append(KafkaNetClient(selector, manager, **kwargs))
        return made[-1]

    # Every failure that it logs is raised as well, and without a handler Python would print the log to stderr.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    _probe(config, seconds)
    try:
        return make(
            kafka_client=make_client, bootstrap_timeout_ms=int(seconds * 1000), **client_options(config), **options
        )
    except Exception as error:
        # kafka-python leaves its thread and sockets behind when a constructor fails.
        for client in made:
            client.close()
        if not refusals and config.security_protocol.startswith("SASL_") and _refuses_credentials(config, seconds):
            refusals.append(errors.SaslAuthenticationFailedError())
        raise translated(refusals[0] if refusals else error, config) from error


def _refuses_credentials(config: KafkaConnection, seconds: float) -> bool:
    """Asks by aiokafka whether a broker refuses the credentials.

    A broker that refuses them answers, then closes the connection. On a busy machine kafka-python reads both at once,
    drops the answer, and reports only that the connection was closed.
    """
    from aiokafka.conn import create_conn
    from aiokafka.errors import KafkaError, SaslAuthenticationFailed

    options = {**aio_options(config), "request_timeout_ms": int(seconds * 1000)}
    del options["bootstrap_servers"]

    async def ask(host: str, port: int) -> bool:
        try:
            connection = await create_conn(host, port, **options)
        except SaslAuthenticationFailed:
            return True
        except (OSError, TimeoutError, KafkaError):
            return False
        connection.close()
        return False

    def ask_all() -> bool:
        places = (address.strip().rpartition(":") for address in config.servers)
        return any(asyncio.run(ask(host.strip("[]"), int(port))) for host, _, port in places)

    with ThreadPoolExecutor(1) as pool:  # the caller may be inside an event loop, in which asyncio.run is not allowed
        return pool.submit(ask_all).result()


@contextmanager
def speaking(config: KafkaConnection) -> Iterator[None]:
    """Raises an Everlearn error in place of each error of kafka-python."""
    from kafka.errors import KafkaError

    try:
        yield
    except KafkaError as error:
        raise translated(error, config) from error


def translated(error: BaseException, config: KafkaConnection) -> EverlearnError:
    """Returns the Everlearn error that says what went wrong and what to do."""
    from kafka import errors

    where = f"Kafka at {config.bootstrap_servers}"
    match error:
        case EverlearnError():
            return error
        case errors.SaslAuthenticationFailedError():
            return ConfigurationError(
                f"{where} refuses the credentials: check [kafka] sasl_username and EVERLEARN_KAFKA_SASL_PASSWORD"
            )
        case errors.AuthorizationError():
            return ConfigurationError(f"{where} does not allow this ({_line(error)}): ask for the rights it names")
        case errors.UnknownTopicOrPartitionError():
            return ConfigurationError(f"{where} lacks a topic: 'everlearn up' or 'everlearn run' creates them")
        case errors.MessageSizeTooLargeError() | errors.RecordListTooLargeError():
            return InvalidEvent(f"{where} takes no record that large: send less than {MAX_RECORD_BYTES:,} bytes")
        case (
            errors.PolicyViolationError()
            | errors.InvalidReplicationFactorError()
            | errors.InvalidConfigurationError()
            | errors.InvalidPartitionsError()
        ):
            advice = "set [kafka] replication_factor, or ask who runs it"
            return ConfigurationError(f"{where} does not allow such a topic ({_line(error)}): {advice}")
        case errors.KafkaConfigurationError() | ValueError() | AssertionError():
            return ConfigurationError(f"[kafka] is wrong: {_line(error)}")
        case _:
            return _no_answer(config, _line(error))


def _no_answer(config: KafkaConnection, detail: object) -> Unavailable:
    hint = "start it with 'everlearn up'" if config.bootstrap_servers.startswith("127.0.0.1:") else "check [kafka]"
    return Unavailable(f"Kafka at {config.bootstrap_servers} does not answer: {detail} ({hint})")


def answers(config: KafkaConnection, timeout_seconds: float) -> bool:
    """Returns whether a broker answers a request within ``timeout_seconds``."""
    from kafka import KafkaAdminClient

    try:
        client = connect(KafkaAdminClient, config, timeout_seconds, request_timeout_ms=int(timeout_seconds * 1000))
    except EverlearnError:
        return False
    client.close()
    return True


def _probe(config: KafkaConnection, seconds: float) -> None:
    """Fails fast with the system's error when no process listens; kafka-python would retry silently."""
    deadline = time.monotonic() + seconds
    failure: object = "no address"
    for address in config.servers:
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdigit():
            raise ConfigurationError(f"[kafka] bootstrap_servers: {address!r} is not host:port")
        try:
            left = max(0.1, deadline - time.monotonic())
            with socket.create_connection((host.strip("[]"), int(port)), timeout=left):
                return
        except (OSError, OverflowError) as error:
            failure = _line(error)
    raise _no_answer(config, failure)


def _line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:300]
