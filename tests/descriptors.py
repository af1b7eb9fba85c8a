"""How many descriptors are open, and processes that may have no more of them."""

import array
import contextlib
import os
import resource
import socket
import sys
from collections.abc import Callable


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def send_many(sock: socket.socket, octets: bytes, fds: list[int]) -> None:
    sock.sendmsg([octets], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def in_a_child(work: Callable[[], None]) -> None:
    """In a process of its own, for limits that cannot be taken back. Fails if ``work`` does."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - a child must not return into pytest
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def allow_no_more_descriptors() -> None:
    top = os.open(os.devnull, os.O_RDONLY)
    os.close(top)
    # Those above stay open; the lowest that is free is no longer allowed.
    resource.setrlimit(resource.RLIMIT_NOFILE, (top, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def lose_privileges() -> None:
    """Root is exempt from some limits. (Without the privilege to become another, it is not.)"""
    if os.getuid() == 0:
        with contextlib.suppress(PermissionError):
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
