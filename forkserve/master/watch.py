"""Which calls of the application have passed their deadline, and when to look again. Pure.

No call that begins after a look can be overdue before ``timeout`` has passed once more. So one look
in each ``timeout``, and one at each deadline that was seen, find all of them at their time: this is
not polling, and costs an idle server nothing to speak of.
"""

from collections.abc import Iterable, Mapping, Sequence

from forkserve.master.story import CallOverdue
from forkserve.ops.scoreboard import Call

_NEVER = float("inf")

GRACE = 0.5
"""Seconds in which a worker may see to an overdue call itself, which costs its other clients
nothing. It cannot if C code holds the interpreter."""


class CallWatch:
    """``next_look``: when ``look`` must be called at the latest."""

    def __init__(self) -> None:
        self.next_look = 0.0

    def look(
        self, calls: Mapping[int, Sequence[Call]], timeouts: Iterable[float | None], now: float
    ) -> list[CallOverdue]:
        """The overdue ones of ``calls`` (serial of the worker -> its running calls), one a worker.

        ``timeouts`` are those of the generations in use.
        """
        shortest = min((limit for limit in timeouts if limit is not None), default=_NEVER)
        self.next_look = now + shortest
        overdue = []
        for serial, running in calls.items():
            for call in sorted(running, key=lambda call: call.deadline):
                if call.deadline + GRACE <= now:
                    overdue.append(CallOverdue(serial, now - call.start, call.request))
                    break
                self.next_look = min(self.next_look, call.deadline + GRACE)
        return overdue

    def settings_changed(self) -> None:
        """A ``timeout`` may be shorter than any before."""
        self.next_look = 0.0

    def forgive(self, timeouts: Iterable[float | None], seconds: float, now: float) -> None:
        """Nobody looked, because the master did not run: let one round of deadlines pass."""
        round_ = min((limit for limit in timeouts if limit is not None), default=_NEVER)
        self.next_look = now + min(seconds, round_)
