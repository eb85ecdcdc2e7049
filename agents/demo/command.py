"""``everlearn demo``: runs the whole loop on sample data, in a home folder that is made new each time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.cli.context import CommandContext, json_option, pass_context
from schemas.errors import AdapterMissing, ConfigurationError, EverlearnError

if TYPE_CHECKING:
    from agents.demo.audit import Generate
    from agents.demo.story import DemoParts
    from infra.settings import Settings


@click.command()
@click.option("--keep", is_flag=True, help="Leave the stack running afterwards.")
@json_option
@pass_context
def demo(context: CommandContext, /, keep: bool) -> int:
    """Turn the whole loop: documents, answers, corrections, drift, training, validation, canary, promotion.

    It runs in HOME/demo, which is emptied first. With --json the story goes to stderr, and the last line of stdout is
    one object with what was measured.
    """
    from agents.demo.story import Story
    from agents.demo.terminal import Terminal
    from infra.local.stack import Stack

    settings = _fresh(context.settings)
    terminal = Terminal(settings.home, lambda line: click.echo(line, err=context.json))
    story = Story(terminal)
    try:
        story.come_up()
        with _parts(settings) as parts:
            report = story.tell(parts)
    finally:
        if not keep:
            Stack(settings, []).stop()
    click.echo(f"\n{report.to_text()}", err=context.json)
    for answer_id, reason in report.wrong.items():
        click.echo(f"  wrong adapter: {answer_id}: {reason}", err=True)
    if keep:
        click.echo(f"\nThe stack stays up: everlearn --home {settings.home} status, and 'down' to stop it.", err=True)
    if context.json:
        click.echo(report.to_json())
    return 0


def _fresh(settings: Settings) -> Settings:
    """Makes the demo's home, which holds only its configuration. It shares the models of the outer home."""
    from agents.demo.shop import configuration
    from infra.local.stack import Stack
    from infra.settings import CONFIG_NAME, load

    home = settings.home / "demo"
    if home.exists():
        Stack(load(home), []).stop()
        if not (home / CONFIG_NAME).is_file() or "The demo's home" not in (home / CONFIG_NAME).read_text("utf-8"):
            raise ConfigurationError(f"{home} was not made by the demo: move it away, or choose another --home")
        shutil.rmtree(home)
    try:
        home.mkdir(parents=True)
        text = configuration()
        folder = settings.models_folder.absolute()
        text = text.replace("[model]\n", f'[model]\nfolder = "{folder}"\n')
        (home / CONFIG_NAME).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{home} cannot be written ({error.strerror}): choose another --home") from error
    return load(home)


@contextmanager
def _parts(settings: Settings) -> Iterator[DemoParts]:
    from agents.demo.customers import Customers
    from agents.demo.event_log import EventLog
    from agents.demo.shop import TASK
    from agents.demo.story import DemoParts
    from infra.adapters.files import verify
    from infra.kafka import kafka_connection
    from infra.sql.database import Database
    from infra.sql.runs import SqlRunStore

    def damaged(adapter_ids: Sequence[str]) -> dict[str, str]:
        found = {}
        for adapter_id in adapter_ids:
            try:
                verify(adapter_id, settings.adapters_folder / adapter_id)
            except AdapterMissing as error:
                found[adapter_id] = str(error)
        return found

    config = kafka_connection(settings)
    database = Database(settings.sql_url())
    runs = SqlRunStore(database)
    try:
        with EventLog(config) as event_log, Customers(config) as customers:
            yield DemoParts(
                customers=customers,
                event_log=event_log,
                runs=lambda agent: runs.of_task(agent, TASK, 20),
                damaged=damaged,
                generator=lambda adapter_ids: _generator(settings, adapter_ids),
            )
    finally:
        database.close()


@contextmanager
def _generator(settings: Settings, adapter_ids: Sequence[str]) -> Iterator[Generate]:
    """Loads the serving engine in this process, with those adapters."""
    from agents.demo.shop import TASK
    from agents.prompt import build_prompt, too_long
    from infra.engines.transformers import TransformersEngine
    from schemas.generation import GenerationRequest

    engine = TransformersEngine.load(settings)
    folders: dict[str, Path] = {each: settings.adapters_folder / each for each in adapter_ids}
    engine.set_adapters(folders)
    task = settings.tasks[TASK]

    def generate(adapter_id: str | None, texts: Sequence[str]) -> list[str]:
        if adapter_id is not None and adapter_id not in folders:
            raise EverlearnError(f"the adapter {adapter_id} was never released: see 'everlearn adapters list'")
        budget = settings.answerer.context_tokens
        prompts = [build_prompt(task, text, (), (), budget=budget, count=engine.count_tokens) for text in texts]
        for prompt in prompts:
            if not prompt.fits:
                raise EverlearnError(too_long(task, prompt.tokens, budget, budget, engine.count_tokens))
        requests = [
            GenerationRequest(messages=prompt.messages, adapter_id=adapter_id, max_tokens=task.max_tokens)
            for prompt in prompts
        ]
        return [each.text for each in engine.generate(requests)]

    yield generate
