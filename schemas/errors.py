"""The error classes of Everlearn, as one tree.

EverlearnError                 a failure that a user can act on; its message says how
├── Misuse                     the command line or an input file has a mistake (exit code 2)
├── InvalidEvent               this event can never be processed: dead-letter it at once
│   └── RecordRefused          Kafka will never take a record that the event led to
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

import errno
import socket


class EverlearnError(Exception):
    """A failure that a user can act on; its message says how."""


class Misuse(EverlearnError):
    """The command line or an input file has a mistake."""


class InvalidEvent(EverlearnError):
    """This event can never be processed: dead-letter it at once."""


class RecordRefused(InvalidEvent):
    """Kafka will never take a record, because it is too large or breaks a rule of its topic."""


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


def plain(text: str, most: int = 2000) -> str:
    """Returns a text on one line that every event and every database takes, cut after ``most`` characters."""
    return " ".join(text.encode(errors="replace").decode().replace("\0", " ").split())[:most]


def first_line(error: BaseException) -> str:
    """Returns the first line of a library's error message, or the error's class name if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


_MACHINE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV),
        *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EBUSY),
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN, errno.ETIMEDOUT),
        *(errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL),
    }
)
"""What the machine or the network refuses, whatever the input is. A missing path, or one too long, is not among it."""


def unavailable(error: BaseException) -> Unavailable | None:
    """Returns the error as Unavailable if the machine or a service is at fault and not the input; otherwise None.

    That is Unavailable itself, but not EngineCrashed, and an OSError of the machine or the network, also as the cause
    of a library's own error.
    """
    if isinstance(error, EngineCrashed):
        return None
    if isinstance(error, Unavailable):
        return error
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, EverlearnError):
        if isinstance(cause, OSError) and (cause.errno in _MACHINE or isinstance(cause, socket.gaierror)):
            return Unavailable(_refused(cause))
        cause = cause.__cause__
    return None


def _refused(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "make room on the disk"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "give this user the right to write there"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        advice = "allow more open files (ulimit -n)"
    else:
        advice = "this machine or its network refuses it"
    return f"{place}{error.strerror or error}; {advice}"
