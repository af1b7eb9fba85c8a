"""Clients and workers around a hand-off queue."""

import os
import signal
import socket
from collections.abc import Callable

from forkserve.worker.handoff import HandoffQueue, Parcel

PLAIN = Parcel(("192.0.2.1", "4711"), "127.0.0.1:8000", 0, 5.0, b"")


class Client:
    """A client, and the server's socket of its connection."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.socket = socket.create_connection(listener.getsockname(), timeout=30)
            self.server, _ = listener.accept()

    def given_to(self, queue: HandoffQueue, parcel: Parcel = PLAIN) -> "Client":
        assert queue.give(self.server, parcel)
        self.server.close()
        return self

    def reads(self) -> bytes:
        """All that it is ever sent, until it is closed. Times out if it is left hanging."""
        octets = b""
        try:
            while more := self.socket.recv(1000):
                octets += more
        except ConnectionResetError:
            octets += b"<reset>"
        self.socket.close()
        self.server.close()
        return octets


def serve(queue: HandoffQueue, answer: bytes = b"served") -> int:
    """Answer and close whoever waits; how many there were."""
    count = 0
    while taken := queue.take():
        with taken[0] as sock:
            sock.send(answer)
        count += 1
    return count


class Process:
    """A worker that does ``work(pause)``; each ``pause`` waits for who makes it go on, or kills."""

    def __init__(self, work: Callable[[Callable[[], object]], None]) -> None:
        self._here, there = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._here.close()
            status = 1
            try:
                work(lambda: there.send(b"!") and there.recv(1))
                status = 0
            finally:
                os._exit(status)
        there.close()

    def reached(self) -> None:
        """Wait until it pauses."""
        assert self._here.recv(1) == b"!"

    def go_on(self) -> None:
        self._here.send(b"!")

    def end(self, *, kill: bool = True) -> None:
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        assert os.waitpid(self.pid, 0)[1] == (signal.SIGKILL if kill else 0)
        self._here.close()
