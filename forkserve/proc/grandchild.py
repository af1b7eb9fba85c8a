"""A process that is forked here and belongs to a process above: the double fork of daemon(3).

The one between ends at once, and the kernel gives its child to the nearest subreaper above
(PR_SET_CHILD_SUBREAPER), which becomes its parent in every respect: SIGCHLD, wait, the signal at
the parent's death.

To Python it is one fork. ``os.fork`` twice would run the hooks of ``os.register_at_fork`` in the
process between too: threads started there are lost, connections made there are torn. And between
the two halves of a fork the evaluation loop must not run: it may be asked to hand the GIL to a
thread that does not exist in the child, and waits for that for ever. So the steps are functions of
C, and what calls one after the other is C too.
"""

import contextlib
import ctypes
import errno
import os
import signal
import socket
import struct
from functools import partial
from operator import call
from typing import Any

_PR_SET_PDEATHSIG = 1
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid

# The GIL is held while they run.
_c = ctypes.PyDLL(None, use_errno=True)
_python = ctypes.pythonapi
for _name in ("PyOS_BeforeFork", "PyOS_AfterFork_Parent", "PyOS_AfterFork_Child"):
    getattr(_python, _name).restype = None
_c.send.argtypes = _c.recv.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_c.send.restype = _c.recv.restype = ctypes.c_ssize_t
_c.prctl.argtypes = ctypes.c_int, *4 * (ctypes.c_ulong,)


class Newborn:
    """A forked process. It stands still, before any code of Python's, until it is released."""

    def __init__(self, pid: int, cord: socket.socket) -> None:
        self.pid = pid
        self._cord = cord

    def release(self) -> None:
        """Let it run. If this process ends without that, it ends too."""
        with self._cord:
            self._cord.send(b"")
            self._cord.send(b"!")


def fork_grandchild() -> Newborn | None:
    """Fork for the nearest subreaper above. Returns None in the new process, which is then the
    leader of a session, and dies with its parent.

    For the main thread, with all signals blocked. Raises OSError if the kernel gives no process.
    """
    here = os.getpid()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    last = next(filter(None, map(call, _steps(ours.fileno(), theirs.fileno()))), 0)
    if last == 0:
        ours.detach()
        with theirs:
            if theirs.recv(1) != b"!":
                os._exit(0)
        return None
    number = ctypes.get_errno()
    if os.getpid() != here:  # a step failed in the child: nobody waits for it
        os._exit(1)
    _python.PyOS_AfterFork_Parent()
    theirs.close()
    if last < 0:
        ours.close()
        raise OSError(number, os.strerror(number))
    ancillary = ours.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size))[1]
    with contextlib.suppress(ChildProcessError):  # the application ignores SIGCHLD: it is gone
        os.waitpid(last, 0)
    if not ancillary:
        ours.close()
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return Newborn(_CREDENTIALS.unpack(ancillary[0][2])[0], ours)


def _steps(ours: int, theirs: int) -> tuple[Any, ...]:
    """What is called until one returns something else than None and 0.

    In this process that is ``fork``, with the pid of the one between; ``daemon`` ends that one,
    and only the new process comes to the end.
    """
    return (
        _python.PyOS_BeforeFork,
        _c.fork,
        partial(_c.daemon, 1, 1),
        partial(_c.close, ours),
        # Empty; the kernel adds the pid. Then it waits for an empty message, or the end.
        partial(_c.send, theirs, None, 0, 0),
        partial(_c.recv, theirs, ctypes.create_string_buffer(1), 1, 0),
        # The one between has been waited for, so this is about the parent that it keeps.
        partial(_c.prctl, _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0),
        _python.PyOS_AfterFork_Child,
    )
