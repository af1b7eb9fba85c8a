"""File descriptors: how many there may be, and the three that every program expects."""

import contextlib
import os
import resource


def allow_descriptors(wanted: int) -> int:
    """Raise the soft limit of open files to ``wanted``, or to the hard limit if that is less.

    Never lowers it. Returns the limit that is now in force.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < wanted:
        target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
    return soft


def tell(text: str) -> None:
    """Say it on the standard error stream. Where a disk is full, or nobody reads, it is lost, as a
    line of a log would be, and nobody is stopped by that."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))


def ensure_standard_streams() -> None:
    """Open 0, 1 and 2 on /dev/null where they are closed.

    Otherwise the next socket becomes descriptor 1, and the first ``print`` goes to a client.
    """
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return
        os.set_inheritable(fd, True)
