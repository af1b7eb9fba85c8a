"""``wsgi.file_wrapper`` (PEP 3333, "Optional Platform-Specific File Handling").

What it wraps can be any object with a ``read``. Only if that is an ordinary file, and nothing that
cuts or changes what is in it, may the server send the file instead of what ``read`` returns.
"""

import io
import os
import stat
from typing import Protocol

_BUFFERED = (io.BufferedReader, io.BufferedRandom)


class Readable(Protocol):
    """A file, as far as the wrapper needs one: ``close`` is optional."""

    def read(self, size: int, /) -> bytes: ...


class Region:
    """A part of a regular file: ``length`` octets from ``offset`` on, which are still to be sent.

    ``fd`` is a descriptor of its own: the application may close the file before all is sent, and
    the number could then be that of another file. Who takes the region closes the descriptor and
    then ``wrapper``.
    """

    __slots__ = ("copied", "fd", "length", "offset", "wrapper")

    def __init__(self, wrapper: "FileWrapper", fd: int, offset: int, length: int) -> None:
        self.wrapper = wrapper
        self.fd = fd
        self.offset = offset
        self.length = length
        self.copied = False  # the kernel cannot send it by itself


class FileWrapper:
    """An iterable over the blocks of a file, from where the file stands to its end."""

    def __init__(self, file: Readable, block_size: int = 65536) -> None:
        self._file = file
        self._block_size = block_size
        close = getattr(file, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> "FileWrapper":
        return self

    def __next__(self) -> bytes:
        block = self._file.read(self._block_size)
        if not block:
            raise StopIteration
        return block

    def region(self) -> Region | None:
        """What iterating would give, as a region. None if that is not sure to be the same."""
        try:
            file = _plain(self._file)
            if file is None or not file.readable():
                return None
            if isinstance(file, io.BufferedRandom):
                file.flush()
            offset = file.tell()  # of a buffered file less than where its descriptor stands
            status = os.fstat(file.fileno())
            # Without blocks: what the kernel makes up (procfs, sysfs), of which the size says
            # nothing; or all holes.
            if not stat.S_ISREG(status.st_mode) or status.st_size <= offset or not status.st_blocks:
                return None
            return Region(self, os.dup(file.fileno()), offset, status.st_size - offset)
        except (OSError, ValueError):
            return None  # closed, detached, without a position, no descriptor to be had


def _plain(file: object) -> io.FileIO | io.BufferedReader | io.BufferedRandom | None:
    """The file of Python's own, exactly, that ``file`` is or that a tempfile stands for. A subclass
    may read something else, and so may an object that was given another ``read``."""
    kind = type(file)
    if kind.__name__ == "_TemporaryFileWrapper" and kind.__module__ == "tempfile":
        file = vars(file)["file"]
        kind = type(file)
    if kind in _BUFFERED:
        plain = type(file.raw) is io.FileIO  # type: ignore[attr-defined]
    else:
        plain = kind is io.FileIO
    return file if plain and "read" not in vars(file) else None  # type: ignore[return-value]
