"""Downloads Kafka's jars from Maven Central once, so that nobody has to install Kafka."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from infra.local.locks import locked
from infra.progress import Progress, silent
from schemas.errors import ConfigurationError, Unavailable

KAFKA_VERSION = "4.4.0"
COORDINATES = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")
"""slf4j-simple writes the broker's log to its standard output, where the supervisor collects it."""

JARS_DIGEST = "2dc289ad803b1278e1a75602559263b7b1c23da25af19f57cde1bc70e1b460d2"
"""SHA-256 over the names and SHA-256 sums of all jars, which protects against a changed or added one."""


def jars(cache: Path) -> list[Path]:
    """The jars in a cache, sorted; empty before ``fetch_jars``."""
    return sorted(_folder(cache).glob("*.jar"))


def fetch_jars(cache: Path, progress: Progress = silent) -> list[Path]:
    """All jars that the broker needs, sorted. Downloads them if ``cache`` has none (45 files, 43 MB).

    Two processes may do this at once. Raises Unavailable when Maven's repository cannot be reached or sends
    something else, ConfigurationError when the cache cannot be written.
    """
    if found := jars(cache):
        return found
    with locked(cache / "kafka.lock"):
        if not jars(cache):
            _download(cache, progress)
    return jars(cache)


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents; the order does not matter."""
    total = hashlib.sha256()
    for path in sorted(paths, key=lambda each: each.name):
        total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _folder(cache: Path) -> Path:
    return cache / f"kafka-{KAFKA_VERSION}"


def _download(cache: Path, progress: Progress) -> None:
    # The download goes to a temporary folder that is renamed at the end, so an incomplete one is never used.
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=cache) as staging:
        folder = Path(staging) / "jars"
        folder.mkdir()
        try:
            for path in _resolve(Path(staging) / "maven", progress):
                shutil.move(path, folder / path.name)
        except OSError as error:
            # The exceptions of requests are OSErrors too; _resolve has handled those.
            raise ConfigurationError(f"{cache} cannot be written: {error.strerror or error}") from error
        if digest(folder.iterdir()) != JARS_DIGEST:
            raise Unavailable("Kafka's jars arrived damaged or changed: check the network and run it again")
        folder.rename(_folder(cache))


def _resolve(repository: Path, progress: Progress) -> list[Path]:
    import requests
    from jgo.maven import MavenContext, PythonResolver

    logging.getLogger("jgo").setLevel(logging.CRITICAL)
    progress(0.0, f"Kafka {KAFKA_VERSION}: resolving")
    context = MavenContext(resolver=PythonResolver(), repo_cache=repository)
    try:
        direct, transitive = context.resolver.resolve([context.create_dependency(each) for each in COORDINATES])
        found = []
        for count, dependency in enumerate([*direct, *transitive], 1):
            found.append(Path(dependency.artifact.resolve()))
            progress(count / (len(direct) + len(transitive)), f"Kafka {KAFKA_VERSION}: {found[-1].name}")
    except (requests.RequestException, RuntimeError) as error:
        raise Unavailable(
            f"Kafka's jars cannot be fetched from Maven Central ({type(error).__name__}): check the network or "
            "the proxy and run it again, or set [kafka] bootstrap_servers to a Kafka that runs elsewhere"
        ) from error
    return found
