"""Connects to a Milvus server: at the first call, and again after a failure. Translates its errors into one line."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from infra.credentials import hide, hide_in_urls
from schemas.errors import ConfigurationError, EverlearnError, Unavailable

if TYPE_CHECKING:
    from pymilvus import MilvusClient

T = TypeVar("T")

CONNECT_SECONDS = 5.0
_SCHEMES = ("http", "https", "tcp", "unix")
_CONNECT_FAILED = 2
"""The code of pymilvus' exception when its constructor gets no answer."""
_INPUT_CODES = frozenset({1100, 1101, 1102})
"""Milvus: a parameter is invalid, missing or too large. Its text says which, such as a text longer than its field."""
_LITE_INPUT_CODE = 6
"""Milvus Lite: a row or a filter does not fit the schema. It is the code of older servers, too."""
_INPUT_CLASSES = frozenset(
    {"ParamError", "DataNotMatchException", "DataTypeNotMatchException", "DataTypeNotSupportException"}
)
"""What pymilvus raises for a row before it sends it."""


class MilvusConnection:
    """Calls a Milvus server. Runs ``prepare`` on each new connection, and again after the server has refused a call."""

    def __init__(self, uri: str, token: str | None, prepare: Callable[[MilvusClient], None]) -> None:
        self._uri = uri
        self._token = token or ""
        self._shown = hide_in_urls(uri)
        self._prepare = prepare
        self._client: MilvusClient | None = None
        self._prepared = False
        self._lock = threading.RLock()

    def call(self, function: Callable[[MilvusClient], T]) -> T:
        """Returns the function's result. Raises Unavailable within seconds, ConfigurationError, or EverlearnError.

        EverlearnError is for what Milvus would refuse each time. Everything that is not known to be such is
        Unavailable, a full disk for example. Repeats a call that Milvus answered with an error once after ``prepare``:
        a server that was restarted must load its collection again.
        """
        import grpc
        from pymilvus import MilvusException

        for first in (True, False):
            try:
                return function(self._ready())
            except (grpc.RpcError, MilvusException) as error:
                failure, answered = self._failure(error)
                if answered and first:
                    self._prepared = False
                    continue
                if isinstance(failure, Unavailable):
                    # A broken channel retries only after up to two minutes; a new one connects at once.
                    self.close()
                raise failure from None
        raise AssertionError("the second attempt returns or raises")

    def close(self) -> None:
        """Ends the connection, if there is one. A later call connects again."""
        with self._lock:
            client, self._client, self._prepared = self._client, None, False
        if client is not None:
            client.close()

    def _ready(self) -> MilvusClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            if not self._prepared:
                self._prepare(self._client)
                self._prepared = True
            return self._client

    def _connect(self) -> MilvusClient:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import ConnectionConfigException

        wrong = ConfigurationError(
            f"[milvus] uri is {self._shown!r}, which is no address: write http://HOST:PORT, or embedded"
        )
        try:
            address = urlsplit(self._uri)
            _ = address.port  # raises what urlsplit does not
        except ValueError:
            raise wrong from None
        if address.scheme not in _SCHEMES or not (address.hostname or address.path):
            raise wrong  # pymilvus takes some of these for files, and would start a server in this process
        # pymilvus logs each failure with its traceback; the error that is raised here says what matters.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        try:
            return MilvusClient(self._uri, token=self._token, timeout=CONNECT_SECONDS, dedicated=True)
        except ConnectionConfigException:
            raise wrong from None

    def _failure(self, error: Exception) -> tuple[EverlearnError, bool]:
        """Returns what to raise for an error, and whether the server answered with it."""
        import grpc
        from pymilvus.exceptions import ErrorCode

        status: object = getattr(error, "code", None)
        code = status() if callable(status) else status
        if isinstance(error.__cause__, grpc.Call):  # an RpcError that came of a call
            code = error.__cause__.code()
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return ConfigurationError(f"Milvus at {self._shown} refuses the token: set EVERLEARN_MILVUS_TOKEN"), False
        if code is grpc.StatusCode.UNIMPLEMENTED or "Received UNIMPLEMENTED" in str(error):
            return ConfigurationError(f"the server at {self._shown} is not a Milvus server: set [milvus] uri"), False
        hidden = [self._token, urlsplit(self._uri).password]
        reason = " ".join(hide(str(getattr(error, "message", error)), hidden).split())[:500]
        if self._is_input(error, code):
            return EverlearnError(f"Milvus at {self._shown} refused: {reason}"), True
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:  # the embedded Milvus' disk is nearly full
            details = str(getattr(error.__cause__, "details", lambda: reason)() or reason)
            return Unavailable(f"Milvus at {self._shown} takes no writes: {' '.join(details.split())}"), False
        if (
            isinstance(code, grpc.StatusCode)
            or code in (_CONNECT_FAILED, ErrorCode.RATE_LIMIT, ErrorCode.FORCE_DENY)
            or getattr(error, "retriable", False)
        ):
            return Unavailable(f"Milvus at {self._shown} does not answer: start it, or set [milvus] uri"), False
        advice = "make room on its disk" if "No space left" in reason else "see its log, or set [milvus] uri"
        return Unavailable(f"Milvus at {self._shown} failed: {reason}; {advice}"), True

    @staticmethod
    def _is_input(error: Exception, code: object) -> bool:
        """Whether Milvus would refuse the same input each time."""
        import grpc

        if isinstance(code, grpc.StatusCode):
            return code is grpc.StatusCode.INVALID_ARGUMENT
        if getattr(error, "is_input_error", False) or type(error).__name__ in _INPUT_CLASSES:
            return True
        return code in _INPUT_CODES or code == getattr(error, "compatible_code", None) == _LITE_INPUT_CODE
