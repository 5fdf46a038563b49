"""The three ways a command can end badly, each with the exit code that a script can rely on.

An error message says what was read, what was expected and what to do next; it is printed without a trace.
"""


class FacebatchError(Exception):
    """The command failed for a reason the user can act on: exit code 1."""

    exit_code = 1


class UsageError(FacebatchError):
    """The command line, the configuration or the machine does not allow what was asked: exit code 2."""

    exit_code = 2


class Unreconciled(FacebatchError):
    """Planned images and written rows do not add up, so the dataset must not be trusted: exit code 3."""

    exit_code = 3
