"""What each worker is doing, in memory that the master and the workers share.

An anonymous mapping, made before the first fork. A row belongs to one process, which alone writes
it; there is no lock, no file and no system call. The master gives out the rows: not one a slot,
because in a reload two workers of one slot live side by side.
"""

import mmap
import struct
from typing import NamedTuple

_REQUEST_OCTETS = 240  # a row is then of 256, four cache lines that no other worker writes
# Start, request line, deadline. The deadline, 0.0 between two calls, is written last; its store is
# aligned, and so is in one piece.
_ROW = struct.Struct(f"@d{_REQUEST_OCTETS}sd")
_DEADLINE = struct.Struct("@d")
_DEADLINE_AT = 8 + _REQUEST_OCTETS


class Row:
    """What one worker says about itself. Times are seconds of the monotonic clock."""

    __slots__ = ("_memory", "_offset")

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._memory = memory
        self._offset = offset

    def begin(self, deadline: float, start: float, request: str) -> None:
        """The worker calls the application for ``request``, a request line (latin-1)."""
        _ROW.pack_into(self._memory, self._offset, start, request.encode("latin-1"), deadline)

    def extend(self, deadline: float) -> None:
        """The running call makes progress: a block was sent, or some of the body received."""
        _DEADLINE.pack_into(self._memory, self._offset + _DEADLINE_AT, deadline)

    def end(self) -> None:
        """The call is over."""
        _DEADLINE.pack_into(self._memory, self._offset + _DEADLINE_AT, 0.0)

    def read(self) -> "Call | None":
        """The running call, None if there is none. For the master.

        The deadline is read before the rest and after it: a call that begins in between would
        otherwise be shown with the deadline of the one before.
        """
        while True:
            before = _DEADLINE.unpack_from(self._memory, self._offset + _DEADLINE_AT)[0]
            start, octets, after = _ROW.unpack_from(self._memory, self._offset)
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
    """The rows of all workers that can be alive at once."""

    def __init__(self, rows: int) -> None:
        self._memory = mmap.mmap(-1, rows * _ROW.size)
        self._rows = rows

    def row(self, index: int) -> Row:
        """The row ``index``, as its last owner left it."""
        if not 0 <= index < self._rows:
            raise IndexError(f"the scoreboard has {self._rows} rows, not a row {index}")
        return Row(self._memory, index * _ROW.size)
