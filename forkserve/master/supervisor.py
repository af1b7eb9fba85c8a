"""Who lives, who is replaced, and when: the policy of the master, as a pure automaton.

``handle(event, now)`` returns the actions to perform, and nothing else happens: no clock, no fork,
no file. The rules of a worker's life stand in this file, in the words of ``orders``; of a reload
that is overtaken or called off in ``changes``, of the number of workers in ``strength``, of who is
used up in ``wear``.

A worker is BOOTING, then SERVING, then RETIRING (finishing what it has) or ABORTING (being killed).
A slot is filled by one worker that boots or serves; those that leave do not count, so a replacement
never waits for them. A worker is *succeeded* (because its generation is over, or its requests are
used up) one at a time: a successor boots in the same slot, and when it is ready, and not before,
the predecessor retires.

A reload:

    NONE ──HUP──> LOADING ──settings sound──> CANARY ──ready──> ROLLING ──all succeeded──> NONE
                     │ refused                   │ dies, or misses its deadline
                     └──> NONE                   └──> NONE: the old generation has not noticed

The canary is the first successor of the new generation. A HUP that comes meanwhile is remembered,
and its turn comes in NONE; or in ROLLING when no successor can boot, since it may bring the repair.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

from forkserve import __version__
from forkserve.errors import EXIT_APPLICATION, EXIT_FAILED, EXIT_OK
from forkserve.master import story, wording
from forkserve.master.changes import Changes
from forkserve.master.roster import Phase, Worker
from forkserve.master.story import Action, Event, Life, Plan, Reload
from forkserve.master.strength import Strength
from forkserve.master.wear import Wear
from forkserve.proc.channel import Message

_NEVER = float("inf")
_QUICK = 1.0  # seconds from QUIT, which a worker reads between two calls, to SIGKILL
_NO_ROW = 1.0  # seconds until a slot is tried again for which the scoreboard has no row


@dataclass(slots=True)
class Supervisor(Changes):
    """The state of the master. Used by its only thread."""

    strength: Strength = field(default_factory=Strength)
    wear: Wear = field(default_factory=Wear)
    _exit_status: int = EXIT_OK
    last_failure: str = ""  # why the last worker could not boot, until another can

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event, and say what to do. ``now``: monotonic seconds, never going back."""
        self._actions = []
        match event:
            case story.Started():
                self.strength.adopt(self.plan, now)
                for slot in range(self.wanted):
                    self._spawn(slot, self.generation, now)
            case story.SignalCame(signal=number):
                self._on_signal(number, now)
            case story.Forked(serial=serial, pid=pid):
                forked = self.roster.workers[serial]
                forked.pid = pid
                if forked.killed:  # before there was anything to kill
                    self._kill(forked)
            case story.ForkFailed(serial=serial, reason=reason):
                worker = self.roster.pop(serial)
                self._boot_failed(worker, f"It could not be forked: {reason}", EXIT_FAILED, now)
            case story.Ready(serial=serial):
                self._on_ready(self.roster.get(serial), now)
            case story.BootFailed(serial=serial, reason=reason):
                if booting := self.roster.get(serial):
                    booting.failure = reason
            case story.Due(serial=serial, requests=requests):
                if serving := self.roster.get(serial):
                    self.wear.counted(serving, requests, now)
            case story.Stuck(serial=serial, request=request):
                if serving := self.roster.get(serial):
                    self.wear.stuck(serving, request, now)
            case story.Weighed(serial=serial, octets=octets):
                if (serving := self.roster.get(serial)) and serving.phase is Phase.SERVING:
                    self._say(self.wear.weighed(serving, octets, self.plan, now))
            case story.Looked(running=running, waiting=waiting):
                self._on_looked(running, waiting, now)
            case story.Leaving(serial=serial):
                if (leaving := self.roster.get(serial)) and leaving.phase is Phase.SERVING:
                    self._log("info", f"{leaving} was told to end by somebody else; it is replaced")
                    self._retire(leaving, None, now)
            case story.Exited(serial=serial):
                self._on_exited(self.roster.pop(serial), event, now)
            case story.CallOverdue(serial=serial):
                self._overdue(self.roster.get(serial), event, now)
            case story.Changed(what=what):
                self._on_change(what, now)
            case story.SettingsLoaded(plan=plan):
                self._on_settings(plan, now)
            case story.SettingsRefused(reason=reason):
                self._refuse_reload(reason)
            case story.Succeeded(pid=pid) if not self.life.ends:
                why = f"USR2: process {pid} serves now, and this one ends"
                self._stop(now, Message.RETIRE, why)
            case story.Scale(workers=count):
                self._say(self.strength.to(count))
            case story.Replace(serial=serial):
                self.wear.asked(self.roster.get(serial), now)
            case story.Overslept(seconds=seconds):
                self.roster.forgive(seconds)
        self._keep_deadlines(now)
        self._balance(now)
        return self._actions

    @property
    def wanted(self) -> int:
        """The number of slots that are to be filled."""
        return self.strength.wanted

    @property
    def is_complete(self) -> bool:
        """Each worker that is wanted serves, and somebody does."""
        serving = len(self.roster.in_phase(Phase.SERVING))
        return self.life is Life.UP and serving >= max(1, self.wanted)

    def next_deadline(self) -> float | None:
        """When ``handle`` must be called at the latest (with a Tick), None if nothing is due."""
        return min(self._deadlines(), default=None)

    def _deadlines(self) -> Iterator[float]:
        for worker in self.roster:
            if worker.deadline is not None and worker.pid:
                yield worker.deadline
        if self.life is Life.UP:
            yield from self._deadline_of_overtaken()
            for slot in self.roster.vacant(self.wanted, self.generation):
                yield self.roster.not_before(slot)
            if not self._succession_is_under_way():
                for worker in self.roster.in_phase(Phase.SERVING):
                    if self._due_at(worker) < _NEVER:
                        yield max(self._due_at(worker), self.roster.not_before(worker.slot))
            quiet = self.strength.next_deadline()
            if quiet is not None:
                yield quiet

    # ---- signals

    def _on_signal(self, number: signal.Signals, now: float) -> None:
        ends = self.life.ends
        if number in (signal.SIGINT, signal.SIGQUIT) or (number == signal.SIGTERM and ends):
            self._quit(number.name.removeprefix("SIG"), now)
        elif number == signal.SIGTERM:
            self._stop(now, Message.STOP, "TERM: stopping")
        elif ends:
            return
        elif number == signal.SIGHUP:
            if self.reload is not Reload.NONE or self.life is Life.STARTING:
                self._log("info", wording.HUP_NOTED)
            self._hup_pending, self._cause = True, "HUP"
        elif number == signal.SIGUSR1:
            self._do(story.ReopenLogs())
            for worker in self.roster:
                self._do(story.Tell(worker.serial, Message.REOPEN))
        elif number == signal.SIGTTIN:
            self._say(self.strength.more())
        elif number == signal.SIGTTOU:
            self._say(self.strength.fewer())
        elif number == signal.SIGWINCH:
            self._say(self.strength.none())

    def _stop(self, now: float, message: Message, why: str) -> None:
        serving = self.roster.in_phase(Phase.SERVING)
        self._begin_to_stop(Life.STOPPING)
        self._log("info", wording.stopping(why, len(serving), self.plan.graceful_timeout))
        for worker in self.roster.in_phase(Phase.BOOTING):
            self._kill(worker)
        for worker in self.roster.in_phase(Phase.RETIRING):
            self._do(story.Tell(worker.serial, message))
        for worker in serving:
            self._retire(worker, message, now)

    def _quit(self, name: str, now: float) -> None:
        again = self.life is Life.QUITTING
        self._begin_to_stop(Life.QUITTING)
        if again:
            self._log("warning", f"{name} again: every worker is killed now")
        else:
            self._log("info", f"{name}: stopping now, running requests are cut off")
        for worker in self.roster:
            if again or worker.phase is Phase.BOOTING:
                self._kill(worker)
            else:
                worker.phase = Phase.RETIRING
                worker.deadline = now + _QUICK
                self._do(story.Tell(worker.serial, Message.QUIT))

    def _begin_to_stop(self, life: Life) -> None:
        if self.life in (Life.STARTING, Life.UP):
            self._do(story.Notify(("STOPPING=1", "STATUS=stopping")))
            self._do(story.StopListening())
        self.life = life

    # ---- reload

    def _on_settings(self, plan: Plan, now: float) -> None:
        """Spawn the canary. Everything else of the new generation waits for it."""
        if self.life is not Life.UP:
            self._do(story.Discard(self.generation + 1))
            return
        self.reload = Reload.CANARY
        self._next_plan = plan
        self.last_failure = ""
        self._spawn(0, self.generation + 1, now, successor=True)

    def _commit(self, now: float) -> None:
        """The canary is ready: its generation is in force."""
        assert self._next_plan is not None
        self.plan, self._next_plan = self._next_plan, None
        self.generation += 1
        self.strength.adopt(self.plan, now)
        self.wear.forget()
        self.reload = Reload.ROLLING
        self.roster.forget_deaths()
        self._do(story.Commit(self.generation))
        for worker in self.roster.in_phase(Phase.BOOTING):
            # Replacements of the old generation that were on their way: they hold nothing yet.
            worker.phase = Phase.ABORTING
            self._kill(worker)

    def _refuse_reload(self, reason: str, where: str = "") -> None:
        self._call_off()
        self.wear.paused = not self.plan.preload
        text = wording.refused(self._cause, self.generation, where, reason, self.plan)
        self._do(story.Explain(reason))
        self._log("error", text)
        self._settle(f"reload refused: {where}{reason.splitlines()[0]}", f"{where}{reason}")

    # ---- the life of a worker

    def _on_ready(self, worker: Worker | None, now: float) -> None:
        if worker is None or worker.phase is not Phase.BOOTING or worker.failure or self.life.ends:
            return
        worker.phase = Phase.SERVING
        worker.ready_at = now
        worker.deadline = None
        self.last_failure = ""
        self._log("debug", f"{worker} is ready")
        if worker.generation > self.generation:
            self._commit(now)
        self.wear.ready(worker, self.plan, now)
        if self.life is Life.STARTING:
            self.life = Life.UP
            self._do(story.Announce(f"forkserve {__version__}", self.wanted))
            self._do(story.Notify(("READY=1", "STATUS=serving")))
        for other in self.roster.in_phase(Phase.SERVING):
            # A slot has one worker that serves, the newest: the predecessor retires.
            if other.slot == worker.slot and other is not worker:
                self._retire(other, Message.RETIRE, now)

    def _on_exited(self, worker: Worker, event: story.Exited, now: float) -> None:
        has_left = worker.leaving and event.status == EXIT_OK and event.request is None
        if worker.phase is Phase.BOOTING:
            reason = worker.failure or wording.ended_early(event.how)
            if not self.life.ends:
                self._boot_failed(worker, reason, event.status, now)
        elif worker.killed or self.life is Life.QUITTING:
            level = "info" if event.request else "debug"
            self._log(level, f"{worker} was killed {wording.doing(event)}")
        elif has_left:
            self._log("debug", f"{worker} has left")
        else:
            then = ""
            if worker.phase is Phase.SERVING and not self.life.ends:
                blameless = event.how in ("SIGKILL", "SIGTERM") or event.request is not None
                pause = self.roster.died(worker, now, blameless=blameless)
                then = f"; {wording.replacement(pause)}"
            self._log("error", wording.died(worker, event, then))
        if not (has_left or self.life.ends or worker.phase is Phase.BOOTING):
            for other in self.roster.in_phase(Phase.SERVING):
                self._do(story.Tell(other.serial, Message.LOOK))

    def _boot_failed(self, worker: Worker, reason: str, status: int, now: float) -> None:
        if self.life.ends:
            return
        if worker.generation > self.generation:
            self._refuse_reload(reason, f"Its first worker ({worker}) could not boot. ")
            return
        pause = self.roster.died(worker, now)
        known = reason == self.last_failure
        self.last_failure = reason
        if self.life is Life.UP:
            # The same traceback again and again would bury the rest and fill the disk.
            text = reason.splitlines()[0] if known else reason
            self._log("error", wording.could_not_boot(worker, pause, text))
            return
        if not known:
            self._log("error", f"{worker} could not boot. {reason}")
        if self.roster.in_phase(Phase.BOOTING):
            return
        if self._can_wait_for_repair(reason, status):
            for slot in range(self.wanted):
                self._spawn(slot, self.generation, now)
        else:
            self._log("critical", wording.NOBODY_BOOTED)
            # The worker exits with it if it is the settings or the machine that fail, and not the
            # application.
            self._exit_status = EXIT_FAILED if status == EXIT_FAILED else EXIT_APPLICATION
            self._begin_to_stop(Life.STOPPING)

    def _on_looked(self, running: frozenset[int], waiting: int, now: float) -> None:
        if self.life is Life.UP:
            serving = self.roster.in_phase(Phase.SERVING)
            busy = [worker for worker in serving if worker.serial in running]
            self._say(self.strength.looked(len(busy), len(serving), waiting, now))

    def _keep_deadlines(self, now: float) -> None:
        for worker in self.roster:
            if worker.deadline is None or worker.deadline > now or not worker.pid:
                continue
            if worker.phase is Phase.BOOTING and worker.failure is None:
                worker.failure = wording.BOOT_DEADLINE
                self._abort(worker, now)
                continue
            if worker.phase is Phase.RETIRING and self.life is not Life.QUITTING:
                self._log(
                    "warning",
                    f"{worker} did not leave within `graceful_timeout`, and is killed",
                )
            self._kill(worker)

    # ---- what should be, against what is

    def _balance(self, now: float) -> None:
        """Bring the workers nearer to what is wanted. Called after every event."""
        if self.life.ends and not self.roster.workers:
            self._do(story.Exit(self._exit_status))
        if self.life is not Life.UP:
            return
        self._say(self.strength.let_time_pass(now))
        self._give_up_overtaken(now)
        for worker in self.roster.in_phase(Phase.BOOTING, Phase.SERVING):
            if worker.slot >= self.wanted and worker.generation <= self.generation:
                self._retire(worker, Message.RETIRE, now)
        for slot in self.roster.vacant(self.wanted, self.generation):
            if self.roster.not_before(slot) <= now:
                self._spawn(slot, self.generation, now)
        old = [] if self._succession_is_under_way() else self._to_succeed(now)
        ready = [worker for worker in old if self.roster.not_before(worker.slot) <= now]
        # Who has to wait had a successor that failed, and a HUP that waits may bring the repair.
        if ready and not (self._hup_pending and len(ready) < len(old)):
            self._succeed(ready[0], now)
        self._go_on_with_reload(now)

    def _go_on_with_reload(self, now: float) -> None:
        if self.reload is Reload.ROLLING and all(
            worker.generation == self.generation or worker.leaving for worker in self.roster
        ):
            self.reload = Reload.NONE
            text = f"{self._cause}: reloaded, generation {self.generation}"
            self._do(story.Explain(""))
            self._do(story.Announce(text, self.wanted))
            self._settle(f"serving, generation {self.generation}")
        stuck = self.reload is Reload.ROLLING and not self._succession_is_under_way()
        if self._hup_pending and (self.reload is Reload.NONE or stuck):
            self._hup_pending, self._overtaken_at = False, _NEVER
            self.reload = Reload.LOADING
            self._load(self.generation + 1, self._cause, now)

    def _succession_is_under_way(self) -> bool:
        return self.reload in (Reload.LOADING, Reload.CANARY) or any(
            worker.successor for worker in self.roster.in_phase(Phase.BOOTING)
        )

    def _to_succeed(self, now: float) -> list[Worker]:
        """Those of an earlier generation by slot, then those that are due for longest: or else a
        slot whose workers are due soon would always come before the others."""
        due = [it for it in self.roster.in_phase(Phase.SERVING) if self._due_at(it) <= now]
        return sorted(due, key=self._due_at)

    def _due_at(self, worker: Worker) -> float:
        return 0.0 if worker.generation < self.generation else self.wear.due_at(worker)

    def _succeed(self, worker: Worker, now: float) -> None:
        if worker.why and worker.generation == self.generation:
            self._log("info", f"{worker} is replaced: {worker.why}")
            worker.why = ""  # a second attempt is told by what became of the first
        self._spawn(worker.slot, self.generation, now, successor=True)

    def _spawn(self, slot: int, generation: int, now: float, *, successor: bool = False) -> None:
        plan = self.plan
        if generation > self.generation and self._next_plan is not None:
            plan = self._next_plan
        worker = self.roster.add(slot, generation, now + plan.boot_timeout, successor=successor)
        if worker is not None:
            self._do(story.Spawn(worker.serial, slot, generation, worker.row))
        elif generation > self.generation:
            self._refuse_reload(wording.NO_ROOM)
        else:
            self.roster.postpone(slot, now + _NO_ROW)
