"""What each worker is doing and has done, in memory that the master and the workers share.

An anonymous mapping, made before the first fork. A row belongs to one worker: its tally to the
thread that leads, and each of its cells to one of its application threads, which alone write them;
there is no lock, no file and no system call. The master gives out the rows: not one a slot, because
in a reload two workers of one slot live side by side. What only the master knows stands beside
them, as one text.
"""

import mmap
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from forkserve.ops.tally import SIZE, Numbers, Tally
from forkserve.settings.kinds import MOST_THREADS

_REQUEST_OCTETS = 216  # a method, a target of 200 octets, and HTTP/1.1
_CLIENT_OCTETS = 48  # an address of IPv6 with its zone has 45 octets and more
# Start, request line, client, deadline; five cache lines that no other thread writes. The deadline,
# 0.0 between two calls, is written last; its store is aligned, and so is in one piece.
_CELL = struct.Struct(f"@d{_REQUEST_OCTETS}s{_CLIENT_OCTETS}sd")
_CELL_OCTETS = 320
_DEADLINE_AT = 8 + _REQUEST_OCTETS + _CLIENT_OCTETS
_USED = struct.Struct("=I")
_LINE = 64  # octets of a cache line: what is written often has one of its own

_TEXT_OCTETS = 1 << 20
_TEXT_HEAD = struct.Struct("@qq")  # how often it was written (odd: it is being written), its length
_TRIES = 100  # to read it


class Cell:
    """What one application thread says about itself. Times are seconds of the monotonic clock.

    ``limit``: of the running call, from each sign of progress to the next. Not shared.
    """

    __slots__ = ("_deadline", "_memory", "_offset", "_start", "limit")

    def __init__(self, memory: memoryview, offset: int) -> None:
        self._memory = memory
        self._offset = offset
        self._start = memory[offset : offset + 8].cast("d")
        at = offset + _DEADLINE_AT
        self._deadline = memory[at : at + 8].cast("d")
        self.limit = 0.0

    def begin(self, limit: float, start: float, request: str, client: str = "") -> None:
        """The thread calls the application for ``request``, a request line (latin-1)."""
        self.limit = limit
        _CELL.pack_into(
            self._memory,
            self._offset,
            start,
            request.encode("latin-1"),
            client.encode("latin-1", "replace"),
            start + limit,
        )

    def extend(self, now: float) -> None:
        """The running call makes progress: a block was sent, or some of the body received."""
        self._deadline[0] = now + self.limit

    def end(self) -> None:
        """The call is over."""
        self._deadline[0] = 0.0

    @property
    def start(self) -> float:
        """That of the running call, or of the last one."""
        return self._start[0]

    @property
    def deadline(self) -> float:
        """That of the running call, 0.0 if there is none."""
        return self._deadline[0]

    def read(self) -> "Call | None":
        """The running call, None if there is none.

        The deadline is read before the rest and after it: a call that begins in between would
        otherwise be shown with the deadline of the one before.
        """
        while True:
            before = self.deadline
            start, octets, client, after = _CELL.unpack_from(self._memory, self._offset)
            if before == after:
                break
        if not after:
            return None
        request, client = (text.rstrip(b"\0").decode("latin-1") for text in (octets, client))
        return Call(start, request, after, client)


class Call(NamedTuple):
    """A running call: when it began, its request line (cut), when it must be over, and whose."""

    start: float
    request: str
    deadline: float  # inf if it has no limit
    client: str = ""


class Scoreboard:
    """The rows of all workers that can be alive at once.

    First stands for each row an octet that says of how many threads its worker is, behind those
    another that says whether it serves, then how many rows have had an owner, and for each a line
    with an octet that says whether it is idle: those of many rows are searched at once. Then come
    the tallies, one more of them for all workers that are gone, the cells, and the master's text.
    """

    def __init__(self, rows: int, others_take: Callable[[], bool] = lambda: False) -> None:
        """``others_take``: whether workers that stand on no row of it take what is handed off."""
        self._rows = rows
        self.others_take = others_take
        self._used_at = 2 * rows
        self._idle_at = _whole_lines(self._used_at + _USED.size)
        tallies_at = self._idle_at + _LINE * rows
        self._cells_at = _whole_lines(tallies_at + SIZE * (rows + 1))
        self._text_at = self._cells_at + MOST_THREADS * _CELL_OCTETS * rows
        # Pages that nobody touches take no memory.
        self._memory = mmap.mmap(-1, self._text_at + _TEXT_HEAD.size + _TEXT_OCTETS)
        self._whole = memoryview(self._memory)
        self._tallies = self._whole[tallies_at : self._cells_at]

    def row(self, index: int) -> "Row":
        """The row ``index``, as its last owner left it."""
        if not 0 <= index < self._rows:
            raise IndexError(f"the scoreboard has {self._rows} rows, not a row {index}")
        return Row(self, index)

    @property
    def gone(self) -> Tally:
        """What the workers that are gone have counted."""
        return self.tally(self._rows)

    def tally(self, index: int) -> Tally:
        """That of a row."""
        return Tally(self._tallies[index * SIZE : (index + 1) * SIZE])

    def take(self, index: int, threads: int) -> None:
        """The row has a new owner, of so many threads, which does not serve yet; or, of none, no
        owner any more."""
        self.set_serving(index, False)
        self._memory[index] = threads
        _USED.pack_into(self._memory, self._used_at, max(self._used, index + 1))
        for cell in self.cells(index):
            cell.end()

    def set_serving(self, index: int, serving: bool) -> None:
        """Whether the worker takes what others hand off. It has yet to say that it is idle, or
        says so no more."""
        self._memory[self._rows + index] = serving
        self.idle_mark(index)[0] = 0

    def idle_mark(self, index: int) -> memoryview:
        """One octet, 1 while the worker is idle."""
        at = self._idle_at + index * _LINE
        return self._whole[at : at + 1]

    def idle(self) -> bytes:
        """The idle marks of the rows that have had an owner: few, for the lowest are given out."""
        return self._memory[self._idle_at : self._idle_at + _LINE * self._used : _LINE]

    @property
    def _used(self) -> int:
        used: int = _USED.unpack_from(self._memory, self._used_at)[0]
        return used

    def cells(self, index: int) -> list[Cell]:
        """Of each thread of a worker."""
        first, threads = self._first_cell(index), self._memory[index]
        return [Cell(self._whole, first + thread * _CELL_OCTETS) for thread in range(threads)]

    def _first_cell(self, index: int) -> int:
        return self._cells_at + index * MOST_THREADS * _CELL_OCTETS

    def serving(self) -> Iterator[int]:
        """The rows of the workers that serve."""
        octets = self._memory[self._rows : 2 * self._rows]
        index = octets.find(1)
        while index >= 0:
            yield index
            index = octets.find(1, index + 1)

    # ---- the master's text

    def write(self, text: bytes, *, ended: Iterable[int] = ()) -> None:
        """Put ``text`` in the place of the one before. For the master.

        ``ended``: rows whose workers are gone; what they have counted goes where those of all such
        workers stands, in the same moment for everybody who reads. Raises ValueError if the text is
        too long.
        """
        if len(text) > _TEXT_OCTETS:
            raise ValueError(f"{len(text)} octets of text, and the scoreboard has {_TEXT_OCTETS}")
        count, _ = _TEXT_HEAD.unpack_from(self._memory, self._text_at)
        _TEXT_HEAD.pack_into(self._memory, self._text_at, count + 1, len(text))
        start = self._text_at + _TEXT_HEAD.size
        self._memory[start : start + len(text)] = text
        for index in ended:
            self.tally(index).fold_into(self.gone)
        _TEXT_HEAD.pack_into(self._memory, self._text_at, count + 2, len(text))

    def read(self, rows: Callable[[bytes], Iterable[int]]) -> tuple[bytes, list[Numbers]]:
        """The master's text, the numbers of ``rows(text)``, and last those of the workers that are
        gone, all as of one moment for the master.

        It writes for some microseconds, so it is tried again a few times; a reader that meets it
        each time, or a master that died meanwhile, gets what is there.
        """
        for _ in range(_TRIES):
            before, length = _TEXT_HEAD.unpack_from(self._memory, self._text_at)
            start = self._text_at + _TEXT_HEAD.size
            text = self._memory[start : start + length]
            try:
                tallies = [self.tally(index) for index in rows(text)]
            except ValueError:
                continue  # it is half written
            numbers = [tally.read() for tally in (*tallies, self.gone)]
            if before % 2 == 0 and before == _TEXT_HEAD.unpack_from(self._memory, self._text_at)[0]:
                return text, numbers
        return b"", [self.gone.read()]


class Row:
    """One worker."""

    __slots__ = ("_board", "_index")

    def __init__(self, board: Scoreboard, index: int) -> None:
        self._board = board
        self._index = index

    def take(self, threads: int) -> None:
        """It is that of a new worker from now on. For the master."""
        self._board.take(self._index, threads)

    @property
    def board(self) -> Scoreboard:
        """On which it stands."""
        return self._board

    @property
    def index(self) -> int:
        """Of the row."""
        return self._index

    def tally(self) -> Tally:
        """What the worker counts."""
        return self._board.tally(self._index)

    def cells(self) -> list[Cell]:
        """Of each thread."""
        return self._board.cells(self._index)

    def calls(self) -> list[Call]:
        """The running calls. For the master."""
        return [call for cell in self.cells() if (call := cell.read()) is not None]

    def is_busy(self) -> bool:
        """Whether the worker could begin no call now."""
        return all(cell.deadline for cell in self.cells())

    def set_serving(self, serving: bool) -> None:
        """Whether this worker takes what others hand off. Its idle mark is 0 then, and after a
        False it has to stay so."""
        self._board.set_serving(self._index, serving)

    def has_siblings(self) -> bool:
        """Whether any other worker takes what this one hands off."""
        ours = any(index != self._index for index in self._board.serving())
        return ours or self._board.others_take()

    def idle_mark(self) -> memoryview:
        """One octet: 1 while this worker waits for something to do, and could call the application.
        (One that only is in no call may just be between two.)"""
        return self._board.idle_mark(self._index)

    def idle_siblings(self) -> int:
        """How many other workers are idle."""
        idle = self._board.idle()
        return idle.count(1) - idle[self._index]


def _whole_lines(octets: int) -> int:
    """Where the next line begins."""
    return (octets + _LINE - 1) // _LINE * _LINE
