"""``everlearn demo``: the story on the embedded stack, which is brought up for it and taken down again."""

from __future__ import annotations

import click

from agents.commands.context import Context, json_option, pass_context


@click.command()
@click.option("--keep", is_flag=True, help="Leave the stack running afterwards.")
@json_option
@pass_context
def demo(context: Context, /, keep: bool) -> None:
    """Publish documents, ask about them, correct an answer, and see the interaction that was captured.

    With --json the story goes to stderr, and stdout gets one object.
    """
    from agents.demo.story import Story
    from infra.local.stack import Stack

    settings = context.settings
    stack = Stack(settings, [])
    running = stack.supervisor.running
    try:
        report = Story(settings.home, lambda line: click.echo(line, err=context.json)).run(up=not running)
    finally:
        if not running and not keep:
            stack.stop()
    if context.json:
        click.echo(report.to_json())
        return
    click.echo(f"\nDone in {report.seconds:.0f} s: {report.documents} documents, {report.asked} questions asked, ")
    click.echo(f"{report.failed} failed; the answer {report.answer_id} is recorded as {report.outcome}.")
    if running or keep:
        click.echo("The stack stays up: try 'everlearn ask', and stop it with 'everlearn down'.")
    else:
        click.echo("The stack is down again; 'everlearn demo --keep' leaves it running for you to try.")
