"""The command line's entry: ``everlearn`` and ``python -m agents``."""

from __future__ import annotations


def main() -> None:
    """Runs the command line."""
    from agents.cli.main import run

    run()


if __name__ == "__main__":
    main()
