"""``forkserve --check-config``: would the server start, with these settings and this application?

Nothing is bound, written or left behind. The application is loaded in a child, as a worker would do
it, so whatever it does to its process is over with the check.
"""

import contextlib
import os
import select
import signal
import stat
import sys
from collections.abc import Callable, Iterator

from forkserve.errors import (
    EXIT_APPLICATION,
    EXIT_FAILED,
    EXIT_OK,
    ApplicationError,
    ForkserveError,
    in_a_line,
)
from forkserve.net.syslog import PREFIX
from forkserve.proc.descriptors import tell
from forkserve.proc.signals import describe_status
from forkserve.settings import Settings


def check(settings: Settings, load: Callable[[], object]) -> None:
    """``load`` prepares the process and loads the application. Raises ForkserveError."""
    problems = list(_files_not_writable(settings))
    if problems:
        raise ForkserveError("\n".join(problems))
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _load_in_child(load, writing, settings.explained)
    os.close(writing)
    try:
        how = _wait(pid, reading, settings.boot_timeout)
        status = os.read(reading, 1)
    finally:
        os.close(reading)
    if not status:
        raise ApplicationError(
            f"{settings.app} (`app`) ended its process while it was loaded: {how}. Something that "
            "its import runs has done so: a call of os._exit(), or a crash in C code"
        )
    if status[0] != EXIT_OK:
        sys.exit(status[0])  # the child has said why


def _load_in_child(load: Callable[[], object], writing: int, explain: Callable[[str], str]) -> None:
    """Load, and tell the parent the status. Does not return."""
    status = EXIT_FAILED
    os.register_at_fork(after_in_child=lambda: os.close(writing))
    try:
        load()
        status = EXIT_OK
    except ForkserveError as error:
        tell(f"forkserve: {error.report(explain)}")
        status = error.exit_status
    except BaseException as error:  # noqa: BLE001 - a child must not return into its parent's frames
        tell(f"forkserve: loading it raised {in_a_line(error)}")
        status = EXIT_APPLICATION
    finally:
        with contextlib.suppress(Exception):  # the application may have put anything there
            sys.stdout.flush()
        os.write(writing, bytes([status]))
        os._exit(status)


def _wait(pid: int, reading: int, timeout: float) -> str:
    """Wait for the child, and say how it ended. Raises ApplicationError if it takes too long."""
    poll = select.poll()
    poll.register(reading, select.POLLIN)  # which its end is too
    in_time = poll.poll(timeout * 1000)
    if not in_time:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not in_time:
        raise ApplicationError(
            f"the application was not loaded within `boot_timeout` ({timeout:g} s): raise it, or "
            "find out what it waits for"
        )
    return describe_status(status)


def _files_not_writable(settings: Settings) -> Iterator[str]:
    """What the master would have to write, and cannot."""
    for name in ("error_logfile", "access_logfile", "pid"):
        path = getattr(settings, name)
        if path is None or path == "-" or path.startswith(PREFIX):
            continue
        directory = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(directory):
            yield f"{path} (`{name}`): there is no directory {directory}. Make it"
        elif os.path.isdir(path):
            yield f"{path} (`{name}`) is a directory, and must be a file"
        elif name == "pid" and os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            yield f"{path} (`{name}`) is not a regular file. Choose another"
        elif not os.access(path if os.path.exists(path) else directory, os.W_OK):
            yield f"{path} (`{name}`) cannot be written by user {os.geteuid()}"
