"""The master's hands: one epoll loop that turns what happens into events, and performs actions.

It waits for signals, for words from the workers, and for the supervisor's next deadline; it never
polls, sleeps or starts a thread. All decisions are the supervisor's.
"""

import gc
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable

from forkserve.master import story
from forkserve.master.channels import Channels
from forkserve.master.control import Control
from forkserve.master.gauge import Gauge
from forkserve.master.generation import Generation, log_killed, plan_of
from forkserve.master.generations import Generations
from forkserve.master.hearing import SIGNALS, event_of
from forkserve.master.hooks import MasterHooks
from forkserve.master.life_signs import LifeSigns
from forkserve.master.lookout import Lookout
from forkserve.master.presence import Presence
from forkserve.master.pulse import Pulse
from forkserve.master.reading import Reading
from forkserve.master.record import Record
from forkserve.master.roster import ROWS, Phase
from forkserve.master.spawn import Entrances, Spawner, fork_child
from forkserve.master.story import Action, Event
from forkserve.master.succession import Succession
from forkserve.master.supervisor import Supervisor
from forkserve.master.watch import CallWatch
from forkserve.ops.logs import LEVELS
from forkserve.ops.scoreboard import Row, Scoreboard
from forkserve.proc.channel import Channel, Message
from forkserve.proc.crash import widen_signal_stack
from forkserve.proc.memory import resident_memory
from forkserve.proc.pidfile import PidFile
from forkserve.proc.signals import SignalQueue, describe_status, meant, reset, unblock_all
from forkserve.settings import Settings

# Woken so much too late, the process was not running: stopped, or the machine suspended.
_OVERSLEPT = 1.0
_NEVER = float("inf")


class Shell:
    """The running master. Used by its only thread."""

    def __init__(
        self, settings: Settings, read_settings: Callable[[], Settings], entrances: Entrances,
        succession: Succession, lookout: Lookout,
    ) -> None:  # fmt: skip
        """``read_settings`` reads them anew for a reload, and raises ForkserveError."""
        self._lookout = lookout
        self._settings = settings
        self._generations = Generations(settings, read_settings, succession.inherited)
        self._succession = succession
        self._supervisor = Supervisor(plan_of(settings))
        self._scoreboard = Scoreboard(ROWS, succession.takers.others_take)
        self._signals = SignalQueue()
        self._epoll = select.epoll()
        self._hooks = MasterHooks(self._generations)
        self._spawner = Spawner(entrances, self._scoreboard, self, self._hooks)
        self._templates = self._spawner.templates
        self._reading = Reading(
            self._generations, self._hooks, entrances.rehearsal, self.happened, self._epoll,
            lambda own, enter: fork_child(enter, own.error_file, lambda: self._let_go(own)),
        )  # fmt: skip
        self._channels = Channels(self._epoll)
        self._by_pid: dict[int, int] = {}  # pid -> serial
        self._rows: dict[int, Row] = {}  # by serial
        self._record = Record(self._scoreboard, time.monotonic())
        self._watch = CallWatch()
        self._pulse = Pulse(lambda serial: self._channels.tell(serial, Message.PING))
        succession.before_launch = self._hooks.launches
        watchdog = succession.watchdog
        self._life_signs = LifeSigns(int(watchdog) / 1e6 if watchdog else None)
        self._gauge = Gauge()
        self._presence = Presence(
            self._supervisor, self._generations, succession,
            lambda own: self._spawner.attend(own, lambda: self._let_go(own)),
            self.await_words, self._perform,
        )  # fmt: skip
        self._control = Control(
            self._supervisor, self._generations, succession, self._feed,
            lambda number: self._presence.take_signal(number, time.monotonic()),
            lambda: self._presence.is_draining,
            self._channels.tell, self._write_record, self._scoreboard,
        )  # fmt: skip
        self._woke = _NEVER  # when its last wait was over
        self._events: deque[Event] = deque()
        self._pid_file: PidFile | None = None
        self._exit_status: int | None = None

    def run(self) -> int:
        """Bind, serve until told to stop, and return the exit status. Raises ForkserveError."""
        if self._settings.pid is not None:
            self._pid_file = PidFile(self._succession.pid_path(self._settings.pid))
            self._pid_file.acquire()
        try:
            self._control.open(self._settings, os.environ)
            self._generations.open_first(self._succession.listeners)
            self._set_up_looks()
            widen_signal_stack()  # of PYTHONFAULTHANDLER and -X dev
            self._signals.listen(meant(SIGNALS))
            unblock_all()  # who started us may have had some blocked
            self._epoll.register(self._signals.fileno(), select.EPOLLIN)
            self._control.begin(self._epoll)
            self._hooks.begin(lambda: self._perform(story.StopListening()))
            self._succession.begin(
                self._epoll, self._supervisor, self._feed, self._perform, self._pid_file,
                lambda: self._generations.current,
            )  # fmt: skip
            # What exists now is shared with the workers; their collectors need not touch it.
            gc.collect()
            gc.freeze()
            self._lookout.follow(self._generations.current, self, self._let_go)
            self._feed(story.Started())
            while (
                self._exit_status is None
                or self._succession.holds()
                or self._presence.holds(time.monotonic())
            ):
                self._wait()
            self._hooks.end()
        finally:
            if self._pid_file is not None:
                self._pid_file.release()
            self._control.close()
            self._generations.close_status()
        if self._exit_status:
            current = self._generations.current.settings
            self._succession.fail(current.explained(self._supervisor.last_failure))
        self._generations.log.info("stopped")
        return self._exit_status

    # ---- events

    def _feed(self, event: Event) -> None:
        """Let the supervisor handle ``event`` and all that follows from it."""
        self._events.append(event)
        while self._events:
            for action in self._supervisor.handle(self._events.popleft(), time.monotonic()):
                self._perform(action)

    def _wait(self) -> None:
        """Wait for the next thing to happen, and hand it on."""
        deadline = self._supervisor.next_deadline()
        due = min(
            self._watch.next_look,
            self._pulse.due,
            self._gauge.next_look,
            self._succession.due,
            self._reading.due,
            self._life_signs.due,
            self._presence.due,
            self._control.due,
            _NEVER if deadline is None else deadline,
        )
        timeout = max(0.0, due - time.monotonic())
        ready = self._epoll.poll(None if due == _NEVER else timeout)
        # Since it was awake before: a process can be stopped at work too, not only while it waits.
        woke, before = time.monotonic(), self._woke
        self._woke = woke
        late = woke - max(due, before)
        if late > _OVERSLEPT:
            self._watch.forgive(self._generations.timeouts, late, woke)
            self._pulse.forgive(late)
            self._succession.forgive(late)
            self._presence.forgive(late)
            self._feed(story.Overslept(late))
        self._templates.hear()  # who a worker is, before it says something
        self._lookout.hear(self, heed=self._succession.due == _NEVER)
        for fd, _ in ready:
            serial = self._channels.serial_of(fd)
            if serial is not None:
                self._converse(serial)
        self._reading.look(woke)
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                self._reap()
            else:
                self._presence.take_signal(number, woke)
        self._succession.look()  # after the signals: one that ends both is not for the next one
        if woke >= self._watch.next_look:
            calls = {serial: row.calls() for serial, row in self._rows.items()}
            for overdue in self._watch.look(calls, self._generations.timeouts, woke):
                self._feed(overdue)
        if woke >= self._pulse.due:
            self._feel_pulse(woke)
        if woke >= self._gauge.next_look:
            self._look(woke)
        self._control.look(woke)
        self._feed(story.Tick())
        self._write_record()
        self._presence.look(woke)
        self._hooks.count(self._supervisor.wanted)
        for lines in self._life_signs.look(self._supervisor, woke):
            self._succession.notifier.notify(*lines)

    def _write_record(self, ended: Row | None = None) -> None:
        current = self._generations.current
        draining, now = self._presence.is_draining, time.monotonic()
        self._record.write(self._supervisor, current, self._rows, now, ended, draining=draining)

    def _feel_pulse(self, now: float) -> None:
        """Ask the workers whether they are there, and see to those that do not answer."""
        serving = self._supervisor.roster.in_phase(Phase.SERVING)
        calls = {it.serial: self._rows[it.serial].calls() for it in serving}
        for silent in self._pulse.look(calls, self._generations.current.settings.timeout, now):
            self._feed(silent)

    def _look(self, now: float) -> None:
        """See what those workers do that have requests."""
        running = frozenset(serial for serial, row in self._rows.items() if row.is_busy())
        for serial in self._gauge.look(running, now):
            self._weigh(serial)
        waiting = sum(item.waiting() for item in self._generations.current.listeners)
        self._feed(story.Looked(running, waiting))

    def _weigh(self, serial: int) -> None:
        worker = self._supervisor.roster.get(serial)
        octets = None if worker is None else resident_memory(worker.pid)
        if octets is not None:
            self._feed(story.Weighed(serial, octets))

    def _converse(self, serial: int) -> None:
        """Hear what a worker says, and say what it did not listen to before."""
        for message, text in self._channels.hear(serial):
            self._pulse.heard(serial)
            if message is Message.BUSY:
                self._gauge.busy(serial, time.monotonic())
            elif message is Message.STACKS:
                self._control.stacks.written(serial)
            event = event_of(message, serial, text)
            if event is not None:
                self._feed(event)
            if message is Message.READY:
                self._weigh(serial)

    def _reap(self) -> None:
        """Collect every child that has ended: workers, and orphans if this is process 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._templates.hear()  # which children are workers
            serial = self._by_pid.pop(pid, None)
            if serial is None:
                self._templates.collected(pid, status)
                self._reading.collected(pid)
                self._lookout.collected(pid, status, self, self._let_go)
                self._presence.attendance.collected(pid, status, time.monotonic())
                self._succession.child_ended(pid, status)
            else:
                self.gone(serial, status)

    # ---- what the spawner tells

    def expected(self, serial: int, pid: int) -> None:
        """The template process ``pid`` is making the worker."""
        self._events.append(story.Forked(serial, pid))

    def born(self, serial: int, pid: int) -> None:
        """The worker is a child of this process."""
        self._by_pid[pid] = serial
        self._hooks.born(self._supervisor.roster.workers[serial], pid)
        self._events.append(story.Forked(serial, pid))

    def gone(self, serial: int, status: int) -> None:
        """The worker has ended, with this wait status."""
        self._converse(serial)  # its last words come before its end
        self._channels.remove(serial)
        self._control.stacks.gone(serial)
        row = self._rows.pop(serial)
        calls = row.calls()
        code = os.waitstatus_to_exitcode(status)
        row.tally().killed(time.monotonic() - call.start for call in calls)
        worker = self._supervisor.roster.get(serial)
        if worker is not None:
            for call in calls:  # it is here that its line is written (I8)
                own = self._generations.get(worker.generation)
                log_killed(own, call, worker, time.monotonic())
            current = self._supervisor.generation
            self._record.ended(worker, code, describe_status(status), current)
        self._write_record(ended=row)
        row.take(0)
        request = " and ".join(call.request for call in calls) or None
        self._hooks.gone(serial)
        self._feed(story.Exited(serial, code, describe_status(status), request))

    def happened(self, event: Event) -> None:
        """Something that the supervisor has to know."""
        self._events.append(event)

    def await_words(self, channel: Channel) -> None:
        """Wake up when something is said on ``channel``."""
        self._epoll.register(channel.fileno(), select.EPOLLIN)

    def log(self, level: str, text: str) -> None:
        """Say it in the error log."""
        if level != "info":
            text = self._generations.current.settings.explained(text)
        self._generations.log.log(LEVELS[level], "%s", text)

    # ---- actions

    def _perform(self, action: Action) -> None:
        match action:
            case story.Spawn():
                self._spawn(action)
            case story.Tell(serial=serial, message=message):
                self._channels.tell(serial, message)
            case story.Kill(serial=serial, pid=pid, signal=number):
                if self._by_pid.get(pid) == serial:  # else it was just collected
                    os.kill(pid, number)
                else:
                    self._templates.kill(serial, number)
            case story.LoadSettings(generation=number):
                self._reading.begin(number)
            case story.Commit(generation=number):
                self._generations.take_up(number)
                self._record.reloads += 1
                self._hooks.in_force()
                self._set_up_looks()
                self._release(number - 1)
                self._lookout.follow(self._generations.current, self, self._let_go)
            case story.Discard(generation=number):
                self._record.refused += 1
                self._release(number)
                self._hooks.in_force()
            case story.StopListening():
                self._succession.takers.take(False)  # before our workers hear of it
                self._lookout.end()
                self._templates.end()
                self._generations.stop_listening()
            case story.ReopenLogs():
                self._templates.reopen()
                self._presence.attendance.reopen_logs()
                self._generations.reopen_logs()
            case story.Notify(lines=lines):
                self._succession.notifier.notify(*lines)
            case story.Announce(text=text, workers=count):
                self._generations.announce(text, count)
            case story.Log(level=level, text=text):
                self.log(level, text)
            case story.Explain(reason=reason):
                self._lookout.explain(reason)
            case story.Exit(status=status):
                self._exit_status = status

    def _spawn(self, action: story.Spawn) -> None:
        row = self._scoreboard.row(action.row)
        generation = self._generations.get(action.generation)
        row.take(generation.settings.threads)
        self._hooks.count(self._supervisor.wanted)
        try:
            channel = self._spawner.spawn(action, generation, lambda: self._let_go(generation))
        except OSError as error:
            reason = f"{error.strerror}. Is a limit of processes, of descriptors or of memory hit?"
            self._events.append(story.ForkFailed(action.serial, reason))
            return
        self._control.stacks.equip(action.serial, channel)
        self._rows[action.serial] = row
        self._channels.add(action.serial, channel)

    def _let_go(self, own: Generation) -> None:
        """In a forked child of generation ``own``: give up what is the master's alone, and the
        sockets of another generation, or they would stay open when that one ends."""
        reset(SIGNALS)
        self._succession.let_go()
        self._control.let_go()
        self._generations.let_go(own)
        self._signals.close()
        self._epoll.close()
        self._channels.let_go()
        self._templates.let_go()
        self._lookout.let_go()
        self._presence.attendance.let_go()
        self._reading.let_go()
        if self._pid_file is not None:
            self._pid_file.close()

    def _release(self, number: int) -> None:
        self._templates.end(number)
        self._generations.release(number)

    def _set_up_looks(self) -> None:
        settings = self._generations.current.settings
        least, most = settings.workers
        self._watch.settings_changed()
        self._pulse.settings_changed()
        self._gauge.set_up(weighs=settings.max_rss is not None, counts=least < most)
