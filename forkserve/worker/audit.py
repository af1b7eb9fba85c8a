"""What the import of an application leaves behind that a fork does not copy, or copies too well.

A thread does not run in the child, but the locks that it held stay locked. A socket, an epoll
instance, the position in a file belong to all processes that have the descriptor: two workers that
speak on one connection to a database read each other's answers.
"""

import contextlib
import gc
import os
import socket
import stat
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from types import FrameType
from typing import Any

from forkserve.proc.stacks import current_frames

_ADVICE = (
    "`preload`: the import of {app} has left behind what does not go well with a fork:\n{found}\n"
    "Threads do not run in the workers, and what they have locked stays locked there; connections, "
    "event loops and files that are written are one and the same in all workers, which then read "
    "each other's answers. Make them when the first request needs them, or in a function given to "
    "os.register_at_fork(after_in_child=...), or leave it off. The server goes on"
)


class Audit:
    """Made before the import, in the main thread."""

    def __init__(self) -> None:
        self._before = Counter(_findings())

    def warning(self, app: str) -> str | None:
        """What to tell the operator after the import; None if there is nothing."""
        found = list((Counter(_findings()) - self._before).elements())
        return _ADVICE.format(app=app, found="\n".join(found)) if found else None


def _findings() -> Iterator[str]:
    """All that could do harm, each in a few words."""
    yield from _threads()
    yield from _event_loops()
    yield from _descriptors()


def _threads() -> Iterator[str]:
    """Of Python only: the libraries that start others (BLAS, say) have fork hooks of their own."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in current_frames().items():
        if ident != threading.get_ident():
            yield f"thread {names.get(ident, str(ident))!r}, in {_function(frame)}"


def _function(frame: FrameType) -> str:
    """ "module:function" that a thread was started with."""
    found = frame
    outer: FrameType | None = frame
    while outer is not None:
        if outer.f_globals.get("__name__") != "threading":
            found = outer
        outer = outer.f_back
    return f"{found.f_globals.get('__name__')}:{found.f_code.co_qualname}"


def _event_loops() -> Iterator[str]:
    """Those of asyncio that run, in a thread, or stand ready to: each holds an epoll instance."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None or not hasattr(asyncio, "AbstractEventLoop"):
        return
    for item in gc.get_objects():
        # Not isinstance, which asks an object that stands for another to become that one.
        if issubclass(type(item), asyncio.AbstractEventLoop) and not item.is_closed():
            state = "runs" if item.is_running() else "is open"
            yield f"event loop of {type(item).__module__} that {state}"


def _descriptors() -> Iterator[str]:
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        text = None
        with contextlib.suppress(OSError):  # it is closed: by a thread, or the one that listed them
            text = _describe(fd, os.readlink(f"/proc/self/fd/{fd}"))
        if text is not None:
            yield f"{text} (descriptor {fd})"


def _describe(fd: int, target: str) -> str | None:
    """What ``fd`` is, if it is something that processes should not share."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(fd)) as sock:
            return _describe_socket(sock)
    if target.startswith("anon_inode:"):
        return target.removeprefix("anon_inode:").strip("[]")
    if stat.S_ISREG(mode) and os.O_RDWR & _flags(fd):
        return f"file that is open for reading and writing: {target}"
    return None


def _describe_socket(sock: socket.socket) -> str:
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return f"listening socket {_address(sock.getsockname())}"
    try:
        return f"connection to {_address(sock.getpeername())}"
    except OSError:
        return f"socket {_address(sock.getsockname())}"


def _address(name: Any) -> str:
    if isinstance(name, tuple) and len(name) >= 2:
        return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return f"unix:{text}" if text else "a socket without a name"


def _flags(fd: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
