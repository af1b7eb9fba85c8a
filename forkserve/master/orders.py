"""What can be done to a worker, and be said about it: the words that the supervisor's rules use.

Each word notes the change in the roster and the actions that follow; when it is used is not decided
here. Pure, like all of the supervisor.
"""

import signal
from dataclasses import dataclass, field

from forkserve.master import story
from forkserve.master.roster import Phase, Roster, Worker
from forkserve.master.story import Action, Plan
from forkserve.proc.channel import Message

_ABORT = 1.0  # seconds from SIGABRT (write the stack) to SIGKILL


@dataclass(slots=True)
class Orders:
    """The workers, the settings that they live by, and the actions noted so far."""

    plan: Plan
    roster: Roster = field(default_factory=Roster)
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

    def _settled(self, text: str) -> None:
        """A reload has come to its end, one way or the other."""
        self._do(story.Notify(("READY=1", f"STATUS={text}")))
