"""One descriptor beside octets, over an AF_UNIX socket that keeps messages apart. Linux.

Sources: unix(7) for SCM_RIGHTS, cmsg(3), recvmsg(2). ``socket.recv_fds`` is no help: on Python 3.11
it ignores its flags, and what it receives would be inherited by each program that is started.
"""

import array
import errno
import os
import socket

_MOST = 253
"""Descriptors that the kernel takes in one message (SCM_MAX_FD). There is room for all, so that
MSG_CTRUNC says one thing only: this process may have no more descriptors."""

_ONE = array.array("i", [0]).itemsize


class Truncated(OSError):
    """The message is lost, and what came of it is closed. ``errno``: EMFILE if a descriptor found
    no room in this process, EMSGSIZE if the octets found none in ``size``."""


def send_fd(sock: socket.socket, octets: bytes, fd: int) -> None:
    """Send ``octets`` and a duplicate of ``fd``, whole or not at all. Does not block.

    Raises BlockingIOError if there is no room; OSError else: EMSGSIZE (never will be), ETOOMANYREFS
    (more descriptors of this user on their way than RLIMIT_NOFILE), EPIPE, EBADF...
    """
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
    sock.sendmsg([octets], [rights], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def receive_fd(sock: socket.socket, size: int) -> tuple[bytes, int | None]:
    """The next message of at most ``size`` octets, and its descriptor, close-on-exec. Does not
    block.

    None: it came without. Of several the first is returned, the others are closed. (b"", None) is
    also what is read when the other side is gone. Raises BlockingIOError if there is none,
    Truncated, OSError; no descriptor is left open then.
    """
    octets, ancillary, flags, _ = sock.recvmsg(
        size,
        socket.CMSG_SPACE(_MOST * _ONE),
        socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
    )
    fds = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) // _ONE * _ONE])
    lost = flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC)
    for surplus in fds[0 if lost else 1 :]:
        os.close(surplus)
    if lost:
        why = errno.EMFILE if lost & socket.MSG_CTRUNC else errno.EMSGSIZE
        raise Truncated(why, os.strerror(why))
    return octets, fds[0] if fds else None
