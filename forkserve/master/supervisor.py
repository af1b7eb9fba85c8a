"""Who lives, who is replaced, and when: the policy of the master, as a pure automaton.

``handle(event, now)`` returns the actions to perform, and nothing else happens: no clock, no fork,
no file. All rules of a worker's life stand in this file.

A worker is BOOTING, then SERVING, then RETIRING (finishing what it has) or ABORTING (being killed).
A slot is filled by one worker that boots or serves; those that leave do not count, so a replacement
never waits for them. A worker is *succeeded* (because its generation is over, or its requests are
used up) one at a time: a successor boots in the same slot, and when it is ready, and not before,
the predecessor retires.

    HUP: LoadSettings -> refused: stay
                      -> the first successor of the new generation is the canary
                         it fails: the new generation is discarded, the old one has not noticed
                         it is ready: the new generation is in force, and the rest are succeeded
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

from forkserve.errors import EXIT_APPLICATION, EXIT_OK
from forkserve.master import story
from forkserve.master.roster import MOST_WORKERS, Phase, Roster, Worker
from forkserve.master.story import Action, Event, Plan
from forkserve.proc.channel import Message

_ABORT = 1.0  # seconds from SIGABRT (write the stack) to SIGKILL
_QUICK = 1.0  # seconds from QUIT, which a worker reads between two calls, to SIGKILL


@dataclass(slots=True)
class Supervisor:
    """The state of the master. Used by its only thread."""

    plan: Plan
    generation: int = 1
    wanted: int = 0
    roster: Roster = field(default_factory=Roster)
    _candidate: Plan | None = None  # of generation + 1, while it has to prove itself
    _loading: bool = False
    _rolling: bool = False
    _hup_pending: bool = False
    _up: bool = False  # a worker was ready, once
    _stopping: bool = False
    _quick: bool = False
    _exit_status: int = EXIT_OK
    _last_failure: str = ""
    _actions: list[Action] = field(default_factory=list)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event, and say what to do. ``now``: monotonic seconds, never going back."""
        self._actions = []
        match event:
            case story.Started():
                self.wanted = self.plan.workers
                for slot in range(self.wanted):
                    self._spawn(slot, self.generation, now)
            case story.SignalCame(signal=number):
                self._on_signal(number, now)
            case story.Forked(serial=serial, pid=pid):
                self.roster.workers[serial].pid = pid
            case story.ForkFailed(serial=serial, reason=reason):
                self._boot_failed(self.roster.pop(serial), f"it could not be forked: {reason}", now)
            case story.Ready(serial=serial):
                self._on_ready(self.roster.get(serial), now)
            case story.BootFailed(serial=serial, reason=reason):
                if worker := self.roster.get(serial):
                    worker.failure = reason
            case story.Due(serial=serial):
                if worker := self.roster.get(serial):
                    worker.due = True
            case story.Exited(serial=serial):
                self._on_exited(self.roster.pop(serial), event, now)
            case story.CallOverdue(serial=serial):
                self._on_overdue(self.roster.get(serial), event, now)
            case story.SettingsLoaded(plan=plan):
                self._on_settings(plan, now)
            case story.SettingsRefused(reason=reason):
                self._loading = False
                self._refuse_reload(f"The settings are not sound:\n{reason}")
            case story.Overslept(seconds=seconds):
                self._forgive(seconds)
            case story.Tick():
                pass
        self._keep_deadlines(now)
        self._balance(now)
        return self._actions

    def next_deadline(self) -> float | None:
        """When ``handle`` must be called at the latest (with a Tick), None if nothing is due."""
        return min(self._deadlines(), default=None)

    def _deadlines(self) -> Iterator[float]:
        for worker in self.roster:
            if worker.deadline is not None:
                yield worker.deadline
        if self._up and not self._stopping:
            for slot in self.roster.vacant(self.wanted, self.generation):
                yield self.roster.not_before(slot)
            if not self._succession_is_under_way():
                for worker in self._to_succeed():
                    yield self.roster.not_before(worker.slot)

    # ---- signals

    def _on_signal(self, number: signal.Signals, now: float) -> None:
        again = number == signal.SIGTERM and self._stopping
        if number in (signal.SIGINT, signal.SIGQUIT) or again:
            self._stop_quickly(number.name.removeprefix("SIG"), now)
        elif number == signal.SIGTERM:
            self._stop(now)
        elif self._stopping:
            return
        elif number == signal.SIGHUP:
            self._hup_pending = True
        elif number == signal.SIGUSR1:
            self._do(story.ReopenLogs())
            for worker in self.roster:
                self._do(story.Tell(worker.serial, Message.REOPEN))
            self._log("info", "USR1: the log files are open anew")
        elif number == signal.SIGTTIN:
            self._want(min(self.wanted + 1, MOST_WORKERS), "TTIN")
        elif number == signal.SIGTTOU:
            self._want(max(self.wanted - 1, min(self.wanted, 1)), "TTOU")
        elif number == signal.SIGWINCH:
            self._want(0, "WINCH", "; the master stays. TTIN adds one, HUP brings all back")

    def _want(self, count: int, why: str, more: str = "") -> None:
        if count == self.wanted:
            self._log("warning", f"{why}: {count} workers are the bound, nothing changes")
        else:
            self._log("info", f"{why}: from {self.wanted} to {count} workers{more}")
            self.wanted = count

    def _stop(self, now: float) -> None:
        self._begin_to_stop()
        self._log(
            "info",
            f"TERM: stopping, {len(self.roster.in_phase(Phase.SERVING))} workers finish their "
            f"requests within {self.plan.graceful_timeout:g} s",
        )
        for worker in self.roster.in_phase(Phase.BOOTING):
            self._kill(worker)
        for worker in self.roster.in_phase(Phase.RETIRING):
            self._do(story.Tell(worker.serial, Message.STOP))
        for worker in self.roster.in_phase(Phase.SERVING):
            self._retire(worker, Message.STOP, now)

    def _stop_quickly(self, name: str, now: float) -> None:
        if not self._stopping:
            self._begin_to_stop()
        if self._quick:
            self._log("warning", f"{name} again: every worker is killed now")
        else:
            self._log("info", f"{name}: stopping now, running requests are cut off")
        for worker in self.roster:
            if self._quick or worker.phase is Phase.BOOTING:
                self._kill(worker)
            else:
                worker.phase = Phase.RETIRING
                worker.deadline = now + _QUICK
                self._do(story.Tell(worker.serial, Message.QUIT))
        self._quick = True

    def _begin_to_stop(self) -> None:
        self._stopping = True
        self._do(story.Notify(("STOPPING=1", "STATUS=stopping")))
        self._do(story.StopListening())

    # ---- reload

    def _on_settings(self, plan: Plan, now: float) -> None:
        """Spawn the canary. Everything else of the new generation waits for it."""
        self._loading = False
        if self._stopping:
            self._do(story.Discard(self.generation + 1))
            return
        self._candidate = plan
        self._last_failure = ""
        self._spawn(0, self.generation + 1, now, successor=True)

    def _commit(self) -> None:
        """The canary is ready: its generation is in force."""
        assert self._candidate is not None
        self.plan, self._candidate = self._candidate, None
        self.generation += 1
        self.wanted = self.plan.workers
        self._rolling = True
        self.roster.forget_deaths()
        self._do(story.Commit(self.generation))
        for worker in self.roster.in_phase(Phase.BOOTING):
            # Replacements of the old generation that were on their way: they hold nothing yet.
            worker.phase = Phase.ABORTING
            self._kill(worker)

    def _refuse_reload(self, reason: str) -> None:
        self._do(story.Discard(self.generation + 1))
        self._log(
            "error",
            f"HUP: reload refused, generation {self.generation} goes on serving unchanged; "
            f"repair it and send HUP again. {reason}",
        )
        self._status(f"reload refused: {reason.splitlines()[0]}")

    # ---- the life of a worker

    def _on_ready(self, worker: Worker | None, now: float) -> None:
        if worker is None or worker.phase is not Phase.BOOTING or self._stopping:
            return
        worker.phase = Phase.SERVING
        worker.ready_at = now
        worker.deadline = None
        self._last_failure = ""
        self._log("debug", f"{worker} is ready")
        if worker.generation > self.generation:
            self._commit()
        if not self._up:
            self._up = True
            self._do(story.Announce())
            self._do(story.Notify(("READY=1", "STATUS=serving")))
        for other in self.roster.in_phase(Phase.SERVING):
            # A slot has one worker that serves, the newest: the predecessor retires.
            if other.slot == worker.slot and other is not worker:
                self._retire(other, Message.RETIRE, now)

    def _on_exited(self, worker: Worker, event: story.Exited, now: float) -> None:
        if self._stopping:
            return
        if worker.phase is Phase.BOOTING:
            reason = worker.failure or f"It ended with {event.how} before it was ready"
            self._boot_failed(worker, reason, now)
        elif worker.phase is Phase.SERVING:
            pause = self.roster.died(worker, now)
            doing = f"in the request {event.request!r}" if event.request else "between requests"
            oom = " (if nobody sent it: out of memory?)" if event.how == "SIGKILL" else ""
            self._log(
                "error",
                f"{worker} died: {event.how}{oom}, {doing}. Its connections are lost; "
                f"{_replacement(pause)}",
            )
        else:
            self._log("debug", f"{worker} has left: {event.how}")

    def _boot_failed(self, worker: Worker, reason: str, now: float) -> None:
        if self._stopping:
            return
        if worker.generation > self.generation:
            self._candidate = None
            self._refuse_reload(f"Its first worker ({worker}) could not boot. {reason}")
            return
        pause = self.roster.died(worker, now)
        known = reason == self._last_failure
        self._last_failure = reason
        if self._up:
            # The same traceback again and again would bury the rest and fill the disk.
            text = reason.splitlines()[0] if known else reason
            self._log("error", f"{worker} could not boot; {_replacement(pause)}. {text}")
            return
        if not known:
            self._log("error", f"{worker} could not boot. {reason}")
        if not self.roster.in_phase(Phase.BOOTING):
            self._log("critical", "no worker could boot, so there is nothing to serve: exiting")
            self._exit_status = EXIT_APPLICATION
            self._begin_to_stop()

    def _on_overdue(self, worker: Worker | None, event: story.CallOverdue, now: float) -> None:
        if worker is None or worker.phase in (Phase.BOOTING, Phase.ABORTING):
            return
        self._log(
            "error",
            f"{worker} has been in the request {event.request!r} for {event.seconds:.1f} s, longer "
            "than `timeout` allows. Its stack follows; it is killed and replaced. Raise `timeout` "
            "if such requests are normal",
        )
        worker.phase = Phase.ABORTING
        worker.deadline = now + _ABORT
        self._do(story.Kill(worker.serial, signal.SIGABRT))

    def _keep_deadlines(self, now: float) -> None:
        for worker in self.roster:
            if worker.deadline is None or worker.deadline > now:
                continue
            if worker.phase is Phase.BOOTING:
                worker.failure = "It did not become ready within `boot_timeout`, and was killed"
            elif worker.phase is Phase.RETIRING and not self._quick:
                self._log(
                    "warning",
                    f"{worker} did not finish its requests within `graceful_timeout`: killed",
                )
            self._kill(worker)

    def _forgive(self, seconds: float) -> None:
        for worker in self.roster:
            if worker.deadline is not None:
                worker.deadline += seconds

    # ---- what should be, against what is

    def _balance(self, now: float) -> None:
        """Bring the workers nearer to what is wanted. Called after every event."""
        if self._stopping:
            if not self.roster.workers:
                self._do(story.Exit(self._exit_status))
            return
        if not self._up:
            return
        for worker in self.roster.in_phase(Phase.BOOTING, Phase.SERVING):
            if worker.slot >= self.wanted and worker.generation <= self.generation:
                self._retire(worker, Message.RETIRE, now)
        for slot in self.roster.vacant(self.wanted, self.generation):
            if self.roster.not_before(slot) <= now:
                self._spawn(slot, self.generation, now)
        if not self._succession_is_under_way():
            for worker in self._to_succeed():
                if self.roster.not_before(worker.slot) <= now:
                    self._spawn(worker.slot, self.generation, now, successor=True)
                    break
        self._go_on_with_reload()

    def _go_on_with_reload(self) -> None:
        if self._rolling and all(
            worker.generation == self.generation or worker.leaving for worker in self.roster
        ):
            self._rolling = False
            self._log("info", f"HUP: reloaded, generation {self.generation} serves")
            self._status(f"serving, generation {self.generation}")
        if self._hup_pending and not (self._loading or self._rolling or self._candidate):
            self._hup_pending = False
            self._loading = True
            self._log("info", f"HUP: loading generation {self.generation + 1}")
            self._do(story.LoadSettings(self.generation + 1))

    def _succession_is_under_way(self) -> bool:
        return self._candidate is not None or any(
            worker.successor for worker in self.roster.in_phase(Phase.BOOTING)
        )

    def _to_succeed(self) -> Iterator[Worker]:
        for worker in self.roster.in_phase(Phase.SERVING):
            if worker.due or worker.generation < self.generation:
                yield worker

    # ---- small words

    def _spawn(self, slot: int, generation: int, now: float, *, successor: bool = False) -> None:
        plan = self.plan
        if generation > self.generation and self._candidate is not None:
            plan = self._candidate
        worker = self.roster.add(slot, generation, now + plan.boot_timeout, successor=successor)
        self._do(story.Spawn(worker.serial, slot, generation, worker.row))

    def _retire(self, worker: Worker, message: Message, now: float) -> None:
        worker.phase = Phase.RETIRING
        worker.deadline = now + self.plan.graceful_timeout
        self._do(story.Tell(worker.serial, message))

    def _kill(self, worker: Worker) -> None:
        worker.deadline = None
        self._do(story.Kill(worker.serial, signal.SIGKILL))

    def _do(self, action: Action) -> None:
        self._actions.append(action)

    def _log(self, level: str, text: str) -> None:
        self._do(story.Log(level, text))

    def _status(self, text: str) -> None:
        self._do(story.Notify((f"STATUS={text}",)))


def _replacement(pause: float) -> str:
    return f"it is replaced in {pause:g} s" if pause else "it is replaced now"
