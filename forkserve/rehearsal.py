"""Run what may break in a child first: a configuration file in Python, and the modules of hooks.

What they do to their process (they may hang in it, end it, or start threads) is over with the
child; the master runs them only when the child came to its end. They are run twice by that, so
what they print is not shown the first time.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable

from forkserve.errors import ForkserveError, SettingsError, in_a_line
from forkserve.proc.signals import describe_status

_OCTETS = 65536
_MOMENT = 5.0  # seconds


def rehearse(run: Callable[[], object], what: str, seconds: float) -> None:
    """Call ``run`` in a child, and wait for it. For a process that has nothing else to do.

    ``what`` names it in messages. Raises what ``run`` raised if that is a ForkserveError.
    """
    import json  # it takes a while, for those who have such a file

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _in_child(run, writing)
    os.close(writing)
    words = None
    try:
        words = _hear(reading, seconds)
    finally:
        os.close(reading)
        # What it has said it has done; and who says nothing more may be on its way out.
        hangs = words is None or not (words or _ends(pid))
        if words or hangs:
            os.kill(pid, signal.SIGKILL)
        status = describe_status(os.waitpid(pid, 0)[1])
    if words:
        kind, lines = json.loads(words)
        if kind == "problems":
            raise SettingsError(lines)
        if kind == "error":
            raise ForkserveError("\n".join(lines))
        return
    if hangs:
        raise ForkserveError(too_long(what, seconds))
    raise ForkserveError(f"{what} ended the process in which it was tried: {status}")


def too_long(what: str, seconds: float) -> str:
    """What is said when it is given up."""
    return (
        f"{what} was tried in a process of its own, and did not come to its end within "
        f"`boot_timeout` ({seconds:g} s): find out what it waits for, or raise that"
    )


def be_silent() -> None:
    """Nothing of this process is shown."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for number in (1, 2):
        os.dup2(null, number)
    sys.stdout = sys.stderr = open(null, "w")  # noqa: SIM115 - until the process ends


def _in_child(run: Callable[[], object], writing: int) -> None:
    """Does not return."""
    import json

    words = ["error", ["it ended the process in which it was tried"]]
    try:
        be_silent()
        run()
        words = ["fine", []]
    except SettingsError as error:
        words = ["problems", error.problems]
    except ForkserveError as error:
        words = ["error", [error.report()]]
    except BaseException as error:  # noqa: BLE001 - a child must not return into its parent's frames
        words = ["error", [in_a_line(error)]]
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            _write(writing, json.dumps(words).encode())
        os._exit(0)


def _write(fd: int, octets: bytes) -> None:
    while octets:
        octets = octets[os.write(fd, octets) :]


def _hear(reading: int, seconds: float) -> bytes | None:
    """All that the child says; None if it takes too long."""
    import json

    poll = select.poll()
    poll.register(reading, select.POLLIN)
    words = b""
    while poll.poll(seconds * 1000):
        more = os.read(reading, _OCTETS)
        if not more:
            return words
        words += more
        with contextlib.suppress(ValueError):
            json.loads(words)
            return words  # a process that it has left behind may hold the pipe
    return None


def _ends(pid: int) -> bool:
    """Wait a moment for the end of the child."""
    fd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    try:
        return bool(poll.poll(_MOMENT * 1000))
    finally:
        os.close(fd)
