"""The octets of a connection: what is sent now, what waits to be sent, and waiting in a call.

The only place where a client's socket is written.
"""

import select
import socket
from typing import TYPE_CHECKING

from forkserve.worker.service import Service
from forkserve.worker.state import READABLE, WRITABLE
from forkserve.wsgi.input import BodyError, ClientDisconnected

if TYPE_CHECKING:
    from forkserve.worker.exchange import Exchange

RECV = 65536
RECV_HEAD = 16384
"""A recv allocates what it asks for: with 64 KiB the head of a small request costs 5 % more."""

_SEND = 262144  # of what waits in memory, at once


class Stream:
    """A client's socket, non-blocking. The base of ``Connection``, and under the same owner.

    ``buffer``  octets received and not yet taken
    ``unsent``  octets of a response that the kernel has not taken yet, None if there are none
    """

    __slots__ = ("buffer", "exchange", "service", "socket", "unsent")

    def __init__(self, service: Service, sock: socket.socket) -> None:
        self.service = service
        self.socket = sock
        self.buffer = b""
        self.unsent: bytearray | None = None
        self.exchange: Exchange | None = None

    def transmit(self, data: bytes, *, more: bool = False) -> None:
        """Send ``data``; what the kernel does not take waits in memory, up to `buffer_response`.

        ``more``: further data follows at once. Blocks while more than that is waiting. Raises
        ClientDisconnected.
        """
        if self.unsent is None:
            try:
                sent = self.socket.send(data, socket.MSG_MORE) if more else self.socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise ClientDisconnected(str(error)) from None
            if sent == len(data):
                return
            self.unsent = bytearray(memoryview(data)[sent:])
        else:
            self.unsent += data
            self.send_unsent()
        while self.unsent is not None and len(self.unsent) > self.service.buffer_response:
            if not self._wait(WRITABLE, self.service.write_timeout):
                raise ClientDisconnected("the client did not read the response in time")
            self.send_unsent()

    def receive(self) -> bytes:
        """Wait for more of the body, in a call. Raises ClientDisconnected, BodyError(408)."""
        while True:
            if self.unsent is not None:
                # The client may be waiting for this before it sends more.
                self.send_unsent()
            try:
                data = self.socket.recv(RECV)
            except BlockingIOError:
                events = READABLE if self.unsent is None else READABLE | WRITABLE
                if not self._wait(events, self.service.body_timeout):
                    raise BodyError(408, "the request body did not arrive in time") from None
                continue
            except OSError as error:
                raise ClientDisconnected(str(error)) from None
            if not data:
                raise ClientDisconnected("the client closed before the end of its request body")
            if self.exchange is not None:
                self.exchange.progress()
            return data

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

    def _wait(self, events: int, timeout: float) -> bool:
        """Wait for the client, in the middle of a call. The client's time is not the call's."""
        service = self.service
        service.row.extend(service.clock() + timeout + service.timeout)
        poll = select.poll()
        poll.register(self.socket, events)  # EPOLLIN and EPOLLOUT are POLLIN and POLLOUT
        ready = poll.poll(timeout * 1000)
        service.row.extend(service.clock() + service.timeout)
        return bool(ready)
