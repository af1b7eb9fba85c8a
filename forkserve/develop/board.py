"""The board: why the newest code does not serve, told by the master to all workers.

An anonymous mapping, made before the first fork. The master alone writes the notice; a worker that
reads while it writes sees that by the number, which is odd then, or another afterwards. One octet
is the workers': that some worker has loaded the application. Beside it is a pipe, in which
workers tell the watcher what it cannot know: modules from elsewhere.
"""

import mmap
import os
import select
import struct
from collections.abc import Iterable
from typing import NamedTuple

from forkserve.proc.channel import LARGEST

_NUMBER = struct.Struct("@Q")  # aligned, so that its store is in one piece
_LENGTH = struct.Struct("@Q")
_LOADED_AT = _NUMBER.size + _LENGTH.size
_TEXT_AT = _LOADED_AT + 8


class Notice(NamedTuple):
    """``number`` is that of no other notice."""

    number: int
    text: str


class Board:
    """Shared by the master, its template processes and its workers."""

    def __init__(self, first: int = 0) -> None:
        """``first``: where the numbers begin. Those of two servers should not be the same, since a
        browser may remember one."""
        self._memory = mmap.mmap(-1, _TEXT_AT + LARGEST)
        self.told, self._telling = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _NUMBER.pack_into(self._memory, 0, 2 * first)

    def close(self) -> None:
        """Nobody tells anything any more. For a process that goes on without it."""
        os.close(self.told)
        os.close(self._telling)

    def post(self, text: str) -> None:
        """Put up a notice; "" takes it down. For the master."""
        octets = text.encode("utf-8", "replace")[:LARGEST]
        number = _NUMBER.unpack_from(self._memory)[0]
        _NUMBER.pack_into(self._memory, 0, number + 1)
        _LENGTH.pack_into(self._memory, _NUMBER.size, len(octets))
        self._memory[_TEXT_AT : _TEXT_AT + len(octets)] = octets
        _NUMBER.pack_into(self._memory, 0, number + 2)

    def read(self) -> Notice | None:
        """The notice that is up, if there is one."""
        while True:
            before = _NUMBER.unpack_from(self._memory)[0]
            length = _LENGTH.unpack_from(self._memory, _NUMBER.size)[0]
            octets = self._memory[_TEXT_AT : _TEXT_AT + length]
            if before % 2 == 0 and before == _NUMBER.unpack_from(self._memory)[0]:
                break
        return Notice(before // 2, octets.decode("utf-8", "replace")) if length else None

    @property
    def loaded(self) -> bool:
        """Whether any worker has ever loaded the application."""
        return self._memory[_LOADED_AT] == 1

    def note_loaded(self) -> None:
        """This worker has. Whoever comes second writes the same."""
        self._memory[_LOADED_AT] = 1

    def tell(self, paths: Iterable[str]) -> None:
        """Have these files watched. What finds no room in the pipe is not."""
        for path in paths:
            line = os.fsencode(path) + b"\n"
            if len(line) <= select.PIPE_BUF and line.count(b"\n") == 1:
                try:
                    os.write(self._telling, line)
                except OSError:
                    return
