"""The second accept queue: open connections on their way from one worker to another.

A parcel is one message on a SOCK_SEQPACKET pair that all workers share: what a sibling has to know
of a connection, and its descriptor. While it is in the queue, the queue is its owner: it outlives
the worker that gave it, and the kernel closes it once no process holds the receiving end.
"""

import contextlib
import errno
import math
import os
import socket
import struct
import sys
from collections import Counter
from typing import NamedTuple

from forkserve.net.fdpass import Truncated, receive_fd, send_fd

MAX_OCTETS = 16384
"""Octets that a parcel carries at most. Who has more in hand keeps the connection."""

_VERSION = 1
_HEADER = struct.Struct("!BQdHHHH")  # version, served, deadline, four lengths; then the four
_LONGEST_TEXT = 1024  # a unix path has 107 octets, a host name 253; with what is written around
_LARGEST = _HEADER.size + 3 * _LONGEST_TEXT + MAX_OCTETS

# Asked for; without privilege the kernel gives twice net.core.wmem_max at most (socket(7)). A
# parcel counts with all its bookkeeping, 768 octets if nothing was read ahead: by the default of
# 212,992 there is room for 555 such parcels or 21 full ones, by 4 MiB for 10,923 and 405 (measured
# on Linux 6.18). net.unix.max_dgram_qlen does not count: the ends of a pair are each other's peers.
_ROOM = 8 << 20

# Looked at in one call, so that a flood of rubbish does not keep a worker from its clients.
_SPOILED_AT_ONCE = 64


class Parcel(NamedTuple):
    """What goes with a connection, beside its descriptor.

    ``remote``    (address, port) of the client as text, ("", "") on a unix socket
    ``listener``  the address of the listener that accepted it, as configured
    ``served``    requests that it has sent so far
    ``deadline``  of its state, which goes on while it is on its way: monotonic seconds, the same in
                  all processes; may be inf
    ``octets``    what was read of it and not parsed, at most MAX_OCTETS
    """

    remote: tuple[str, str]
    listener: str
    served: int
    deadline: float
    octets: bytes


def encode(parcel: Parcel) -> bytes:
    """As ``decode`` reads it.

    Raises ValueError for what cannot be written: too long, out of bounds, no text.
    """
    (address, port), listener, served, deadline, octets = parcel
    # A path may be any octets, and the others are ASCII.
    parts = (
        address.encode(), port.encode(), listener.encode("utf-8", "surrogateescape"), octets
    )  # fmt: skip
    if len(octets) > MAX_OCTETS or max(map(len, parts[:3])) > _LONGEST_TEXT:
        raise ValueError("the parcel is too large")
    if not 0 <= served < 1 << 64 or math.isnan(deadline):
        raise ValueError(f"served {served}, deadline {deadline}: out of bounds")
    header = _HEADER.pack(_VERSION, served, max(0.0, deadline), *map(len, parts))
    return b"".join((header, *parts))


def decode(octets: bytes) -> Parcel:
    """The parcel that ``encode`` has written. Raises ValueError for anything else."""
    if len(octets) < _HEADER.size:
        raise ValueError("too short for a parcel")
    version, served, deadline, *lengths = _HEADER.unpack_from(octets)
    if version != _VERSION:
        raise ValueError(f"a parcel of version {version}, and {_VERSION} is known")
    if max(lengths[:3]) > _LONGEST_TEXT or lengths[3] > MAX_OCTETS:
        raise ValueError("a part of the parcel is too long")
    if len(octets) != _HEADER.size + sum(lengths):
        raise ValueError("the parcel is not as long as its parts")
    if math.isnan(deadline) or math.copysign(1.0, deadline) < 0:
        raise ValueError("the deadline is no time")
    parts = []
    start = _HEADER.size
    for length in lengths:
        parts.append(octets[start : start + length])
        start += length
    address, port, listener, unparsed = parts
    return Parcel(
        (address.decode(), port.decode()),
        listener.decode("utf-8", "surrogateescape"),
        served,
        deadline,
        unparsed,
    )


class HandoffQueue:
    """Both ends of the queue. Each worker has them, and any number may give and take at once; in
    a worker only the thread that leads may call it.

    ``refusals``  attempts whose connection stayed with its giver, by reason ("EAGAIN": the queue is
                  full); ``refusal`` is the last of these
    ``spoiled``   parcels that could not be taken; their connections are closed
    ``starved``   the last ``take`` found no descriptor free. What waits still waits, for a sibling:
                  poll again after a pause, as after an accept that fails with EMFILE
    """

    def __init__(self, taking: socket.socket, giving: socket.socket) -> None:
        self._taking = taking
        self._giving = giving
        self.refusals: Counter[str] = Counter()
        self.refusal = ""
        self.spoiled = 0
        self.starved = False

    @classmethod
    def make(cls) -> "HandoffQueue | None":
        """A new queue; None if this system has none. Raises OSError if there is no descriptor."""
        if sys.platform != "linux":
            return None
        taking, giving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            for end in (taking, giving):
                end.setblocking(False)
            giving.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
            # A name of the kernel's choice (unix(7), autobind), by which ``adopt`` knows the pair.
            giving.bind("")
        except OSError:
            taking.close()
            giving.close()
            raise
        return cls(taking, giving)

    @classmethod
    def adopt(cls, read_fd: int, write_fd: int) -> "HandoffQueue":
        """The queue that another program made, and whose ``fds`` were inherited. They are
        close-on-exec from now on.

        Raises OSError or ValueError if they are not; the descriptors are left as they were.
        """
        ends: list[socket.socket] = []
        try:
            for fd in (read_fd, write_fd):
                ends.append(socket.socket(fileno=fd))
                if (ends[-1].family, ends[-1].type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
                    raise ValueError(f"descriptor {fd} is no end of a hand-off queue")
            taking, giving = ends
            # The other way round, or of two queues, nothing that is given would ever be taken.
            if not giving.getsockname() or taking.getpeername() != giving.getsockname():
                raise ValueError(f"descriptors {read_fd} and {write_fd} are no hand-off queue")
        except (OSError, ValueError, OverflowError) as error:
            for end in ends:
                end.detach()
            if isinstance(error, OverflowError):
                raise ValueError("no number of a descriptor") from None
            raise
        for end in ends:
            end.set_inheritable(False)
            end.setblocking(False)
        return cls(taking, giving)

    def fileno(self) -> int:
        """The receiving end, to be polled with EPOLLEXCLUSIVE; -1 once it is closed."""
        return self._taking.fileno()

    def fds(self) -> tuple[int, int]:
        """What ``adopt`` wants, in its order. To be made inheritable by who starts the program."""
        return self._taking.fileno(), self._giving.fileno()

    def give(self, sock: socket.socket, parcel: Parcel) -> bool:
        """Send a connection to whichever worker takes it first. Does not block.

        True: it is no longer the caller's, who closes ``sock`` without another read or write, and
        without shutdown. An epoll that knows it must forget it before: closing is not enough.
        False: it stays where it is, and ``refusals`` says why.
        """
        try:
            message = encode(parcel)
        except ValueError:
            return self._refuse("EMSGSIZE" if len(parcel.octets) > MAX_OCTETS else "EINVAL")
        try:
            send_fd(self._giving, message, sock.fileno())
        except OSError as error:
            return self._refuse(errno.errorcode.get(error.errno or 0, "EIO"))
        return True

    def _refuse(self, reason: str) -> bool:
        self.refusals[reason] += 1
        self.refusal = reason
        return False

    def take(self) -> tuple[socket.socket, Parcel] | None:
        """A connection that is now the caller's, non-blocking, close-on-exec. Does not block.

        None: there is none, or no descriptor for one (``starved``). Raises OSError once closed.
        """
        self.starved = False
        for _ in range(_SPOILED_AT_ONCE):
            try:
                # A descriptor that finds no room is lost, and with it the connection. So it is
                # tried first; between the two only another thread could take the last one.
                os.close(os.dup(self._taking.fileno()))
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                    raise
                self.starved = True
                return None
            try:
                octets, fd = receive_fd(self._taking, _LARGEST)
            except BlockingIOError:
                return None
            except Truncated:
                self.spoiled += 1
                continue
            taken = _unpack(octets, fd)
            if taken is not None:
                return taken
            self.spoiled += 1
        return None

    def close(self) -> None:
        """Close this process's ends. The queue lives on in the other processes."""
        self._taking.close()
        self._giving.close()


def _unpack(octets: bytes, fd: int | None) -> tuple[socket.socket, Parcel] | None:
    """A stream socket and its parcel; None, and the descriptor closed, if it is anything else."""
    if fd is None:
        return None
    try:
        sock = socket.socket(fileno=fd)
    except OSError:  # ENOTSOCK
        os.close(fd)
        return None
    with contextlib.suppress(ValueError, OSError):
        parcel = decode(octets)
        if sock.type == socket.SOCK_STREAM:
            sock.setblocking(False)
            return sock, parcel
    sock.close()
    return None
