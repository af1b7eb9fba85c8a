"""A worker dies with its master (prctl(2), PR_SET_PDEATHSIG).

The kernel sends SIGKILL the moment the master is gone, so it also ends a worker that hangs in C
code or stands stopped. The EOF on the worker's channel is the second line.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have this process killed when ``parent``, its parent, dies.

    To be called after the last change of user or group: the kernel forgets it at such a change.
    Exits at once if the parent died before.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")
    if os.getppid() != parent:
        os._exit(0)
