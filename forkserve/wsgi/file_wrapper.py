"""``wsgi.file_wrapper`` (PEP 3333, "Optional Platform-Specific File Handling")."""

from typing import Protocol


class Readable(Protocol):
    """A file, as far as the wrapper needs one: ``close`` is optional."""

    def read(self, size: int, /) -> bytes: ...


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
