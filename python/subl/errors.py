"""The kinds of failure that a person can do something about, one class each.

Anything else that escapes is a defect in subl itself and keeps its traceback.
"""

from __future__ import annotations


class SublError(Exception):
    """A failure with a message for a person and, where there is one, the next thing to try."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(SublError):
    """A configuration or rules file says something that subl does not understand."""


class InputError(SublError):
    """A file, row or model that was given cannot be used."""


class OutputError(SublError):
    """The place to write to is taken, locked, or cannot be written."""


class BusyError(OutputError):
    """Another process is making the very same thing right now."""


class DependencyError(SublError):
    """A part that this command needs is not installed."""


class StageError(SublError):
    """A stage started and could not finish."""


class StoppedError(SublError):
    """A signal asked work to stop; what was done is saved, and the same command goes on with it."""


class UnfinishedError(SublError):
    """What was asked of this process is done, and what it is a part of is not: others make it."""
