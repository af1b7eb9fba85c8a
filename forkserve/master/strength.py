"""How many workers there should be: by the settings, by TTIN and TTOU, and by the load. Pure.

The load counts between ``least`` and ``most``. A look at the workers, ten times a second while they
have requests, finds how many run a call, and how many connections wait to be accepted.

    full     every worker runs a call, or a connection waits: the next request has to wait too
    needed   one worker less would have been full

When the looks of a second were full, but for one (a worker may be between two calls), half as many
workers are added, at least one, so that a burst is met soon. When the last worker was needed in
less than a tenth of ``scale_down_after``, one retires: a load that comes and goes boots nobody each
time.
"""

from collections import deque
from dataclasses import dataclass, field

from forkserve.master import wording
from forkserve.master.story import Log, Plan
from forkserve.settings.kinds import MOST_WORKERS

_LOOKS = 10  # of one second
_FULL = 9
_NEEDED = 0.1
_SCALE = "scale"  # the command; signals go by steps, and come to a bound
_GAP = 0.5  # seconds between two looks, past which nobody knows what was in between


@dataclass(slots=True)
class Strength:
    """``wanted``: the number of workers, between ``least`` and ``most``."""

    wanted: int = 0
    least: int = 0
    most: int = 0
    _plan: Plan | None = None
    _looked_at: float = 0.0
    _full: deque[bool] = field(default_factory=lambda: deque(maxlen=_LOOKS))
    _window_began: float = 0.0  # in which it is counted whether the last worker is needed
    _needed: float = 0.0  # seconds of it
    _told_of_memory: bool = False

    def adopt(self, plan: Plan, now: float) -> None:
        """A generation is in force. What the load has brought stays, as far as it allows."""
        self._plan = plan
        self.least, self.most = plan.workers, max(plan.workers, plan.most)
        self.wanted = min(max(self.wanted, self.least), self.most)
        self._told_of_memory = False
        self._begin_window(now)

    @property
    def follows_load(self) -> bool:
        return self.least < self.most

    # ---- by signal or command: both bounds and the number move as it does, until the next reload

    def more(self) -> Log:
        """TTIN."""
        return self._move("TTIN", *(min(count + 1, MOST_WORKERS) for count in self._numbers()))

    def fewer(self) -> Log:
        """TTOU. One worker stays."""
        return self._move("TTOU", *(max(count - 1, min(count, 1)) for count in self._numbers()))

    def none(self) -> Log:
        """WINCH."""
        before = self.wanted
        self.wanted = self.least = self.most = 0
        return Log("info", wording.no_workers(before)) if before else wording.bound("WINCH", 0)

    def to(self, count: int) -> Log:
        """So many workers, from 1 to MOST_WORKERS, by an operator's word."""
        by = count - self.wanted
        least, most = (min(max(bound + by, 1), MOST_WORKERS) for bound in (self.least, self.most))
        return self._move(_SCALE, count, least, most)

    def _numbers(self) -> tuple[int, int, int]:
        return self.wanted, self.least, self.most

    def _move(self, name: str, wanted: int, least: int, most: int) -> Log:
        before = self._numbers()
        self.wanted, self.least, self.most = wanted, least, most
        if self._numbers() == before and name != _SCALE:
            return wording.bound(name, wanted)
        return Log("info", wording.moved(name, before[0], wanted, least, most))

    # ---- by load

    def looked(self, busy: int, serving: int, waiting: int, now: float) -> Log | None:
        """A look found ``busy`` of the ``serving`` workers in a call, and ``waiting`` connections.

        What is to be said, if the number of workers changes.
        """
        since, self._looked_at = now - self._looked_at, now
        if serving < self.wanted:
            self._begin_window(now)  # those that boot may be enough, and are not spare yet
            return None
        if waiting or busy >= serving - 1:
            self._needed += min(since, _GAP)
        if since > _GAP:
            self._full.clear()
        self._full.append(waiting > 0 or busy >= serving)
        enough = len(self._full) == _LOOKS and sum(self._full) >= _FULL
        return self._grow(now) if enough and self.follows_load else None

    def _grow(self, now: float) -> Log | None:
        assert self._plan is not None
        bound = min(self.most, max(self.least, self._plan.room))
        count = min(self.wanted + max(1, self.wanted // 2), bound)
        if count > self.wanted:
            before, self.wanted = self.wanted, count
            self._begin_window(now)
            return Log("info", wording.grown(before, count))
        if bound < self.most and not self._told_of_memory:
            self._told_of_memory = True
            return Log("warning", wording.no_memory_to_grow(self.wanted, self.most, self._plan))
        return None

    def let_time_pass(self, now: float) -> Log | None:
        """One worker less, if it is time for that."""
        due = self.next_deadline()
        if due is None or now < due:
            return None
        assert self._plan is not None
        spare = self._needed < _NEEDED * self._plan.quiet
        self._begin_window(now)
        if not spare:
            return None
        self.wanted -= 1
        return Log("info", wording.shrunk(self.wanted + 1, self.wanted, self._plan.quiet))

    def next_deadline(self) -> float | None:
        """When ``let_time_pass`` is to be called, None if nobody can be spared."""
        if self._plan is None or self.wanted <= self.least:
            return None
        return self._window_began + self._plan.quiet

    def _begin_window(self, now: float) -> None:
        self._window_began, self._needed = now, 0.0
        self._full.clear()
