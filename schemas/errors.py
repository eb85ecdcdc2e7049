"""The error classes of Everlearn, as one tree.

EverlearnError                 a failure that a user can act on; its message says how
├── Misuse                     the command line or an input file has a mistake (exit code 2)
├── InvalidEvent               this event can never be processed: dead-letter it at once
├── ConfigurationError         everlearn.toml, the environment or the home folder is wrong
│   └── ModelMissing           a model is not where the configuration says
├── AdapterMissing             an adapter that should be served cannot be found
├── AlreadyJournaled           another worker committed this event first
└── Unavailable                a required service cannot be reached: wait and try again, for as long as it takes
    ├── TimedOut               a command has waited as long as it may
    └── EngineCrashed          the inference engine died on this batch: find the event that causes it

They are in ``schemas`` because both ``agents`` and ``infra`` raise them, and ``infra`` does not import ``agents``.
"""

from __future__ import annotations


class EverlearnError(Exception):
    """A failure that a user can act on; its message says how."""


class Misuse(EverlearnError):
    """The command line or an input file has a mistake."""


class InvalidEvent(EverlearnError):
    """This event can never be processed: dead-letter it at once."""


class ConfigurationError(EverlearnError):
    """The configuration, the environment or the home folder is wrong."""


class ModelMissing(ConfigurationError):
    """A model is not where the configuration says."""


class AdapterMissing(EverlearnError):
    """An adapter that should be served cannot be found."""


class AlreadyJournaled(EverlearnError):
    """Another worker committed this event first."""


class Unavailable(EverlearnError):
    """A required service cannot be reached: wait and try again, for as long as it takes."""


class TimedOut(Unavailable):
    """A command has waited as long as it may."""


class EngineCrashed(Unavailable):
    """The inference engine died on this batch: find the event that causes it."""


def first_line(error: BaseException) -> str:
    """Returns the first line of a library's error message, or the error's class name if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
