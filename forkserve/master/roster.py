"""The workers that there are, and the slots that they fill: the supervisor's book-keeping. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from forkserve.settings.kinds import MOST_WORKERS

ROWS = 4 * MOST_WORKERS
"""Workers that can be alive at once: serving, booting, and several generations that retire."""

# A slot whose worker dies young is filled again at once the first time, then after a pause that
# doubles (from half a second to 30). A worker that served for HEALTHY leaves a clean slate. So no
# slot is filled more than 7 times in 10 s, and one whose worker was killed is filled at once.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_HEALTHY = 1.5

# The longest pause if a request, or somebody outside, was the end of the worker: others wait to be
# served, and what killed it may be over. With 30 s, a few requests that crash workers and wait in
# the kernel, where each fresh worker takes the next one, kept a server down for minutes.
_SHORT_PAUSE = 2.0


class Phase(Enum):
    """Of a worker's life."""

    BOOTING = "imports the application"
    SERVING = "accepts connections"
    RETIRING = "finishes what it has, and leaves"
    ABORTING = "is being killed"


@dataclass(slots=True)
class Worker:
    """One worker process. ``deadline`` is that of its phase; what follows is the supervisor's."""

    serial: int
    slot: int
    generation: int
    row: int
    successor: bool  # takes the place of one that serves, when it is ready
    deadline: float | None
    phase: Phase = Phase.BOOTING
    pid: int = 0
    ready_at: float = 0.0
    due_at: float = float("inf")  # when it is to be succeeded at the latest, and why
    why: str = ""
    cause: str = ""  # the setting that says so
    heavy: int = 0  # octets of memory that it had when that was first too much
    stuck: bool = False  # a call holds one of its threads for ever
    killed: bool = False  # by the master
    failure: str | None = None  # why it did not boot, as far as is known

    @property
    def leaving(self) -> bool:
        return self.phase in (Phase.RETIRING, Phase.ABORTING)

    def __str__(self) -> str:
        pid = f" (pid {self.pid})" if self.pid else ""
        return f"worker {self.slot} gen {self.generation}{pid}"


@dataclass(slots=True)
class _Slot:
    deaths: int = 0  # in a row, of workers that were not healthy
    not_before: float = 0.0


@dataclass(slots=True)
class Roster:
    """All workers by serial, and how the slots have fared."""

    workers: dict[int, Worker] = field(default_factory=dict)
    _slots: dict[int, _Slot] = field(default_factory=dict)
    _serial: int = 0

    def __iter__(self) -> Iterator[Worker]:
        """The workers, as they are now: the roster may change meanwhile."""
        return iter(list(self.workers.values()))

    def get(self, serial: int) -> Worker | None:
        """The worker, None if it is gone."""
        return self.workers.get(serial)

    def pop(self, serial: int) -> Worker:
        return self.workers.pop(serial)

    def add(self, slot: int, generation: int, deadline: float, *, successor: bool) -> Worker | None:
        """A new worker, booting, with a serial and the lowest free row of the scoreboard.

        None if there is no row: so many workers of earlier reloads have not finished yet.
        """
        taken = {worker.row for worker in self}
        row = next((index for index in range(ROWS) if index not in taken), None)
        if row is None:
            return None
        self._serial += 1
        worker = Worker(self._serial, slot, generation, row, successor, deadline)
        self.workers[worker.serial] = worker
        return worker

    def in_phase(self, *phases: Phase) -> list[Worker]:
        """The workers in these phases, by slot."""
        found = [worker for worker in self if worker.phase in phases]
        return sorted(found, key=lambda worker: (worker.slot, worker.serial))

    def vacant(self, wanted: int, generation: int) -> list[int]:
        """Slots that no worker up to ``generation`` fills. Those that leave fill nothing."""
        filled = {
            worker.slot for worker in self if not worker.leaving and worker.generation <= generation
        }
        return [slot for slot in range(wanted) if slot not in filled]

    def forgive(self, seconds: float) -> None:
        """Put every deadline off by so much."""
        for worker in self:
            if worker.deadline is not None:
                worker.deadline += seconds

    # ---- back-off

    def not_before(self, slot: int) -> float:
        """The earliest time at which the slot may be filled again."""
        return self._slots[slot].not_before if slot in self._slots else 0.0

    def died(self, worker: Worker, now: float, *, blameless: bool = False) -> float:
        """A worker died that should not have. Returns the pause before its slot is filled.

        ``blameless``: in a request, or killed from outside.
        """
        slot = self._slots.setdefault(worker.slot, _Slot())
        if worker.phase is Phase.BOOTING:
            slot.deaths += 1
            exponent = slot.deaths
        else:
            slot.deaths = 0 if now - worker.ready_at >= _HEALTHY else slot.deaths + 1
            exponent = slot.deaths - 1
        longest = _SHORT_PAUSE if blameless else _LONGEST_PAUSE
        # The exponent is bounded: a crash loop of hours must not overflow a float.
        doubled = _FIRST_PAUSE * 2.0 ** min(exponent - 1, 10)
        pause = min(doubled, longest) if exponent > 0 else 0.0
        slot.not_before = now + pause
        return pause

    def postpone(self, slot: int, until: float) -> None:
        """Do not fill the slot before then."""
        self._slots.setdefault(slot, _Slot()).not_before = until

    def forget_deaths(self) -> None:
        """A new generation is in force: it is not to blame for the one before."""
        self._slots.clear()
