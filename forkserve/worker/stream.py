"""The octets of a connection: what is sent now, what waits to be sent, and waiting in a call.

Octets that wait come first, then what is left of a file; the kernel sends that by itself, if it
can. Who takes them has to take them at a least rate, or a client that takes one octet now and then
would hold the memory, or the file, for ever.

The only place where a client's socket is written.
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
import sys
import termios

from forkserve.worker.service import Service
from forkserve.worker.state import READABLE, WRITABLE
from forkserve.wsgi.file_wrapper import Region
from forkserve.wsgi.input import BodyError, ClientDisconnected

RECV = 65536
RECV_HEAD = 16384
"""A recv allocates what it asks for, and for the small head of a request 64 KiB take noticeably
longer than 16: ``benchmarks --scenario hello``."""

_ABRUPTLY = struct.pack("ii", 1, 0)  # struct linger: close at once, with a reset
_NEVER = float("inf")

# At once, of what waits: the kernel takes hardly more (tcp_wmem), and of a file it is what is read
# from the disk before others have their turn.
_SEND = 262144

_MIN_RATE = 500
"""Octets a second below which a client as good as does not read. As for bodies of requests."""


class FileFailed(Exception):
    """A file cannot be sent to the length that its head has announced."""


class Stream:
    """A client's socket, non-blocking. The base of ``Connection``, and under the same owner.

    ``buffer``  octets received and not yet taken
    ``unsent``  octets of a response that the kernel has not taken yet; None if nothing is to be
                sent, of ``region`` neither
    ``region``  what of a file follows them; it stays, used up, until its file is closed
    ``take_by`` while there is something unsent: when the client must have taken more of it
    ``held``    octets of input that the worker counts as kept in memory for this client
    ``cell``    of the thread that runs its call, or did so last
    ``received``, ``sent``  octets since the last request was accounted for
    ``stalled`` seconds that the call has waited for the client to take more of the response
    """

    __slots__ = (
        "_queued", "buffer", "cell", "held", "received", "region", "sent", "service", "socket",
        "stalled", "take_by", "unsent",
    )  # fmt: skip

    def __init__(self, service: Service, sock: socket.socket) -> None:
        self.service = service
        self.socket = sock
        self.buffer = b""
        self.held = self.received = self.sent = 0
        self.cell = service.lead.cell
        self.unsent: bytearray | None = None
        self.region: Region | None = None
        self.take_by = self.stalled = 0.0
        self._queued = 0  # octets in the kernel, when that was last looked at

    def transmit(self, octets: bytes, *, more: bool = False) -> None:
        """Send ``octets``; what the kernel does not take waits in memory, up to `buffer_response`.

        ``more``: further octets follow at once. Blocks while more than that is waiting, which only
        happens in a call: the server's own answers are shorter. Raises ClientDisconnected.
        """
        length = len(octets)
        self.sent += length
        if self.unsent is None:
            try:
                sent = (
                    self.socket.send(octets, socket.MSG_MORE) if more else self.socket.send(octets)
                )
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise ClientDisconnected(str(error)) from None
            if sent == length:
                return
            self._lag(memoryview(octets)[sent:])
        else:
            self.unsent += octets
            self.send_unsent()
        clock = self.service.clock
        while self.unsent is not None and len(self.unsent) > self.service.buffer_response:
            began = clock()
            ready = self._wait(WRITABLE, self.take_by - began)
            self.stalled += clock() - began
            if not ready and not self.keeps_up(max(self.take_by, clock())):
                raise ClientDisconnected("the client did not read the response in time")
            self.send_unsent()

    def hold(self, octets: int) -> bool:
        """Count ``octets`` as what is kept of this client's input, in place of what was counted.

        False: that is more than there is room for. It is counted nevertheless.
        """
        self.service.input_room += self.held - octets
        self.held = octets
        return self.service.input_room >= 0

    def receive(self, deadline: float) -> bytes:
        """Wait for more of the body, in a call. Raises ClientDisconnected, BodyError(408)."""
        while not (octets := self.receive_now()):
            events = READABLE if self.unsent is None else READABLE | WRITABLE
            if not self._wait(events, deadline - self.service.clock()):
                raise BodyError(408, "the request body did not arrive in time")
        return octets

    def receive_now(self) -> bytes:
        """What is there of the body, b"" if nothing is. Raises ClientDisconnected."""
        if self.unsent is not None:
            # The client may be waiting for this before it sends more.
            self.send_unsent()
        try:
            octets = self.socket.recv(RECV)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise ClientDisconnected(str(error)) from None
        if not octets:
            raise ClientDisconnected("the client closed before the end of its request body")
        self.received += len(octets)
        self.progress()
        return octets

    def progress(self) -> None:
        """The running call is not stuck: it has sent or received something."""
        self.cell.extend(self.service.clock())

    @property
    def movable(self) -> bool:
        """Another worker goes on with this client when this one leaves."""
        # TLS has its state here, in user space.
        service = self.service
        return service.gives and service.has_siblings() and type(self.socket) is socket.socket

    def leave(self, octets: bytes, region: Region) -> None:
        """Leave ``octets``, and then those of ``region``, to ``send_unsent``."""
        self.sent += len(octets)
        if self.unsent is None:
            self._lag(octets)
        else:
            self.unsent += octets
        self.region = region
        # The kernel knows nothing of what encrypts on top of a socket.
        region.copied = type(self.socket) is not socket.socket

    def send_unsent(self) -> None:
        """Send what waits, as far as the kernel takes it, but so much that others have their turn.

        Does not block, unless a file has to be read from its disk. Raises ClientDisconnected,
        FileFailed.
        """
        unsent, region = self.unsent, self.region
        assert unsent is not None
        if region is not None and not region.length:
            region = None
        self.keeps_up(self.service.clock())
        try:
            if region is not None and region.copied and not unsent:
                octets = _read(region)
                self.sent += len(octets)
                unsent += octets
            if unsent:
                more = region is not None and not region.copied
                with memoryview(unsent) as view:
                    sent = self.socket.send(view[:_SEND], socket.MSG_MORE if more else 0)
                del unsent[:sent]
            if region is not None and not region.copied and not unsent:
                self._send_region(region)
        except BlockingIOError:
            pass
        except OSError as error:
            raise ClientDisconnected(str(error)) from None
        if unsent or (region is not None and region.length):
            self._queued = self.queued()
        else:
            self.unsent = None

    def keeps_up(self, now: float) -> bool:
        """Whether the client takes what waits for it: each octet puts ``take_by`` off by what it
        may take at the least rate, up to the whole `write_timeout`."""
        queued = self.queued()
        latest = now + self.service.write_timeout
        if queued:
            self.take_by = min(latest, self.take_by + (self._queued - queued) / _MIN_RATE)
        else:
            self.take_by = latest  # it waits for us, who were busy
        self._queued = queued
        return self.take_by > now

    def queued(self) -> int:
        """Octets that the kernel has and the client has not acknowledged.

        A socket becomes writable again when a good part of its buffer is free, which may be
        megabytes: whether a client reads at all shows here much sooner (tcp(7), SIOCOUTQ).
        """
        octets = fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(octets, sys.byteorder)

    def _lag(self, octets: bytes | memoryview) -> None:
        """These are the first that the client does not take at once."""
        self.unsent = bytearray(octets)
        self.take_by = self.service.clock() + self.service.write_timeout
        self._queued = self.queued()

    def _send_region(self, region: Region) -> None:
        """Have the kernel send of the file. Raises OSError, FileFailed."""
        try:
            sent = os.sendfile(
                self.socket.fileno(), region.fd, region.offset, min(region.length, _SEND)
            )
        except (BlockingIOError, ConnectionError):
            raise  # of the socket, for sure
        except OSError:
            # The disk has failed, or the two cannot be connected (EINVAL): that does not say which
            # of them it is. To read and to send, one after the other, does.
            region.copied = True
            return
        self.sent += sent
        _advance(region, sent)

    def reset_at_close(self) -> None:
        """The client is to see that what it got is not complete."""
        with contextlib.suppress(OSError):  # it may be gone
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPTLY)

    def _wait(self, events: int, timeout: float) -> bool:
        """Wait for the client, in the middle of a call. The client's time is not the call's.

        Also for ever: the master can still end the worker, which is in a system call.
        """
        timeout = max(timeout, 0.0)
        self.cell.extend(self.service.clock() + timeout)
        poll = select.poll()
        poll.register(self.socket, events)  # EPOLLIN and EPOLLOUT are POLLIN and POLLOUT
        ready = poll.poll(None if timeout == _NEVER else timeout * 1000)
        self.progress()
        return bool(ready)


def _read(region: Region) -> bytes:
    """Some of a region that the kernel cannot send by itself. Raises FileFailed."""
    try:
        octets = os.pread(region.fd, min(region.length, RECV), region.offset)
    except OSError as error:
        raise FileFailed(f"cannot be read: {error.strerror}") from None
    _advance(region, len(octets))
    return octets


def _advance(region: Region, octets: int) -> None:
    if not octets:
        raise FileFailed(f"has become shorter by {region.length} or more octets")
    region.offset += octets
    region.length -= octets
