"""``everlearn models``: lists, adds and quantizes base models in the registry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.options import timeout_option
from agents.cli.output import JsonObject, ShowShare, conclude, counted, emit, iso_times, megabytes, share_bar, show_rows
from agents.cli.sending import SOURCE, now, stamped
from agents.cli.stores import open_database, open_registry
from agents.cli.waiting import Deadline, look_until, open_publisher, waiting
from agents.quantizer import AGENT
from infra.kafka import RecordPublisher, kafka_connection
from infra.settings import Settings
from schemas.envelope import derived_id
from schemas.errors import EverlearnError, Misuse
from schemas.models import ModelRegistered, unknown_schemes
from schemas.registry import ModelRecord

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@click.group()
def models() -> None:
    """List, add or quantize base models."""


@models.command("list")
@json_option
@pass_context
def list_models(context: CommandContext) -> None:
    """List the versions of every model, newest first."""
    with open_registry(context.settings) as registry:
        records = registry.models()
    show_rows(
        records,
        ("model", "version", "scheme", "from", "size", "loss", "added", "location"),
        lambda record: (
            record.name, record.version, record.scheme, record.source_version, megabytes(record.size_bytes),
            record.loss, record.created_at, record.location,
        ),
        fields=lambda record: iso_times(asdict(record)),
        empty="No model is registered: add one with 'everlearn models add NAME_OR_PATH'.",
        as_json=context.json,
    )  # fmt: skip


def _schemes(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    wanted = tuple(dict.fromkeys(filter(None, (each.strip() for each in value.split(",")))))
    reason = unknown_schemes(wanted or (value,))
    if reason is not None:
        raise click.BadParameter(reason)
    return wanted


@models.command("add")
@click.argument("model", metavar="NAME_OR_PATH")
@click.option("--name", help="What to call it.  [default: the last part of its name or path]")
@click.option("--quantize", metavar="SCHEMES", callback=_schemes, help="Such as int8,nf4.  [default: as configured]")
@click.option("--no-quantize", is_flag=True, help="Leave it as it is.")
@json_option
@pass_context
def add_model(
    context: CommandContext, /, model: str, name: str | None, quantize: tuple[str, ...] | None, no_quantize: bool
) -> None:
    """Load and register a causal language model; the quantizer then makes a smaller form of it.

    NAME_OR_PATH is a folder, a model's name, or smollm2-135m-instruct for the model that ships with Everlearn.
    Adding it again is harmless.
    """
    if quantize is not None and no_quantize:
        raise Misuse("give --quantize or --no-quantize, not both")
    settings = context.settings
    called = name or Path(model).name
    if not _NAME.fullmatch(called):
        raise Misuse(f"{called!r} is no name for a model: give one of letters, digits, '.', '_' and '-' with --name")
    wanted = () if no_quantize else quantize
    # Connect first: an unreachable service is reported before the model loads, which may take minutes.
    with RecordPublisher(kafka_connection(settings)) as publisher, open_registry(settings) as registry:
        registry.models(called)
        record = registry.register_model(_checked(settings, called, model))
        version = str(record.version)
        request_quantization(
            publisher, ModelRegistered(name=called, version=version, size_bytes=record.size_bytes, quantize=wanted)
        )
    schemes = settings.quantizer.schemes if wanted is None else wanted
    if context.json:
        emit({**iso_times(asdict(record)), "quantize": list(schemes)})
        return
    click.echo(f"registered {called} as version {record.version}: {megabytes(record.size_bytes)} in {record.location}")
    if schemes:
        click.echo(f"to be quantized to {', '.join(schemes)}: see 'everlearn models list'")


@models.command("quantize")
@click.argument("name")
@click.option("--scheme", "schemes", metavar="SCHEMES", callback=_schemes, required=True, help="int8, nf4, or both.")
@click.option("--version", type=click.IntRange(1), help="The version to quantize.  [default: the newest as it came]")
@click.option("--wait", is_flag=True, help="Until it is done; then print what came of it.")
@timeout_option(3600.0, "With --wait: give up after this time.")
@json_option
@pass_context
def quantize_model(
    context: CommandContext, /, name: str, schemes: tuple[str, ...], version: int | None, wait: bool, timeout: float
) -> None:
    """Ask the quantizer for a smaller form of a registered model."""
    settings = context.settings
    with waiting(timeout if wait else None) as deadline:
        with open_registry(settings) as registry:
            record = _source(registry.models(name), name, version)
        event = ModelRegistered(name=name, version=str(record.version), size_bytes=record.size_bytes, quantize=schemes)
        with open_publisher(settings, deadline) as publisher:
            run_ids = request_quantization(publisher, event, schemes)
        if deadline is None:
            fields = {"name": name, "version": record.version, "quantize": list(schemes), "runs": run_ids}
            sentence = f"asked for {name} version {record.version} as {', '.join(schemes)}: 'everlearn models list'"
            conclude(fields, sentence, as_json=context.json)
            return
        failed = 0
        for scheme, result in zip(schemes, wait_for_runs(settings, run_ids, deadline), strict=True):
            failed += _show(context, name, scheme, result)
    if failed:
        raise EverlearnError(f"{counted(failed, 'scheme')} of {len(schemes)} not made, as shown above")


def _checked(settings: Settings, name: str, model: str) -> ModelRecord:
    """Loads the model to check it, and gives its record. A folder is recorded by its absolute path."""
    from infra.models.loading import other_model
    from infra.models.quantization import weight_bytes

    folder = Path(model).expanduser()
    location = str(folder.absolute()) if folder.is_dir() else model
    size = weight_bytes(other_model(settings, location, load=True))
    return ModelRecord(name=name, location=location, size_bytes=size, created_at=now())


def _source(records: Sequence[ModelRecord], name: str, version: int | None) -> ModelRecord:
    if not records:
        raise EverlearnError(f"there is no model {name!r} in the registry: see 'everlearn models list', or add it")
    plain = [each for each in records if each.scheme is None and version in (None, each.version)]
    if not plain:
        raise EverlearnError(f"{name} has no version {version} that is not quantized: see 'everlearn models list'")
    return max(plain, key=lambda each: each.version)


def _show(context: CommandContext, name: str, scheme: str, result: dict[str, object]) -> bool:
    """Prints the result for a scheme. Returns whether it failed."""
    quantized = result.get("quantized")
    if context.json:
        emit({"name": name, "scheme": scheme, **result})
    elif isinstance(quantized, dict):
        share = quantized["size_bytes"] / quantized["source_size_bytes"]
        click.echo(
            f"{name} as {scheme}: version {quantized['version']}, {megabytes(quantized['size_bytes'])} "
            f"({share:.0%} of {megabytes(quantized['source_size_bytes'])}), loss {quantized['loss']:.3f} "
            f"after {quantized['source_loss']:.3f} nats per token"
        )
    else:
        click.echo(f"{name} as {scheme}: {result.get('reason') or result.get('error')}", err=True)
    return not isinstance(quantized, dict)


def request_quantization(publisher: RecordPublisher, event: ModelRegistered, schemes: Sequence[str] = ()) -> list[str]:
    """Publishes the event, and returns the ids of the runs that it will start, one a scheme."""
    request_id, record = stamped(event)
    publisher.publish([record])
    return [derived_id(SOURCE, request_id, AGENT, "run", ordinal) for ordinal in range(len(schemes))]


def wait_for_runs(settings: Settings, run_ids: Sequence[str], deadline: Deadline) -> Iterator[JsonObject]:
    """Yields each run's result, in order, with a progress bar. Raises EverlearnError when one takes too long."""
    from infra.sql.runs import SqlRunStore

    with open_database(settings) as database:
        runs = SqlRunStore(database)
        for run_id in run_ids:
            with share_bar() as show:

                def result(run_id: str = run_id, show: ShowShare = show) -> JsonObject | None:
                    run = runs.show(run_id)
                    if run is not None and run.state in ("done", "failed"):
                        return run.result
                    if run is not None and run.progress:
                        show(run.progress["done"], f"{run.arguments['scheme']}: {run.progress['text']}")
                    return None

                found = look_until(result, deadline)
            if found is None:
                raise EverlearnError(
                    f"the run {run_id} has not ended within {deadline.seconds:g} s: see in 'everlearn status' whether "
                    "a quantizer is ready, or wait longer with --timeout"
                )
            yield found
