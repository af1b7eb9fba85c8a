"""Which workers do not answer any more: stopped, or held by something that is no call. Pure.

A call that is stuck is seen on the scoreboard (``watch``). What hangs beside it is not: C code that
holds the interpreter in a thread of the application's own, a disk that is gone, SIGSTOP. So each
worker is asked whether it is there, and is to answer within `timeout`. It is asked no more often
than that, so an idle server hardly wakes; without a `timeout` it is not asked.
"""

from collections.abc import Callable, Mapping, Sequence

from forkserve.master.story import CallOverdue
from forkserve.ops.scoreboard import Call

GRACE = 1.0
"""Seconds beyond `timeout`: a call that is stuck is told as such, and earlier."""

_NEVER = float("inf")


class Pulse:
    """``due``: when ``look`` must be called at the latest."""

    def __init__(self, ask: Callable[[int], None]) -> None:
        """``ask``: whether the worker with this serial is there."""
        self._ask = ask
        self.due = 0.0
        self._asked: dict[int, float] = {}  # by serial: when, if it has not answered

    def look(
        self, calls: Mapping[int, Sequence[Call]], timeout: float | None, now: float
    ) -> list[CallOverdue]:
        """Ask those that have answered before. Returns who has not answered in time.

        ``calls``: those that run (a call has a deadline of its own), by serial of those that serve.
        """
        if timeout is None:
            self._asked.clear()
            self.due = _NEVER
            return []
        before, patience = self._asked, timeout + GRACE
        # One that is in a call may not be able to answer (C code): its time begins behind that.
        self._asked = {
            serial: now if running else before.get(serial, now) for serial, running in calls.items()
        }
        self.due = now + patience
        for serial in calls:
            if serial not in before:
                self._ask(serial)
        return [
            CallOverdue(serial, now - when, "")
            for serial, when in self._asked.items()
            if now - when >= patience
        ]

    def heard(self, serial: int) -> None:
        """The worker has answered, or said something else."""
        self._asked.pop(serial, None)

    def settings_changed(self) -> None:
        """`timeout` may be another."""
        self.due = 0.0

    def forgive(self, seconds: float) -> None:
        """Nobody could hear an answer, because the master did not run."""
        self._asked = {serial: when + seconds for serial, when in self._asked.items()}
        self.due += seconds
