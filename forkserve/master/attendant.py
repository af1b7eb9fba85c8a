"""The status process as a pure table: when there is one, and when it is followed by another.

It stands beside the workers of the application, and outside of their slots: no signal, no scaling
and no reload counts it, and its death touches nobody. It is of the settings in force; if those that
concern it change, a successor is ready before it retires. It goes last, so that it can say that the
server is not ready for as long as there is a server.

    absent ──> BOOTING ──ready──> SERVING ──a successor is ready, or it is not wanted──> RETIRING
      └── after the pause of a slot of the application ──┴── died
"""

from collections.abc import Iterator
from typing import NamedTuple

from forkserve.master.roster import Phase, Roster, Worker
from forkserve.master.story import Log

_NEVER = float("inf")
_BOOT = 30.0  # seconds: it imports nothing of the application's
_LEAVE = 5.0  # seconds: its answers are short


class Start(NamedTuple):
    """Fork one. Answered by ``started`` or ``not_started``."""

    serial: int


class Dismiss(NamedTuple):
    """Tell it to leave; ``now``: without what it has begun."""

    serial: int
    now: bool


class End(NamedTuple):
    """Kill it."""

    serial: int


Action = Start | Dismiss | End | Log


class Attendant:
    """``alive``: how many such processes there are."""

    def __init__(self) -> None:
        self._roster = Roster()
        self._version = 0  # of the settings that concern it
        self._wanted = False

    # ---- what happens. Each time ``balance`` says what to do.

    def want(self, wanted: bool) -> None:
        """From now on there is to be one of new settings, or none."""
        self._version += 1
        self._wanted = wanted
        self._roster.forget_deaths()

    def started(self, serial: int, pid: int) -> None:
        self._roster.workers[serial].pid = pid

    def not_started(self, serial: int, reason: str, now: float) -> Log:
        """It could not be forked."""
        worker = self._roster.pop(serial)
        return _failed("cannot be started", reason, self._roster.died(worker, now))

    def ready(self, serial: int) -> None:
        """It answers."""
        worker = self._roster.get(serial)
        if worker is not None and worker.phase is Phase.BOOTING:
            worker.phase = Phase.SERVING
            worker.deadline = None

    def failed(self, serial: int, reason: str) -> None:
        """It says why it cannot boot, and will exit."""
        worker = self._roster.get(serial)
        if worker is not None:
            worker.failure = reason

    def leaving(self, serial: int) -> Log | None:
        """Somebody else has told it to end: a service manager signals all processes, say."""
        worker = self._roster.get(serial)
        if worker is None or worker.phase is not Phase.SERVING:
            return None
        worker.phase = Phase.RETIRING
        return Log("info", "the status process was told to end by somebody else; it is replaced")

    def died(self, serial: int, how: str, now: float) -> Log | None:
        """It has ended. What there is to say about it."""
        worker = self._roster.pop(serial)
        if worker.leaving:
            return None
        pause = self._roster.died(worker, now)
        if worker.phase is Phase.BOOTING:
            reason = worker.failure or f"It ended with {how} before it was ready"
            return _failed("could not boot", reason, pause)
        return _failed("died", how, pause)

    def forgive(self, seconds: float) -> None:
        """The master did not run for so long."""
        self._roster.forgive(seconds)

    # ---- what to do

    @property
    def alive(self) -> int:
        return len(self._roster.workers)

    @property
    def due(self) -> float:
        """When ``balance`` must be called at the latest."""
        dates = [worker.deadline for worker in self._roster if worker.deadline is not None]
        if self._wanted and not self._of_now(Phase.BOOTING, Phase.SERVING):
            dates.append(self._roster.not_before(0))
        return min(dates, default=_NEVER)

    def balance(self, now: float, *, quick: bool = False) -> Iterator[Action]:
        """Bring what is nearer to what is wanted. ``quick``: who leaves leaves at once."""
        for worker in self._roster:
            if worker.deadline is not None and worker.deadline <= now:
                yield from self._end(worker)
        has_successor = self._of_now(Phase.SERVING)
        for worker in self._roster.in_phase(Phase.BOOTING, Phase.SERVING):
            if self._wanted and (worker.generation == self._version or not has_successor):
                continue
            if worker.phase is Phase.BOOTING:
                yield from self._end(worker)
            else:
                worker.phase = Phase.RETIRING
                worker.deadline = now + _LEAVE
                yield Dismiss(worker.serial, quick)
        absent = not self._of_now(Phase.BOOTING, Phase.SERVING)
        if self._wanted and absent and self._roster.not_before(0) <= now:
            successor = bool(self._roster.in_phase(Phase.SERVING))
            new = self._roster.add(0, self._version, now + _BOOT, successor=successor)
            assert new is not None
            yield Start(new.serial)

    def _of_now(self, *phases: Phase) -> bool:
        """Whether there is one of the settings in force, in one of these phases."""
        found = self._roster.in_phase(*phases)
        return any(worker.generation == self._version for worker in found)

    def _end(self, worker: Worker) -> Iterator[Action]:
        if worker.phase is Phase.BOOTING and worker.deadline is not None and self._wanted:
            worker.failure = worker.failure or "It did not boot in time, and is killed"
        else:
            worker.phase = Phase.ABORTING
        worker.deadline = None
        yield End(worker.serial)


def _failed(what: str, reason: str, pause: float) -> Log:
    then = f"in {pause:g} s" if pause else "at once"
    first, *rest = reason.splitlines() or [""]
    text = "\n".join([f"{first}. The server goes on, and another is started {then}", *rest])
    return Log("error", f"the status process {what}: {text}")
