"""The octets of a connection: what is sent now, what waits to be sent, and waiting in a call.

The only place where a client's socket is written.
"""

import fcntl
import select
import socket
import sys
import termios

from forkserve.worker.service import Service
from forkserve.worker.state import READABLE, WRITABLE
from forkserve.wsgi.input import BodyError, ClientDisconnected

RECV = 65536
RECV_HEAD = 16384
"""A recv allocates what it asks for, and for the small head of a request 64 KiB take noticeably
longer than 16: ``benchmarks --scenario hello``."""

_SEND = 262144  # of what waits in memory; the kernel takes no more at once (tcp_wmem)


class Stream:
    """A client's socket, non-blocking. The base of ``Connection``, and under the same owner.

    ``buffer``  octets received and not yet taken
    ``unsent``  octets of a response that the kernel has not taken yet, None if there are none
    """

    __slots__ = ("buffer", "service", "socket", "unsent")

    def __init__(self, service: Service, sock: socket.socket) -> None:
        self.service = service
        self.socket = sock
        self.buffer = b""
        self.unsent: bytearray | None = None

    def transmit(self, octets: bytes, *, more: bool = False) -> None:
        """Send ``octets``; what the kernel does not take waits in memory, up to `buffer_response`.

        ``more``: further octets follow at once. Blocks while more than that is waiting, which only
        happens in a call: the server's own answers are shorter. Raises ClientDisconnected.
        """
        if self.unsent is None:
            try:
                sent = (
                    self.socket.send(octets, socket.MSG_MORE) if more else self.socket.send(octets)
                )
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise ClientDisconnected(str(error)) from None
            if sent == len(octets):
                return
            self.unsent = bytearray(memoryview(octets)[sent:])
        else:
            self.unsent += octets
            self.send_unsent()
        while self.unsent is not None and len(self.unsent) > self.service.buffer_response:
            queued = self.queued()
            if not self._wait(WRITABLE, self.service.write_timeout) and self.queued() >= queued:
                raise ClientDisconnected("the client did not read the response in time")
            self.send_unsent()

    def receive(self, deadline: float) -> bytes:
        """Wait for more of the body, in a call. Raises ClientDisconnected, BodyError(408)."""
        service = self.service
        while True:
            if self.unsent is not None:
                # The client may be waiting for this before it sends more.
                self.send_unsent()
            try:
                octets = self.socket.recv(RECV)
            except BlockingIOError:
                events = READABLE if self.unsent is None else READABLE | WRITABLE
                if not self._wait(events, deadline - service.clock()):
                    raise BodyError(408, "the request body did not arrive in time") from None
                continue
            except OSError as error:
                raise ClientDisconnected(str(error)) from None
            if not octets:
                raise ClientDisconnected("the client closed before the end of its request body")
            service.progress()
            return octets

    def send_unsent(self) -> int:
        """Send what waits, as far as the kernel takes it. Returns the number of octets.

        Does not block. Raises ClientDisconnected.
        """
        assert self.unsent is not None
        try:
            with memoryview(self.unsent) as view:
                sent = self.socket.send(view[:_SEND])
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ClientDisconnected(str(error)) from None
        if sent == len(self.unsent):
            self.unsent = None
        else:
            del self.unsent[:sent]
        return sent

    def queued(self) -> int:
        """Octets that the kernel has and the client has not acknowledged.

        A socket becomes writable again when a good part of its buffer is free, which may be
        megabytes: whether a client reads at all shows here much sooner (tcp(7), SIOCOUTQ).
        """
        octets = fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(octets, sys.byteorder)

    def _wait(self, events: int, timeout: float) -> bool:
        """Wait for the client, in the middle of a call. The client's time is not the call's."""
        service = self.service
        timeout = max(timeout, 0.0)
        service.row.extend(service.clock() + timeout + service.timeout)
        poll = select.poll()
        poll.register(self.socket, events)  # EPOLLIN and EPOLLOUT are POLLIN and POLLOUT
        ready = poll.poll(timeout * 1000)
        service.progress()
        return bool(ready)
