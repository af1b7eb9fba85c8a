"""Which workers are used up, and are to be succeeded: by requests, by age, by memory. Pure.

Requests are counted by the worker, which alone knows them. Age is a deadline like any other. Memory
is read by the master, and not by the worker: one that is in a long call, or in C code, could not
look at itself; and in one that has no requests nothing grows, so there nobody looks.

What has to be done is the same for all three, and the supervisor's.
"""

from dataclasses import dataclass, field

from forkserve.master import wording
from forkserve.master.roster import Phase, Worker
from forkserve.master.story import Log, Plan

# Workers that began together end up to a tenth of their lifetime apart. Steps of the golden ratio
# share out an interval evenly, however many there are, which chance does not.
_SPREAD = 0.1
_GOLDEN = 0.618033988749895

# A worker that is above `max_rss` so soon after it was ready was born so, or is after its first
# request, and its successor will be too. They are replaced with pauses: a second, doubled each
# time, up to a minute; and at once if they grow by half, because they may leak as well.
_FRESH = 2.0
_GROWN = 1.5
_NEVER = float("inf")
_FIRST_PATIENCE = 1.0
_LONGEST_PATIENCE = 60.0


@dataclass(slots=True)
class Wear:
    """Notes in a worker's ``due_at`` and ``why`` when and why it is to be succeeded.

    ``paused``: a reload stands refused, and a successor would be of the code that was refused
    """

    paused: bool = False

    _patience: dict[int, float] = field(default_factory=dict)  # by slot
    _told: bool = False

    def ready(self, worker: Worker, plan: Plan, now: float) -> None:
        """The worker begins to serve."""
        if plan.max_lifetime is not None:
            share = _SPREAD * (worker.serial * _GOLDEN % 1.0)
            self._note(worker, now + plan.max_lifetime * (1.0 - share), wording.OLD, "max_lifetime")

    def counted(self, worker: Worker, requests: int, now: float) -> None:
        """The worker has served as many requests as it may."""
        self._note(worker, now, wording.used_up(requests), "max_requests")

    def stuck(self, worker: Worker, request: str, now: float) -> None:
        """A call holds one of the worker's threads for ever."""
        worker.stuck = True
        self._note(worker, now, wording.stuck(request), "timeout")

    def asked(self, worker: Worker | None, now: float) -> None:
        """An operator wants it to be replaced, if it is still there."""
        if worker is not None and worker.phase is Phase.SERVING:
            self._note(worker, now, wording.ASKED, "retired")

    def weighed(self, worker: Worker, octets: int, plan: Plan, now: float) -> Log | None:
        """The worker holds ``octets`` of memory. What is to be said about that, if anything."""
        if plan.max_rss is None or octets <= plan.max_rss:
            return None
        if worker.heavy:
            if octets >= _GROWN * worker.heavy:
                self._note(worker, now, wording.heavy(octets, plan.max_rss), "max_rss")
            return None
        worker.heavy = octets
        patience = self._patience.pop(worker.slot, 0.0)
        when = max(now, worker.ready_at + patience)
        self._note(worker, when, wording.heavy(octets, plan.max_rss), "max_rss")
        if now - worker.ready_at >= _FRESH:
            return None
        longer = min(max(2.0 * patience, _FIRST_PATIENCE), _LONGEST_PATIENCE)
        self._patience[worker.slot] = longer
        if self._told:
            return None
        self._told = True
        return Log("warning", wording.born_heavy(worker, octets, plan.max_rss))

    def due_at(self, worker: Worker) -> float:
        """When it is to be succeeded. What a stuck call has left of it is no better than a failed
        boot, so that one does not wait."""
        return _NEVER if self.paused and not worker.stuck else worker.due_at

    def forget(self) -> None:
        """A new generation is in force: it may be lighter."""
        self.paused = False
        self._patience.clear()
        self._told = False

    def _note(self, worker: Worker, when: float, why: str, cause: str) -> None:
        if when < worker.due_at:
            worker.due_at, worker.why, worker.cause = when, why, cause
