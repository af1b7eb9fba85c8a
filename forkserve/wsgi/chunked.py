"""uWSGI's chunked input API on any source: one call, one chunk, as the client framed it.

What is uWSGI's: the values returned, OSError for whatever goes wrong, a time limit for each wait
and not for all of them. What is not: sizes are read strictly, trailers are taken away, and a client
that is gone is an error for ``chunked_read_nb`` too.
"""

import sys
from abc import ABC, abstractmethod
from types import ModuleType

import forkserve

_EVER = float("inf")


class ChunkReader(ABC):
    """The two functions for the application, above what a source of chunks does.

    A base class and not an object of its own between the two: there is one a request.

    ``chunk_timeout``  seconds, where the caller names none
    """

    __slots__ = ("chunk_timeout",)

    def __init__(self, chunk_timeout: float) -> None:
        self.chunk_timeout = chunk_timeout

    # ---- for the application

    def chunked_read(self, timeout: float | None = None, /) -> bytes:
        """The next chunk; b"" at the end of the body, and ever after. Raises OSError."""
        seconds = timeout or self.chunk_timeout
        while (chunk := self.next_chunk()) is None:
            self.receive_chunk(_EVER if seconds < 0 else seconds)
        return chunk

    def chunked_read_nb(self) -> bytes | None:
        """The next chunk, None if it is not there yet. Raises OSError."""
        while (chunk := self.next_chunk()) is None:
            if not self.receive_chunk(0):
                return None
        return chunk

    # ---- for the source to do

    @abstractmethod
    def next_chunk(self) -> bytes | None:
        """The next chunk if all of it is at hand, else None; b"" at the end of the body.

        Raises OSError.
        """

    @abstractmethod
    def receive_chunk(self, timeout: float) -> bool:
        """Receive some more of the body, within ``timeout`` seconds, which may be infinite; if that
        is 0, False says that there is nothing. Raises OSError."""


class _Empty(ChunkReader):
    """The body of a request that has none."""

    __slots__ = ()

    def next_chunk(self) -> bytes:
        return b""

    def receive_chunk(self, timeout: float) -> bool:
        return False


NO_CHUNKS = _Empty(0.0)


class ChunkSizes:
    """Where the chunks of a body end, in octets of content from its beginning.

    A client may send a million chunks of one octet, so each costs one here, or nine if it is long.
    """

    __slots__ = ("_base", "_end", "_next", "_sizes", "_start")

    def __init__(self) -> None:
        self.restart(0, 0)

    def __len__(self) -> int:
        """Octets that this takes."""
        return len(self._sizes)

    def restart(self, position: int, to_come: int) -> None:
        """Forget all. The chunk at ``position``, if it has begun, has so much to come."""
        self._sizes = bytearray()
        self._base = self._start = self._end = position
        self._next = 0  # index of the size of the chunk that begins at _end
        if to_come:
            self.extend([to_come])

    def extend(self, sizes: list[int]) -> None:
        """These chunks follow. None is empty."""
        try:
            self._sizes += bytes(sizes)
        except ValueError:
            for size in sizes:
                self._sizes += bytes((size,)) if size < 256 else b"\0" + size.to_bytes(8, "big")

    def end_of(self, position: int) -> int | None:
        """The end of the chunk that holds the octet at ``position``, None if that is not known."""
        if position < self._start:
            self._start = self._end = self._base
            self._next = 0
        while self._end <= position:
            at = self._next
            if at == len(self._sizes):
                return None
            size, self._next = self._sizes[at], at + 1
            if size == 0:
                size, self._next = int.from_bytes(self._sizes[at + 1 : at + 9], "big"), at + 9
            self._start, self._end = self._end, self._end + size
        return self._end

    def forget_passed(self) -> None:
        """Nothing before the position that was asked for last will be asked for again."""
        del self._sizes[: self._next]
        self._base = self._end
        self._next = 0


def install_uwsgi_module() -> None:
    """Make ``import uwsgi`` find a module with the two functions."""
    module = ModuleType("uwsgi", "What forkserve has of uWSGI's interface: its chunked input.")
    vars(module).update(
        chunked_read=forkserve.chunked_read, chunked_read_nb=forkserve.chunked_read_nb
    )
    sys.modules["uwsgi"] = module
