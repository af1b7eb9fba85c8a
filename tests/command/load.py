"""Clients that keep a server busy, and remember what became of each request."""

import contextlib
import socket
import threading
from collections import Counter
from http.client import HTTPException, HTTPResponse

from tests.command.harness import WAIT


class Load:
    """``clients`` threads that send one request after the other, until ``stop``.

    Each keeps its connection as long as the server lets it, or ``once`` for a single request.
    ``outcomes`` counts the answers by status, and what was lost: "refused" (no connection), "lost"
    (sent, and not answered).
    """

    def __init__(
        self,
        port: int,
        path: str = "/hello",
        *,
        clients: int = 4,
        body: bytes = b"hello",
        once: bool = False,
        pause: float = 0.0,
    ) -> None:
        """``pause``: seconds between two requests of a client."""
        self.outcomes: Counter[object] = Counter()
        self._port = port
        field = "Connection: close\r\n" if once else ""
        self._request = f"GET {path} HTTP/1.1\r\nHost: h\r\n{field}\r\n".encode()
        self._body = body
        self._pause = pause
        self._stopping = threading.Event()
        self._answered = threading.Condition()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                sock = socket.create_connection(("127.0.0.1", self._port), timeout=WAIT)
            except OSError:
                self._count("refused")
                continue
            with sock:
                self._one_connection(sock)

    def _one_connection(self, sock: socket.socket) -> None:
        while not self._stopping.is_set():
            sent = False
            try:
                sock.sendall(self._request)
                sent = True
                response = HTTPResponse(sock)
                response.begin()
                body = response.read()
            except (OSError, HTTPException):
                self._count("lost" if sent else "closed")
                return
            self._count(response.status if body == self._body else "wrong")
            if response.will_close:
                return
            self._stopping.wait(self._pause)

    def _count(self, outcome: object) -> None:
        with self._answered:
            self.outcomes[outcome] += 1
            self._answered.notify_all()

    def wait_for(self, answers: int) -> None:
        """Wait for so many further answers."""
        with self._answered:
            goal = self.outcomes[200] + answers
            assert self._answered.wait_for(lambda: self.outcomes[200] >= goal, WAIT), self.outcomes

    def stop(self) -> Counter[object]:
        self._stopping.set()
        for thread in self._threads:
            thread.join(WAIT)
        return self.outcomes

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(Exception):
            self.stop()
