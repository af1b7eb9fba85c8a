"""The lead of a worker: the right to run its loop. One thread holds it.

A call of the application offers the lead to others for as long as it lasts, and then withdraws the
offer. In between another thread may have taken it; then the thread that called has nothing to do
with the loop any more, nor with any connection, and ``Lost`` takes it out of the loop where it
stands.

The offer is an item in a deque, which only one thread can pop. A call that nobody interrupts pays
for one ``append`` and one ``pop``: a lock costs several times as much, and nobody is to wait here.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from forkserve.ops.scoreboard import Cell
from forkserve.worker.state import State

LONG = 0.002
"""Seconds after which a call is long, and another thread takes the lead. Shorter, and calls of a
usual length cost two switches of threads; longer, and others wait."""

ALONE = 0.008
"""The same while no other thread and no sibling is free to call the application: then all that is
gained is that the others are read and told of errors meanwhile, and the switches cost throughput:
with LONG here, ``make soak SOAK=sharing-4`` comes to 0.87 of the ideal (2026-11-29), not 0.92."""

BRIEF = LONG / 4
"""Seconds after which a call is not brief. Who comes behind brief ones is called where it is read:
with some hundreds of busy connections, to queue up shows in the throughput of small requests."""

_OF_LATE = 4
"""Behind two calls in so many that are not brief, others queue up, so that siblings can have them.
One alone may only have been without a processor for a while."""

CALM = 0.025
"""Seconds between two looks at the call while none has been long for LATELY. To look, a thread
takes the interpreter from that which leads, and as often as ALONE says that shows in the throughput
of small requests. The first long call after a calm is noticed so much later."""

LATELY = 10.0  # seconds

_PUNCTUAL = 1.0
"""Seconds. Who comes so much later than the deadline of a call was stopped, with all threads."""

_NEVER = float("inf")

_HASTE = 8  # turns for which a long call is held against the application


class InCall(Protocol):
    """What a call is made for: a connection, or the closing of a file. Where the call outlasts its
    lead, the loop watches its deadline; ``wake_at`` is for ``Deadlines``."""

    cell: Cell
    state: State
    deadline: float
    wake_at: float

    def count(self) -> None:
        """Count it among those of its state, if it is counted."""

    def expire(self, now: float) -> None:
        """The deadline has passed."""

    def returned(self) -> None:
        """The call is over, in a thread that did not lead any more. For the loop."""


class Lost(BaseException):
    """Another thread took the lead during a call. (No Exception: nobody in between is to catch it.)

    ``call``: what goes back to the loop, by its ``returned``; None if the loop has it already.
    """

    def __init__(self, call: InCall | None) -> None:
        super().__init__()
        self.call = call


class Lead:
    """Shared by the threads of a worker.

    ``offer``     has one item while the thread that leads is in a call: who pops it, leads. It is
                  that of one tenure: who takes the lead leaves it empty for ever, and puts a new
                  one in its place
    ``awaited``   ``rouse`` is to be called when a call begins
    ``cell``      of the thread that leads, on the scoreboard
    ``in_call``   that whose call it is in, or was in last; not one in which the lead was lost
    ``calls``     the thread that leads may call the application
    ``inline_from``  it does so at once for a request that comes from then on; one that comes before
                  waits for its turn
    ``turns``     odd while the loop waits for events, even while it works
    ``haste``     while it is not 0, recent calls were long: the lead is taken at once
    ``alert``     nobody watches: ``rouse`` is to be called when a turn begins
    ``wake``      ends the loop's wait for events
    ``returned``  those whose call was over in a thread that did not lead any more
    """

    __slots__ = (
        "_not_brief",
        "alert",
        "awaited",
        "calls",
        "cell",
        "haste",
        "in_call",
        "inline_from",
        "offer",
        "returned",
        "rouse",
        "turns",
        "wake",
    )

    def __init__(self, cell: Cell) -> None:
        """Held by the thread that makes it, for which ``cell`` is."""
        self.offer: deque[None] = deque()
        self.awaited = False
        self.cell = cell
        self.set_calls(True)
        self.in_call: InCall | None = None
        self.turns = 0
        self.haste = 0
        self._not_brief = -_OF_LATE
        self.alert = False
        self.rouse: Callable[[], None] = _nobody
        self.wake: Callable[[], None] = _nobody
        self.returned: deque[InCall] = deque()

    def set_calls(self, calls: bool) -> None:
        """Whether the thread that leads now may call the application."""
        self.calls = calls
        self.inline_from = 0.0 if calls else _NEVER

    def take(self) -> bool:
        """Take the lead, if the thread that has it is in a call. For one that does not lead."""
        try:
            self.offer.pop()
        except IndexError:
            return False
        self.offer = deque()
        return True

    def call_lasts(self, now: float) -> float:
        """Seconds that the call under way has lasted; 0.0 if there is none. For any thread."""
        cell = self.cell  # that of another is there at any moment
        return now - cell.start if cell.deadline else 0.0

    def note(self, number: int, until: float) -> None:
        """A call was not brief; ``number`` requests have begun by now. If such calls are usual, who
        comes before ``until`` queues up."""
        if number - self._not_brief < _OF_LATE:
            self.inline_from = max(self.inline_from, until)
        self._not_brief = number

    def judge(self, seconds: float) -> None:
        """The lead was lost in a call that took so long."""
        self.haste = _HASTE if seconds >= LONG else max(0, self.haste - 1)


def overdue(cell: Cell, now: float) -> bool:
    """The deadline of a call seems to have passed. It has not if the call has moved it on, or is
    over just now; nor if nobody in this process did anything meanwhile: then it gets another."""
    deadline = cell.deadline
    if deadline and now - deadline > _PUNCTUAL:
        cell.extend(now)
        return False
    return 0.0 < deadline <= now


def _nobody() -> None:
    """There is no other thread."""
