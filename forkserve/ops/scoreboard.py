"""What each worker is doing, in memory that the master and the workers share.

An anonymous mapping, made before the first fork. A row belongs to one process, which alone writes
it; there is no lock, no file and no system call. The master gives out the rows: not one a slot,
because in a reload two workers of one slot live side by side.
"""

import mmap
import struct

_REQUEST_OCTETS = 240
# Start, request line, deadline. The deadline is written last, so that the deadline of a call never
# stands beside the request of another; its own store is aligned, and so is in one piece.
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

    @property
    def deadline(self) -> float:
        """When the running call must be over; 0.0 if none is running, inf if it has no limit."""
        deadline: float = _DEADLINE.unpack_from(self._memory, self._offset + _DEADLINE_AT)[0]
        return deadline

    @property
    def running(self) -> tuple[float, str] | None:
        """(start, request line, cut) of the running call."""
        start, octets, deadline = _ROW.unpack_from(self._memory, self._offset)
        if not deadline:
            return None
        return start, octets.rstrip(b"\0").decode("latin-1")


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
