"""What the server shows of itself to the outside: the status process, what it says between a TERM
and the stop, and how many workers StatsD hears of.

It decides nothing about workers. Used by the master's only thread; nothing here blocks.
"""

import signal
from collections.abc import Callable

from forkserve.master.attendance import Attendance
from forkserve.master.drain import Drain
from forkserve.master.generation import Generation
from forkserve.master.generations import Generations
from forkserve.master.roster import Phase
from forkserve.master.story import Action
from forkserve.master.succession import Succession
from forkserve.master.supervisor import Supervisor
from forkserve.proc.channel import Channel

_LOOK_EVERY = 1.0  # seconds between two looks at the listen queues
_NEVER = float("inf")
_MORE = 15.0  # seconds beyond `drain_delay` that systemd is asked for, until the stop asks itself


class Presence:
    """``attendance``: the status process."""

    def __init__(
        self,
        supervisor: Supervisor,
        generations: Generations,
        succession: Succession,
        fork: Callable[[Generation], tuple[int, Channel]],
        await_words: Callable[[Channel], None],
        perform: Callable[[Action], None],
    ) -> None:
        """``fork``, ``await_words``: see ``Attendance``."""
        self._supervisor = supervisor
        self._generations = generations
        self._succession = succession
        self._perform = perform
        self._drain = Drain()
        self._look_at = 0.0
        self.attendance = Attendance(fork, await_words, perform)

    @property
    def due(self) -> float:
        """When ``look`` must be called at the latest."""
        return min(self.attendance.due, self._drain.until, self._look_at)

    @property
    def is_draining(self) -> bool:
        """It is about to stop, and goes on as before."""
        return self._drain.is_under_way

    def look(self, now: float) -> None:
        """See to the time, and to what the status process says."""
        if self._drain.is_over(now):
            self._succession.take_signal(signal.SIGTERM)
        current = self._generations.current
        settings = current.settings
        asked = settings.status or settings.health_path or settings.metrics_path
        # The queues are looked at whenever this process wakes, and so it wakes.
        self._look_at = now + _LOOK_EVERY if asked else _NEVER
        speaks = self._succession.speaks
        self.attendance.look(current, now, speaks=speaks)
        if speaks and current.statsd is not None:
            current.statsd.workers(len(self._supervisor.roster.in_phase(Phase.SERVING)))

    def take_signal(self, number: signal.Signals, now: float) -> None:
        """A signal came: it counts now, or is held back for `drain_delay`."""
        delay = self._generations.current.settings.drain_delay
        if self._succession.progress.alive or not self._succession.in_charge:
            delay = None  # it is for both masters, and later there may be only the other one
        held = self._drain.holds(number, delay, self._supervisor.life, now)
        if held is None:
            self._succession.take_signal(number)
            return
        self._perform(held)
        if number == signal.SIGTERM:
            more = f"EXTEND_TIMEOUT_USEC={int((self._drain.until - now + _MORE) * 1e6)}"
            self._succession.notifier.notify("STOPPING=1", "STATUS=draining", more)

    def forgive(self, seconds: float) -> None:
        """This process did not run for so long."""
        self.attendance.forgive(seconds)
        self._drain.forgive(seconds)

    def holds(self, now: float) -> bool:
        """The workers are gone, and the status process goes last: whether it is still there."""
        return self.attendance.holds(self._supervisor.life, now)
