"""Who is whose parent, and a worker that dies with its master (prctl(2), PR_SET_PDEATHSIG).

The kernel sends SIGKILL the moment the master is gone, so it also ends a worker that hangs in C
code or stands stopped. The EOF on the worker's channel is the second line.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with(parent: int) -> None:
    """Have this process killed when ``parent``, its parent, dies.

    To be called after the last change of user or group: the kernel forgets it at such a change.
    Exits at once if the parent died before.
    """
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def adopt_orphans() -> None:
    """From now on, be the parent of every descendant whose own parent ends (Linux 3.4).

    It reaches descendants that are forked later, too, and is not inherited by them.
    """
    _prctl("PR_SET_CHILD_SUBREAPER", _PR_SET_CHILD_SUBREAPER, 1)


def _prctl(name: str, option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({name}): {os.strerror(number)}")
