"""The errors that an operator can meet, each with the exit status that it leads to.

Their text is for people: what happened, to what, and what to do about it.
The errors of one layer's own language (a client's malformed request, an application's malformed
header) are declared in that layer.
"""

import errno
import os
import traceback
from collections.abc import Callable

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_APPLICATION = 3
EXIT_SOFTWARE = 70  # EX_SOFTWARE of sysexits.h: our own fault
EXIT_INTERRUPTED = 130  # by Ctrl-C, as a shell calls it


class ForkserveError(Exception):
    """Something that stops forkserve, or the operation at hand, and that a person has to read."""

    exit_status = EXIT_FAILED

    def report(self, explain: Callable[[str], str] = str) -> str:
        """All that a person needs to know of it. ``explain`` says of the settings in the message
        where they came from."""
        return explain(str(self))


class SettingsError(ForkserveError):
    """One or more settings are wrong. ``problems`` has one line of text for each."""

    exit_status = EXIT_USAGE

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def report(self, explain: Callable[[str], str] = str) -> str:
        """Each problem names its origin already."""
        return str(self)


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

    def report(self, explain: Callable[[str], str] = str) -> str:
        return f"{explain(str(self))}\n{self.traceback}".rstrip("\n")


def why_not(path: str, error: OSError, setting: str = "") -> str:
    """ "/a/b: No such file or directory. Its directory must exist", for a file that cannot be
    opened. ``setting`` is the one that names it."""
    where = f" (`{setting}`)" if setting else ""
    advice = {
        errno.ENOENT: ". Its directory must exist",
        errno.ENOTDIR: ". Its directory must exist",
        errno.EACCES: f". User {os.geteuid()} must be able to write it, and to enter its directory",
        errno.EPERM: f". User {os.geteuid()} must be able to write it",
        errno.ELOOP: ". It is a link, and a link that root has not made is not followed",
        errno.ENXIO: ". It is a socket, or a pipe that nobody reads; - is the standard stream",
        errno.EROFS: ". Its file system is read-only",
    }
    return f"{path}{where}: {error.strerror}{advice.get(error.errno or 0, '')}"


def in_a_line(error: BaseException) -> str:
    """What a traceback ends with, without notes: "ValueError: why"."""
    try:
        lines = traceback.format_exception_only(error)
        # Of a SyntaxError its place comes first, indented.
        return next(line for line in lines if not line.startswith(" ")).rstrip("\n")
    except Exception:  # noqa: BLE001 - what an application raises can be made so that nobody can show it
        return f"{type(error).__name__} (which cannot be shown)"


def traceback_of(error: BaseException, own: tuple[str, ...]) -> str:
    """The traceback, without the first frames as long as they are of modules that begin like one of
    ``own``: who reads it looks for the application's."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith(own):
        frame = frame.tb_next
    try:
        lines = traceback.format_exception(type(error), error, frame)
    except Exception:  # noqa: BLE001 - as above; where it was raised can always be shown
        lines = [*traceback.format_tb(frame), in_a_line(error)]
    return "".join(lines).rstrip("\n")
