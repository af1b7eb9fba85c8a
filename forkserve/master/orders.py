"""What can be done to a worker, and be said about it: the words that the supervisor's rules use.

Each word notes the change in the roster and the actions that follow; when it is used is not decided
here. Pure, like all of the supervisor.
"""

import signal
from dataclasses import dataclass, field

from forkserve.master import story, wording
from forkserve.master.roster import Phase, Roster, Worker
from forkserve.master.story import Action, Plan
from forkserve.proc.channel import Message

_ABORT = 1.0  # seconds from SIGABRT (write the stack) to SIGKILL


@dataclass(slots=True)
class Orders:
    """The workers, the settings that they live by, and the actions noted so far."""

    plan: Plan
    roster: Roster = field(default_factory=Roster)
    loads: int = 0  # reloads that have begun
    settled: int = 0  # of these, the last that has come to its end
    refusal: str = ""  # why that was refused, if it was
    _actions: list[Action] = field(default_factory=list)

    def _retire(self, worker: Worker, message: Message | None, now: float) -> None:
        worker.phase = Phase.RETIRING
        worker.deadline = now + self.plan.graceful_timeout
        if message is not None:
            self._do(story.Tell(worker.serial, message))

    def _abort(self, worker: Worker, now: float) -> None:
        """Have the worker write its stack and end; if it does not, it is killed."""
        worker.killed = True
        worker.deadline = now + _ABORT
        self._do(story.Kill(worker.serial, worker.pid, signal.SIGABRT))

    def _kill(self, worker: Worker) -> None:
        worker.killed = True
        worker.deadline = None
        if worker.pid:
            self._do(story.Kill(worker.serial, worker.pid, signal.SIGKILL))

    def _do(self, action: Action) -> None:
        self._actions.append(action)

    def _log(self, level: str, text: str) -> None:
        self._do(story.Log(level, text))

    def _say(self, line: story.Log | None) -> None:
        """Log what others have put into words, if there is anything to be said."""
        if line is not None:
            self._do(line)

    def _overdue(self, worker: Worker | None, event: story.CallOverdue, now: float) -> None:
        """A call has passed its deadline, and the worker has not ended it."""
        if worker is None or worker.phase in (Phase.BOOTING, Phase.ABORTING):
            return
        self._log("error", wording.overdue(worker, event))
        worker.phase = Phase.ABORTING
        self._abort(worker, now)

    def _load(self, generation: int, cause: str, now: float) -> None:
        """A reload begins."""
        self.loads += 1
        text = f"loading generation {generation}"
        self._log("info", f"{cause}: {text}")
        self._do(story.Notify(wording.reloading(now, text)))
        self._do(story.LoadSettings(generation))

    def _settle(self, text: str, refusal: str = "") -> None:
        """A reload has come to its end, one way or the other."""
        self.settled, self.refusal = self.loads, refusal
        self._do(story.Notify(("READY=1", f"STATUS={text}")))
