"""Everything that can go wrong, as one tree.

EverlearnError                 a failure that a user can act on; its message says how
├── Misuse                     the command line or a file was written wrongly (exit code 2)
├── InvalidEvent               this event can never be processed: dead-letter it at once
├── ConfigurationError         everlearn.toml, the environment or the home folder is wrong
│   └── ModelMissing           a model is not where the configuration says
├── AdapterMissing             an adapter that should be served cannot be found
├── AlreadyJournaled           another worker committed this event first
└── Unavailable                something needed cannot be reached: wait and try again, for as long as it takes
    └── EngineCrashed          the inference engine died on this batch: look for the culprit

It stands outside the rooms because ``infra`` raises these too; nothing else of ``agents`` is imported there.
"""

from __future__ import annotations


class EverlearnError(Exception):
    """A failure that a user can act on; its message says how."""


class Misuse(EverlearnError):
    """The command line or a file was written wrongly."""


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
    """Something needed cannot be reached: wait and try again, for as long as it takes."""


class EngineCrashed(Unavailable):
    """The inference engine died on this batch: look for the culprit."""


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line; its name where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
