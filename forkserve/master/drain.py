"""`drain_delay`: between a TERM and the stop, the time in which load balancers notice. Pure.

It stands in front of whoever decides on signals, and holds the TERM back; meanwhile the server goes
on as before, and only says that it is not ready.
"""

import signal
from dataclasses import dataclass

from forkserve.master.story import Life, Log
from forkserve.proc.signals import ENDING

_NEVER = float("inf")

BEGUN = (
    "TERM: draining; /readyz says so, and the server goes on for {:g} s (`drain_delay`) before it "
    "stops. TERM again ends the wait"
)
IGNORED = "{}: ignored, because the server is about to stop"


@dataclass(slots=True)
class Drain:
    """``until``: when the TERM that is held back is due."""

    until: float = _NEVER

    @property
    def is_under_way(self) -> bool:
        return self.until < _NEVER

    def holds(
        self, number: signal.Signals, delay: float | None, life: Life, now: float
    ) -> Log | None:
        """What to say of a signal that goes no further; None: it is to be heard now."""
        if self.is_under_way:
            if number in ENDING:
                self.until = _NEVER
            elif number != signal.SIGUSR1:  # the logs go on too
                return Log("info", IGNORED.format(number.name.removeprefix("SIG")))
        elif number == signal.SIGTERM and delay and life is Life.UP:
            self.until = now + delay
            return Log("info", BEGUN.format(delay))
        return None

    def is_over(self, now: float) -> bool:
        """The TERM is to be heard now. True once."""
        if self.until > now:
            return False
        self.until = _NEVER
        return True

    def forgive(self, seconds: float) -> None:
        """This process did not run for so long."""
        self.until += seconds
