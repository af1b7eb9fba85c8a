"""``wsgi.input`` for a body that is read while it arrives.

A body that was collected beforehand needs nothing of this: it is an ordinary binary file.
"""

import io
from collections.abc import Callable

_BUFFER = 65536


class ClientDisconnected(OSError):
    """The client is gone: its request will never be complete, or its response never be read."""


class BodyError(OSError):
    """The rest of the body cannot be read. ``status`` is what the client is owed for it.

    An OSError, because that is what applications and frameworks expect of a file that fails.
    A body that was cut off raises it at every read: it never looks like the end of the body.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class _Receiver(io.RawIOBase):
    """The raw file under ``wsgi.input``: gives what ``receive`` gives, as it comes."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self.pending = memoryview(b"")
        self.receiving = True
        self._receive = receive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        if not self.pending:
            if not self.receiving:
                return None
            self.pending = memoryview(self._receive())
        octets = min(len(buffer), len(self.pending))
        buffer[:octets] = self.pending[:octets]
        self.pending = self.pending[octets:]
        return octets


class BodyFile(io.BufferedReader):
    """A binary file of the body that ``receive`` delivers.

    ``receive`` blocks until there is content and returns it, b"" at the end of the body and ever
    after; it raises an OSError if the body cannot be completed. io.BufferedReader does the rest
    (read, read1, readinto, readline with a size, readlines, iteration), at C speed; it asks for
    more only when what is there does not satisfy the read.
    """

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receiver = _Receiver(receive)
        super().__init__(self._receiver, _BUFFER)

    def take_back(self) -> bytes:
        """What was received and not read yet: it is not in the file any more."""
        if self.closed:
            return b""
        receiver = self._receiver
        receiver.receiving = False
        try:
            ahead = self.read(len(self.peek()))
        finally:
            receiver.receiving = True
        ahead += receiver.pending
        receiver.pending = memoryview(b"")
        return ahead
