"""What the service manager is told from time to time: that there is progress, and that the service
is alive. Pure.

Progress: while the server starts, stops or reloads, systemd is asked for a little more time again
and again, so its own timeouts need not be as long as ours. It is asked as long as something
changes: another worker serves, or one fewer is left at the end. Without any change it is asked for
no longer than `boot_timeout`, or `graceful_timeout` in a stop; and not at all by a master that
hangs.

Alive (WATCHDOG=1, at half the interval): at least one worker serves, or none is wanted (WINCH). A
single slot that stays empty is no reason for systemd to kill the others and start anew: who serves
goes on serving, and the log tells of the slot. When nobody serves any more, nothing is said, and
systemd restarts the service after WatchdogSec.
"""

from collections.abc import Iterator

from forkserve.master.roster import Phase
from forkserve.master.story import Life, Plan, Reload
from forkserve.master.supervisor import Supervisor

_NEVER = float("inf")

_EVERY = 5.0  # seconds between two requests for more time
_MORE = 15.0  # seconds that are asked for each time


class LifeSigns:
    """``due``: when ``look`` must be called at the latest."""

    def __init__(self, watchdog: float | None) -> None:
        """``watchdog``: within so many seconds systemd wants to hear something, None if never."""
        self._interval = None if watchdog is None else watchdog / 2
        self._watchdog_at = 0.0
        self._extend_at = 0.0
        self._state: tuple[object, ...] = ()
        self._changed_at = 0.0
        self.due = 0.0

    def look(self, supervisor: Supervisor, now: float) -> Iterator[tuple[str, ...]]:
        """What is to be said now, if anything: assignments of sd_notify(3)."""
        self.due = _NEVER
        if _is_busy(supervisor):
            yield from self._ask_for_time(supervisor, now)
        if self._interval is not None and is_healthy(supervisor):
            if now >= self._watchdog_at:
                self._watchdog_at = now + self._interval
                yield ("WATCHDOG=1",)
            self.due = min(self.due, self._watchdog_at)

    def _ask_for_time(self, supervisor: Supervisor, now: float) -> Iterator[tuple[str, ...]]:
        state = _progress(supervisor)
        if state != self._state:
            self._state, self._changed_at = state, now
        if now - self._changed_at > _limit(supervisor.plan, supervisor.life):
            return
        if now >= self._extend_at:
            self._extend_at = now + _EVERY
            yield (f"EXTEND_TIMEOUT_USEC={int(_MORE * 1e6)}",)
        self.due = self._extend_at


def is_healthy(supervisor: Supervisor) -> bool:
    """Whether the service does what it is there for. (In a stop that is to come to its end.)"""
    if supervisor.life is not Life.UP:
        return supervisor.life.ends
    return supervisor.wanted == 0 or bool(supervisor.roster.in_phase(Phase.SERVING))


def _is_busy(supervisor: Supervisor) -> bool:
    """Whether systemd waits for something to be done."""
    return supervisor.life is not Life.UP or supervisor.reload is not Reload.NONE


def _progress(supervisor: Supervisor) -> tuple[object, ...]:
    """What changes when there is progress. Attempts that fail change nothing."""
    if supervisor.life.ends:
        return (supervisor.life, len(supervisor.roster.workers))
    serving = tuple(worker.serial for worker in supervisor.roster.in_phase(Phase.SERVING))
    return (supervisor.life, supervisor.reload, serving)


def _limit(plan: Plan, life: Life) -> float:
    return plan.graceful_timeout if life.ends else plan.boot_timeout
