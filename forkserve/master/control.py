"""What operators can ask of the master, through `forkservectl`, and how each command is answered.

A command does what a signal does, by the same way, so that it is refused and remembered by the same
rules. What takes time is answered when its outcome is known: a look each turn compares what is
awaited with the state of the supervisor and of the upgrade. Never raises for a caller's mistake,
never waits.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from forkserve.errors import ListenError
from forkserve.master import story, upgrade, wording
from forkserve.master.generations import Generations
from forkserve.master.reception import Caller, Reception
from forkserve.master.roster import Phase, Worker
from forkserve.master.stacks import Stacks
from forkserve.master.story import Reload
from forkserve.master.succession import Succession
from forkserve.master.supervisor import Supervisor
from forkserve.master.upgrade import Step
from forkserve.net.address import UnixAddress
from forkserve.net.listeners import Listener, open_listeners
from forkserve.ops.control import Command, consent, refusal, socket_path
from forkserve.ops.scoreboard import Scoreboard
from forkserve.ops.snapshot import take_snapshot
from forkserve.proc.channel import Message
from forkserve.settings import Settings
from forkserve.settings.control import AUTO
from forkserve.settings.kinds import MOST_WORKERS
from forkserve.settings.reference import settings_with_origins

_BACKLOG = 64
_NEVER = float("inf")

Answer = dict[str, Any]

_ENDS = "the server is stopping"

# ``again``: whoever asks can ask once more, and comes to the new master.
_SUCCEEDED = {**refusal("this master ends, and another serves. Ask again"), "again": True}


@dataclass(slots=True)
class _Wait:
    """A command whose outcome is not known yet. ``outcome`` returns the answer, once there is
    one."""

    caller: Caller
    outcome: Callable[[], Answer | None]


class Control:
    """The master's side of the control socket. Used by its only thread."""

    def __init__(
        self,
        supervisor: Supervisor,
        generations: Generations,
        succession: Succession,
        feed: Callable[[story.Event], None],
        take_signal: Callable[[signal.Signals], None],
        drains: Callable[[], bool],
        order: Callable[[int, Message], None],
        write_record: Callable[[], None],
        scoreboard: Scoreboard,
    ) -> None:
        """``feed`` lets the supervisor handle an event and all that follows; ``take_signal``
        is what is done about one that comes; ``drains``: most are ignored, as the server is about
        to stop; ``order`` says something to a worker;
        ``write_record`` puts on the ``scoreboard`` what the master knows."""
        self.stacks = Stacks(order)
        self._supervisor = supervisor
        self._generations = generations
        self._succession = succession
        self._feed = feed
        self._take_signal = take_signal
        self._drains = drains
        self._write_record = write_record
        self._scoreboard = scoreboard
        self._warning = ""
        self._reception = Reception()
        self._listener: Listener | None = None
        self._accepts = False
        self._waits: list[_Wait] = []

    # ---- the socket

    def open(self, settings: Settings, environ: Mapping[str, str]) -> None:
        """Bind the socket, or take over that of the master before this one.

        Raises ListenError if there is something in the way of a path that was asked for by name.
        """
        path = socket_path(settings.control_socket, settings.pid, environ)
        if path is None:
            return
        adopted = self._succession.control
        try:
            address = UnixAddress(path, mode=0o600)
            existing = () if adopted is None else (adopted,)
            [self._listener] = open_listeners([address], _BACKLOG, existing)
        except ListenError as error:
            text = f"{error}. It would be the control socket, `control_socket`"
            if settings.control_socket != AUTO:
                raise ListenError(text) from None
            self._warning = settings.explained(f"there is no control socket: {text}")

    def begin(self, epoll: select.epoll) -> None:
        """Listen, as soon as this process is the one that operators talk to."""
        if self._warning:
            self._generations.log.warning("%s", self._warning)
        epoll.register(self._reception.fileno(), select.EPOLLIN)

    def let_go(self) -> None:
        """In a forked child: close what is the master's alone."""
        self.stacks.close()
        self._reception.close()
        for listener in (self._listener, self._succession.control):
            if listener is not None:
                listener.close()

    def close(self) -> None:
        """The master ends. Who still waits is told so; who waits for that end sees its connection
        close when the process is gone, and not before."""
        self._take_turns()
        succeeded = self._succession.progress.step is Step.SUCCEEDED
        self._reception.dismiss(_SUCCEEDED if succeeded else refusal(_ENDS), time.monotonic())
        if self._listener is not None:
            self._listener.unlink()

    def _take_turns(self) -> None:
        """One of two masters accepts: what comes to the other waits in the kernel for that."""
        speaks = self._succession.speaks
        if speaks is self._accepts:
            return
        self._accepts = speaks
        adopted = self._succession.control
        self._succession.control = self._listener
        if speaks:
            if adopted is not None and adopted is not self._listener:
                adopted.shared = False
                adopted.unlink()
                adopted.close()
            if self._listener is not None:
                self._listener.shared = False
                self._reception.open(self._listener)
        elif self._listener is not None:
            self._reception.leave()
            self._listener.shared = True
            self._listener.close()
            self._listener = self._succession.control = None

    # ---- a turn of the loop

    @property
    def due(self) -> float:
        """When ``look`` must be called at the latest."""
        return min(self._reception.due, self.stacks.due)

    def look(self, now: float) -> None:
        """Hear what is asked, and answer what is known."""
        self._take_turns()
        self.stacks.look(now)
        for caller, command in self._reception.look(now):
            self._perform(caller, command, now)
        for wait in self._waits[:]:
            answer = None if wait.caller.gone else wait.outcome()
            if answer is not None:
                self._reception.answer(wait.caller, answer, now)
            if answer is not None or wait.caller.gone:
                self._waits.remove(wait)

    def _perform(self, caller: Caller, command: Command, now: float) -> None:
        if not self._accepts:  # it was accepted before an upgrade was done
            self._reception.answer(caller, _SUCCEEDED, now)
            return
        match command.name:
            case "status" | "ps":
                answer: Answer | None = self._status()
            case "config":
                answer = self._config()
            case "reload":
                answer = self._reload(caller)
            case "upgrade":
                answer = self._upgrade(caller)
            case "scale":
                answer = self._scale(command.workers)
            case "retire":
                answer = self._retire(caller, command.slot)
            case "stack":
                answer = self._stack(caller, command.slot, now)
            case "reopen-logs":
                answer = self._reopen_logs()
            case _:
                answer = self._stop(caller, quick=command.now)
        if answer is not None:
            self._reception.answer(caller, answer, now)

    # ---- what is known at once

    def _status(self) -> Answer:
        self._write_record()
        snapshot = take_snapshot(self._scoreboard, time.monotonic())
        supervisor = self._supervisor
        # What only matters to who can do something about it.
        snapshot["server"].update(
            least=supervisor.strength.least,
            most=supervisor.strength.most,
            serving=len(supervisor.roster.in_phase(Phase.SERVING)),
            upgrade=self._succession.progress.step.name.lower(),
            refusal=supervisor.refusal,
        )
        return {"ok": True, **snapshot}

    def _config(self) -> Answer:
        values = settings_with_origins(self._generations.current.settings)
        return consent("", generation=self._supervisor.generation, settings=values)

    def _scale(self, count: str) -> Answer:
        if self._supervisor.life.ends:
            return refusal(_ENDS)
        before = self._supervisor.wanted
        wanted = int(count) + (before if count[0] in "+-" else 0)
        if not 1 <= wanted <= MOST_WORKERS:
            return refusal(f"{wording.workers(wanted)}? It can have from 1 to {MOST_WORKERS}")
        self._feed(story.Scale(wanted))
        text = wording.moved("scale", before, wanted, wanted, wanted).removeprefix("scale: ")
        return consent(text, before=before, workers=wanted)

    def _reopen_logs(self) -> Answer:
        self._take_signal(signal.SIGUSR1)
        failed = self._generations.not_reopened
        if failed:
            return refusal(f"cannot open {'; '.join(failed)}. What was open stays in use")
        return consent("the master has opened the log files anew, and the workers are told to")

    def _stop(self, caller: Caller, *, quick: bool) -> Answer:
        """The end of the connection is the end of the server."""
        caller.stays = True
        number = signal.SIGQUIT if quick else signal.SIGTERM
        if quick or not self._supervisor.life.ends:  # a second TERM is a quick stop
            self._take_signal(number)
        settings = self._generations.current.settings
        text = f"stopping: requests may finish for {settings.graceful_timeout:g} s"
        if quick:
            text = "stopping now"
        elif not self._supervisor.life.ends and settings.drain_delay:
            text = f"it goes on for up to {settings.drain_delay:g} s (drain_delay), and stops then"
        return consent(text, pid=os.getpid())

    # ---- what is known later

    def _await(self, caller: Caller, outcome: Callable[[], Answer | None]) -> None:
        self._waits.append(_Wait(caller, outcome))

    def _reload(self, caller: Caller) -> Answer | None:
        if self._supervisor.life.ends or self._drains():
            return refusal(_ENDS)
        progress = self._succession.progress
        if progress.step is Step.BOOTING:
            return refusal(upgrade.HUP_REFUSED.format(progress.pid).removeprefix("HUP: refused, "))
        # One that is under way may have read what was there before: then ours is the next.
        own = self._supervisor.loads + 1
        self._take_signal(signal.SIGHUP)

        def outcome() -> Answer | None:
            supervisor = self._supervisor
            if self._supervisor.life.ends:
                return refusal(_ENDS)
            if supervisor.settled < own:
                stuck = supervisor.reload is Reload.ROLLING and supervisor.loads >= own
                if stuck and supervisor.last_failure:
                    return refusal(
                        f"generation {supervisor.generation} is in force, but one of its workers "
                        "could not boot, so those of the one before go on beside it, and it is "
                        f"tried again. {supervisor.last_failure}"
                    )
                return None
            if supervisor.refusal:
                text = f"generation {supervisor.generation} goes on serving unchanged"
                return {**refusal(f"{text}. {supervisor.refusal}"), "reason": supervisor.refusal,
                        "generation": supervisor.generation}  # fmt: skip
            text = f"reloaded, generation {supervisor.generation} serves"
            return consent(text, generation=supervisor.generation)

        self._await(caller, outcome)
        return None

    def _upgrade(self, caller: Caller) -> Answer | None:
        if self._drains():
            return refusal(_ENDS)
        progress = self._succession.progress
        if progress.alive:
            return refusal(upgrade.UNDER_WAY.format(progress.pid).removeprefix("USR2: ignored, "))
        self._take_signal(signal.SIGUSR2)

        def outcome() -> Answer | None:
            if progress.step is Step.SUCCEEDED:
                text = f"process {progress.pid} serves, and this one ({os.getpid()}) ends"
                return consent(text, pid=progress.pid)
            if progress.step is Step.NONE:
                return refusal(f"this process goes on unchanged. {progress.refusal}")
            return refusal(_ENDS) if self._supervisor.life.ends else None

        self._await(caller, outcome)
        return None

    def _retire(self, caller: Caller, slot: int) -> Answer | None:
        worker = self._serving(slot)
        if worker is None:
            return refusal(f"no worker serves in slot {slot}")
        if self._supervisor.wear.paused:
            return refusal("a reload stands refused, so a fresh worker would not boot either")
        roster = self._supervisor.roster
        pause = roster.not_before(slot)  # of an earlier failure
        self._feed(story.Replace(worker.serial))
        before = f"worker {slot} (pid {worker.pid})"

        def outcome() -> Answer | None:
            if self._supervisor.life.ends:
                return refusal(_ENDS)
            if worker.phase is Phase.SERVING and worker.serial in roster.workers:
                if roster.not_before(slot) > pause:
                    return refusal(
                        f"the successor of {before} could not boot, and the error log says why. "
                        "It goes on, and another attempt follows"
                    )
                return None
            now = self._serving(slot)
            if now is None:
                return refusal(
                    f"{before} has ended, and nobody serves in its place yet; the error log says "
                    "why. `forkservectl status` shows who does"
                )
            return consent(f"{before} leaves, and pid {now.pid} serves in its place", pid=now.pid)

        self._await(caller, outcome)
        return None

    def _stack(self, caller: Caller, slot: int, now: float) -> Answer | None:
        # One that serves, if there is one; else the newest: it may be the boot that hangs.
        found = [worker for worker in self._supervisor.roster if worker.slot == slot and worker.pid]
        if not found:
            return refusal(f"there is no worker in slot {slot}")
        worker = self._serving(slot) or found[-1]

        def tell(text: str, why_not: str) -> None:
            if why_not:
                answer = refusal(f"{worker}: {why_not}")
            else:
                answer = consent(text, slot=slot, pid=worker.pid, generation=worker.generation)
            self._reception.answer(caller, answer, time.monotonic())

        booting = worker.phase is Phase.BOOTING
        self.stacks.ask(worker.serial, worker.pid, booting, tell, now)
        return None

    def _serving(self, slot: int) -> Worker | None:
        serving = self._supervisor.roster.in_phase(Phase.SERVING)
        return next((worker for worker in serving if worker.slot == slot), None)
