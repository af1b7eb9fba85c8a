"""Why a reload begins, and how one is called off: what the supervisor has in hand while one is
under way. Pure, like all of the supervisor.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from forkserve.errors import EXIT_FAILED
from forkserve.master import story
from forkserve.master.orders import Orders
from forkserve.master.roster import Phase, Worker
from forkserve.master.story import Life, Plan, Reload

_NEVER = float("inf")

# An application that writes code when it is loaded would overtake each canary of its own, if it
# were given no time at all.
_PATIENCE = 1.0


@dataclass(slots=True)
class Changes(Orders):
    """``_cause``: what the log names as the reason for the reload, a signal or a saved file."""

    generation: int = 1
    life: Life = Life.STARTING
    reload: Reload = Reload.NONE
    _next_plan: Plan | None = None  # of generation + 1, in CANARY
    _hup_pending: bool = False
    _cause: str = "HUP"
    _explained: bool = False  # before any code was loaded
    _overtaken_at: float = _NEVER  # when a canary is given up, of what has changed meanwhile

    def _on_change(self, what: str, now: float) -> None:
        """Files have changed: have them loaded.

        A canary of what stood there before is not waited for, if it takes long: it may hang, and
        this be the repair.
        """
        if self.life.ends:
            return
        self._hup_pending, self._cause = True, what
        if self.reload is Reload.CANARY and self._next_plan is not None:
            for worker in self._canaries():
                began = (worker.deadline or now) - self._next_plan.boot_timeout
                self._overtaken_at = min(self._overtaken_at, began + _PATIENCE)

    def _canaries(self) -> list[Worker]:
        booting = self.roster.in_phase(Phase.BOOTING)
        return [worker for worker in booting if worker.generation > self.generation]

    def _deadline_of_overtaken(self) -> Iterator[float]:
        if self.reload is Reload.CANARY and self._overtaken_at < _NEVER:
            yield self._overtaken_at

    def _give_up_overtaken(self, now: float) -> None:
        """If a canary has taken too long, and there is something newer."""
        if self.reload is Reload.CANARY and self._overtaken_at <= now:
            for worker in self._canaries():
                worker.phase = Phase.ABORTING
                self._kill(worker)
            self._call_off()

    def _can_wait_for_repair(self, reason: str, status: int) -> bool:
        """The first workers have ended while they loaded the application: whether others can take
        their place that do not load it, and answer with the reason."""
        if not self.plan.watched or status == EXIT_FAILED or self._explained:
            return False
        self._explained = True
        self._do(story.Explain(reason))
        return True

    def _call_off(self) -> None:
        """The next generation will not be. What is being rolled out goes on."""
        rolling = any(
            worker.generation < self.generation and not worker.leaving for worker in self.roster
        )
        self.reload = Reload.ROLLING if rolling else Reload.NONE
        self._next_plan = None
        self._overtaken_at = _NEVER
        self._do(story.Discard(self.generation + 1))
