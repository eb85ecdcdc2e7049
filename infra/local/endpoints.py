"""Records where the embedded Kafka and Milvus of a home listen, so that every other process finds them."""

from __future__ import annotations

import contextlib
import json

from infra.credentials import hide_in_urls
from infra.durable_files import replace_file
from infra.local.milvus_lite import program as milvus
from infra.settings import Settings
from schemas.errors import Unavailable


def write_endpoints(settings: Settings, ports: dict[str, int]) -> None:
    """Writes the addresses of the embedded parts for the other processes of this home."""
    endpoints = {}
    if "kafka" in ports:
        endpoints["kafka"] = f"127.0.0.1:{ports['kafka']}"
    if "milvus" in ports:
        endpoints["milvus"] = milvus.uri(ports["milvus"])
    replace_file(settings.run_folder / "endpoints.json", [json.dumps(endpoints).encode()])


def read_endpoints(settings: Settings) -> dict[str, str]:
    """The addresses of Kafka and Milvus, to be shown: without passwords, and without embedded parts that do not run."""
    found = {}
    for name, ask in (("kafka", settings.kafka_bootstrap), ("milvus", settings.milvus_uri)):
        with contextlib.suppress(Unavailable):
            found[name] = hide_in_urls(ask())
    return found


def forget_endpoints(settings: Settings) -> None:
    """Removes the addresses: nothing embedded runs."""
    (settings.run_folder / "endpoints.json").unlink(missing_ok=True)
