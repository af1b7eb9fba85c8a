"""What each worker is doing, in memory that the master and the workers share.

An anonymous mapping, made before the first fork. A row belongs to one worker, and each of its cells
to one of its application threads, which alone writes it; there is no lock, no file and no system
call. The master gives out the rows: not one a slot, because in a reload two workers of one slot
live side by side.
"""

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple

from forkserve.settings.kinds import MOST_THREADS

_REQUEST_OCTETS = 240  # a cell is then of 256, four cache lines that no other thread writes
# Start, request line, deadline. The deadline, 0.0 between two calls, is written last; its store is
# aligned, and so is in one piece.
_CELL = struct.Struct(f"@d{_REQUEST_OCTETS}sd")
_DEADLINE = struct.Struct("@d")
_DEADLINE_AT = 8 + _REQUEST_OCTETS


class Cell:
    """What one application thread says about itself. Times are seconds of the monotonic clock.

    ``limit``: of the running call, from each sign of progress to the next. Not shared.
    """

    __slots__ = ("_memory", "_offset", "limit")

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._memory = memory
        self._offset = offset
        self.limit = 0.0

    def begin(self, limit: float, start: float, request: str) -> None:
        """The thread calls the application for ``request``, a request line (latin-1)."""
        self.limit = limit
        _CELL.pack_into(self._memory, self._offset, start, request.encode("latin-1"), start + limit)

    def extend(self, now: float) -> None:
        """The running call makes progress: a block was sent, or some of the body received."""
        _DEADLINE.pack_into(self._memory, self._offset + _DEADLINE_AT, now + self.limit)

    def end(self) -> None:
        """The call is over."""
        _DEADLINE.pack_into(self._memory, self._offset + _DEADLINE_AT, 0.0)

    @property
    def deadline(self) -> float:
        """That of the running call, 0.0 if there is none."""
        value: float = _DEADLINE.unpack_from(self._memory, self._offset + _DEADLINE_AT)[0]
        return value

    def read(self) -> "Call | None":
        """The running call, None if there is none.

        The deadline is read before the rest and after it: a call that begins in between would
        otherwise be shown with the deadline of the one before.
        """
        while True:
            before = self.deadline
            start, octets, after = _CELL.unpack_from(self._memory, self._offset)
            if before == after:
                break
        if not after:
            return None
        return Call(start, octets.rstrip(b"\0").decode("latin-1"), after)


class Call(NamedTuple):
    """A running call: when it began, its request line (cut), and when it must be over."""

    start: float
    request: str
    deadline: float  # inf if it has no limit


class Scoreboard:
    """The rows of all workers that can be alive at once.

    In front of the cells stands for each row an octet that says of how many threads its worker is,
    and behind those another that says whether it serves: those of many rows are searched at once.
    """

    def __init__(self, rows: int) -> None:
        # Pages that nobody touches take no memory.
        self._memory = mmap.mmap(-1, (2 + MOST_THREADS * _CELL.size) * rows)
        self._rows = rows

    def row(self, index: int) -> "Row":
        """The row ``index``, as its last owner left it."""
        if not 0 <= index < self._rows:
            raise IndexError(f"the scoreboard has {self._rows} rows, not a row {index}")
        return Row(self, index)

    def take(self, index: int, threads: int) -> None:
        """The row has a new owner, of so many threads, which does not serve yet."""
        self._memory[self._rows + index] = 0
        self._memory[index] = threads
        for cell in self.cells(index):
            cell.end()

    def set_serving(self, index: int, serving: bool) -> None:
        """Whether the worker takes what others hand off."""
        self._memory[self._rows + index] = serving

    def cells(self, index: int) -> list[Cell]:
        """Of each thread of a worker."""
        first = 2 * self._rows + index * MOST_THREADS * _CELL.size
        return [
            Cell(self._memory, first + thread * _CELL.size) for thread in range(self._memory[index])
        ]

    def serving(self) -> Iterator[int]:
        """The rows of the workers that serve."""
        octets = self._memory[self._rows : 2 * self._rows]
        index = octets.find(1)
        while index >= 0:
            yield index
            index = octets.find(1, index + 1)


class Row:
    """One worker."""

    __slots__ = ("_board", "_index")

    def __init__(self, board: Scoreboard, index: int) -> None:
        self._board = board
        self._index = index

    def take(self, threads: int) -> None:
        """It is that of a new worker from now on. For the master."""
        self._board.take(self._index, threads)

    def cells(self) -> list[Cell]:
        """Of each thread."""
        return self._board.cells(self._index)

    def calls(self) -> list[Call]:
        """The running calls. For the master."""
        return [call for cell in self.cells() if (call := cell.read()) is not None]

    def set_serving(self, serving: bool) -> None:
        """Whether this worker takes what others hand off."""
        self._board.set_serving(self._index, serving)

    def has_siblings(self) -> bool:
        """Whether any other worker serves."""
        return any(index != self._index for index in self._board.serving())

    def idle_siblings(self) -> int:
        """How many other workers serve, and have a thread that is in no call."""
        board = self._board
        return sum(
            any(not cell.deadline for cell in board.cells(index))
            for index in board.serving()
            if index != self._index
        )
