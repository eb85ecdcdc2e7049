"""``everlearn dlq``: what agents could not process, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.dead_letters import How, Letter, collect, letter_topics, parse_id
from agents.cli.names import reader_name, topic_name
from agents.cli.output import columns, counted, emit, facts, one_line, progress
from infra.kafka import KafkaClientConfig, RecordPublisher, read_all
from schemas.errors import EverlearnError, Misuse
from schemas.topics import BY_NAME


@click.group()
def dlq() -> None:
    """List, show, retry or drop dead letters.

    A dead letter is an event that an agent could not process; it is kept for 90 days.
    """


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--topic", help="Only those from this topic.")(command)
    return click.option("--agent", help="Only those of this agent.")(command)


@dlq.command("list")
@_filters
@json_option
@pass_context
def list_letters(context: CommandContext, /, topic: str | None, agent: str | None) -> None:
    """List the dead letters that nobody has handled yet, oldest first."""
    letters = _open_letters(context, topic, agent)
    if context.json:
        for letter in letters:
            emit(letter.summary())
        return
    if not letters:
        click.echo("There is no dead letter.")
        return
    rows = [
        (letter.id, letter.time, letter.header("dlq_error"), one_line(letter.header("dlq_message") or "", 90))
        for letter in letters
    ]
    click.echo(columns(("id", "time", "error", "message"), rows))


@dlq.command("show")
@click.argument("id", metavar="ID")
@json_option
@pass_context
def show_letter(context: CommandContext, /, id: str) -> None:
    """Show everything about a dead letter."""
    full = _find(context, id).full()
    if context.json:
        emit(full)
        return
    headers = full.pop("headers")
    origin = "/".join(str(part) for part in full.pop("origin").values())
    value = full.pop("value")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    click.echo(facts({**full, "origin": origin, "value": text}))
    click.echo("\nheaders\n" + facts({f"  {name}": value for name, value in headers.items()}))


@dlq.command("retry")
@click.argument("id", metavar="[ID]", required=False)
@click.option("--all", "every", is_flag=True, help="All that nobody has handled yet.")
@_filters
@json_option
@pass_context
def retry_letters(
    context: CommandContext, /, id: str | None, every: bool, topic: str | None, agent: str | None
) -> None:
    """Give dead letters back to the agent that gave them up."""
    _handle(context, _chosen(context, id, every, topic, agent), "retried")


@dlq.command("drop")
@click.argument("id", metavar="[ID]", required=False)
@click.option("--all", "every", is_flag=True, help="All that nobody has handled yet.")
@_filters
@json_option
@pass_context
def drop_letters(context: CommandContext, /, id: str | None, every: bool, topic: str | None, agent: str | None) -> None:
    """Mark dead letters as done with; they are not listed any more."""
    _handle(context, _chosen(context, id, every, topic, agent), "dropped")


def _open_letters(context: CommandContext, topic: str | None, agent: str | None) -> list[Letter]:
    topic = topic_name(topic, BY_NAME) if topic is not None else None
    agent = reader_name(agent) if agent is not None else None
    topics = letter_topics(topic, agent)
    if not topics:
        raise Misuse(f"the agent {agent} does not read {topic}: see 'everlearn topics'")
    return [letter for letter in _read(context, topics) if letter.handled is None]


def _read(context: CommandContext, topics: list[str]) -> list[Letter]:
    return collect(read_all(KafkaClientConfig.from_settings(context.settings), topics))


def _find(context: CommandContext, id: str) -> Letter:
    position = parse_id(id)
    for letter in _read(context, [position.topic]):
        if letter.position == position:
            return letter
    raise EverlearnError(f"there is no dead letter {id}: see 'everlearn dlq list'")


def _chosen(context: CommandContext, id: str | None, every: bool, topic: str | None, agent: str | None) -> list[Letter]:
    if (id is None) != every or (id is not None and (topic or agent)):
        raise Misuse("give either the ID of a dead letter or --all, which takes --topic and --agent")
    if id is None:
        return _open_letters(context, topic, agent)
    letter = _find(context, id)
    if letter.handled is not None:
        raise EverlearnError(
            f"the dead letter {id} was {letter.handled} already: 'everlearn dlq list' shows the others"
        )
    return [letter]


def _handle(context: CommandContext, letters: list[Letter], how: How) -> None:
    config = KafkaClientConfig.from_settings(context.settings)
    with RecordPublisher(config) as publisher, progress(how, len(letters)) as advance:
        for letter in letters:
            # Confirmed before it is marked: in between, a crash makes it be retried twice, which an agent notices.
            if how == "retried":
                publisher.publish([letter.original()])
            publisher.publish([letter.marker(how)])
            advance(1)
            if context.json:
                emit({"id": letter.id, "how": how})
    if not context.json:
        click.echo(f"{how} {counted(len(letters), 'dead letter')}")
