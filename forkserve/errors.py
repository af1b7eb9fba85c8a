"""The errors that an operator can meet, each with the exit status that it leads to.

Their text is for people: what happened, to what, and what to do about it.
The errors of one layer's own language (a client's malformed request, an application's malformed
header) are declared in that layer.
"""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_APPLICATION = 3


class ForkserveError(Exception):
    """Something that stops forkserve, or the operation at hand, and that a person has to read."""

    exit_status = EXIT_FAILED


class SettingsError(ForkserveError):
    """One or more settings are wrong. ``problems`` has one line of text for each."""

    exit_status = EXIT_USAGE

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ListenError(ForkserveError):
    """An address cannot be listened on."""


class PidFileError(ForkserveError):
    """The pid file cannot be written, or another server holds it."""


class PrivilegeError(ForkserveError):
    """The worker cannot become the user or the group that it was told to be."""


class ApplicationError(ForkserveError):
    """The application cannot be loaded. ``traceback`` is its own traceback, or ''."""

    exit_status = EXIT_APPLICATION

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback
