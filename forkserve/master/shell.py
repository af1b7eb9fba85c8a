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
from collections.abc import Callable, Sequence

from forkserve import __version__
from forkserve.errors import ForkserveError
from forkserve.master import story
from forkserve.master.generation import Generation, close_unshared, log_owner, open_generation
from forkserve.master.roster import ROWS, Phase
from forkserve.master.spawn import Seat, fork_worker
from forkserve.master.story import Action, Event, Plan
from forkserve.master.supervisor import Supervisor
from forkserve.net.address import FdAddress
from forkserve.net.listeners import clipped_backlog
from forkserve.net.systemd import Notifier
from forkserve.ops.logs import LEVELS, error_log
from forkserve.ops.scoreboard import Scoreboard
from forkserve.proc.channel import Channel, Message
from forkserve.proc.crash import widen_signal_stack
from forkserve.proc.pidfile import PidFile
from forkserve.proc.signals import SignalQueue, describe_status, reset
from forkserve.proc.title import set_title
from forkserve.settings import Settings

SIGNALS = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN,
    signal.SIGTTOU, signal.SIGWINCH, signal.SIGCHLD,
)  # fmt: skip

# Woken so much too late, the process was not running: stopped, or the machine suspended.
_OVERSLEPT = 1.0


class Shell:
    """The running master. Used by its only thread."""

    def __init__(
        self,
        settings: Settings,
        read_settings: Callable[[], Settings],
        enter_worker: Callable[[Seat], int],
        inherited: Sequence[FdAddress],
        notifier: Notifier,
    ) -> None:
        """``read_settings`` reads them anew for a reload, and raises ForkserveError.

        ``inherited`` are sockets handed in by the service manager; they take the place of `bind`.
        """
        self._settings = settings
        self._read_settings = read_settings
        self._enter_worker = enter_worker
        self._inherited = inherited
        self._notifier = notifier
        self._supervisor = Supervisor(plan_of(settings))
        self._scoreboard = Scoreboard(ROWS)
        self._signals = SignalQueue()
        self._epoll = select.epoll()
        self._channels: dict[int, Channel] = {}  # by serial
        self._by_fd: dict[int, int] = {}  # descriptor of a channel -> serial
        self._by_pid: dict[int, int] = {}  # pid -> serial
        self._generations: dict[int, Generation] = {}
        self._events: deque[Event] = deque()
        self._pid_file: PidFile | None = None
        self._next_watch = 0.0
        self._exit_status: int | None = None

    def run(self) -> int:
        """Bind, serve until told to stop, and return the exit status. Raises ForkserveError."""
        if self._settings.pid is not None:
            self._pid_file = PidFile(self._settings.pid)
            self._pid_file.acquire()
        try:
            generation = open_generation(1, self._settings, self._inherited, None)
            self._take_up(generation)
            widen_signal_stack()  # of PYTHONFAULTHANDLER and -X dev
            self._signals.listen(_signals_to_hear())
            self._epoll.register(self._signals.fileno(), select.EPOLLIN)
            # What exists now is shared with the workers; their collectors need not touch it.
            gc.collect()
            gc.freeze()
            self._feed(story.Started())
            while self._exit_status is None:
                self._wait()
        finally:
            if self._pid_file is not None:
                self._pid_file.release()
        self._log.info("stopped")
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
        now = time.monotonic()
        due = [self._next_watch]
        if (deadline := self._supervisor.next_deadline()) is not None:
            due.append(deadline)
        timeout = max(0.0, min(due) - now)
        ready = self._epoll.poll(None if timeout == float("inf") else timeout)
        late = time.monotonic() - now - timeout
        if late > _OVERSLEPT:
            self._feed(story.Overslept(late))
            self._next_watch = time.monotonic() + late
        for fd, _ in ready:
            if fd in self._by_fd:
                self._hear(self._by_fd[fd])
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                self._reap()
            else:
                self._feed(story.SignalCame(number))
        self._watch_calls(time.monotonic())
        self._feed(story.Tick())

    def _hear(self, serial: int) -> None:
        """Read what a worker says."""
        channel = self._channels[serial]
        messages = channel.receive()
        if messages is None:
            # The worker closed its end, so it is leaving; SIGCHLD tells when it has left.
            self._epoll.unregister(channel.fileno())
            del self._by_fd[channel.fileno()]
            return
        for message, text in messages:
            if message is Message.READY:
                self._feed(story.Ready(serial))
            elif message is Message.FAILED:
                self._feed(story.BootFailed(serial, text))
            elif message is Message.DUE:
                self._feed(story.Due(serial))

    def _reap(self) -> None:
        """Collect every child that has ended: workers, and orphans if this is process 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            serial = self._by_pid.pop(pid, None)
            if serial is None:
                continue
            channel = self._channels[serial]
            if channel.fileno() in self._by_fd:
                self._hear(serial)  # its last words come before its end
            self._by_fd.pop(channel.fileno(), None)
            del self._channels[serial]
            channel.close()
            row = self._scoreboard.row(self._supervisor.roster.workers[serial].row)
            running = row.running
            row.end()
            request = None if running is None else running[1]
            self._feed(story.Exited(serial, describe_status(status), request))

    def _watch_calls(self, now: float) -> None:
        """Report calls past their deadline, and set the time to look again.

        No call that begins after this look can be overdue before now + `timeout`: so this is not
        polling, but one look in each `timeout`, and one at each deadline.
        """
        if now < self._next_watch:
            return
        timeouts = [item.settings.timeout for item in self._generations.values()]
        self._next_watch = now + min((t for t in timeouts if t is not None), default=float("inf"))
        for worker in self._supervisor.roster.in_phase(Phase.SERVING, Phase.RETIRING):
            row = self._scoreboard.row(worker.row)
            deadline, running = row.deadline, row.running
            if not deadline or running is None:
                continue
            if deadline <= now:
                self._feed(story.CallOverdue(worker.serial, now - running[0], running[1]))
            else:
                self._next_watch = min(self._next_watch, deadline)

    # ---- actions

    def _perform(self, action: Action) -> None:
        match action:
            case story.Spawn():
                self._spawn(action)
            case story.Tell(serial=serial, message=message):
                if serial in self._channels:
                    self._channels[serial].send(message)
            case story.Kill(serial=serial, signal=number):
                pid = self._supervisor.roster.workers[serial].pid
                assert pid > 0  # 0 would be this process group
                os.kill(pid, number)
            case story.LoadSettings(generation=number):
                self._load(number)
            case story.Commit(generation=number):
                self._take_up(self._generations[number])
                self._release(self._generations.pop(number - 1))
            case story.Discard(generation=number):
                if number in self._generations:
                    self._release(self._generations.pop(number))
            case story.StopListening():
                for generation in self._generations.values():
                    for listener in generation.listeners:
                        listener.unlink()
                        listener.close()
            case story.ReopenLogs():
                self._reopen_logs()
            case story.Notify(lines=lines):
                self._notifier.notify(*lines)
            case story.Announce():
                self._announce()
            case story.Log(level=level, text=text):
                self._log.log(LEVELS[level], "%s", text)
            case story.Exit(status=status):
                self._exit_status = status

    def _spawn(self, action: story.Spawn) -> None:
        row = self._scoreboard.row(action.row)
        row.end()
        generation = self._generations[action.generation]
        try:
            pid, channel = fork_worker(
                generation,
                action.slot,
                row,
                self._enter_worker,
                lambda: self._let_go(generation),
            )
        except OSError as error:
            reason = f"{error.strerror}. Is a limit of processes, of descriptors or of memory hit?"
            self._events.append(story.ForkFailed(action.serial, reason))
            return
        self._channels[action.serial] = channel
        self._by_fd[channel.fileno()] = action.serial
        self._by_pid[pid] = action.serial
        self._epoll.register(channel.fileno(), select.EPOLLIN)
        self._events.append(story.Forked(action.serial, pid))

    def _let_go(self, own: Generation) -> None:
        """In a forked child of generation ``own``: give up what is the master's alone, and the
        sockets of another generation, or they would stay open when that one ends."""
        reset(SIGNALS)
        del self._generations[own.number]
        for other in self._generations.values():
            close_unshared(other, [own])
        self._signals.close()
        self._epoll.close()
        for channel in self._channels.values():
            channel.close()  # or the other workers would not see the master end
        if self._pid_file is not None:
            self._pid_file.close()

    def _announce(self) -> None:
        generation = self._generations[self._supervisor.generation]
        count = self._supervisor.wanted
        self._log.info(
            "forkserve %s serves %s on %s with %d worker%s",
            __version__,
            generation.settings.app,
            " ".join(listener.url for listener in generation.listeners),
            count,
            "" if count == 1 else "s",
        )

    # ---- generations

    def _load(self, number: int) -> None:
        """Read the settings, and open what they need beyond what is open."""
        try:
            current = self._generations[self._supervisor.generation]
            generation = open_generation(number, self._read_settings(), self._inherited, current)
        except ForkserveError as error:
            self._events.append(story.SettingsRefused(str(error)))
            return
        self._generations[number] = generation
        self._events.append(story.SettingsLoaded(plan_of(generation.settings)))

    def _take_up(self, generation: Generation) -> None:
        """``generation`` is in force, for the master too."""
        settings = generation.settings
        self._generations[generation.number] = generation
        self._log = error_log(generation.error_file, settings.log_level, "master")
        set_title("master", settings.name or settings.app)
        clipped = clipped_backlog(settings.backlog)
        if clipped is not None:
            self._log.warning(
                "backlog is %d, but the kernel allows %d: raise net.core.somaxconn, or lower it",
                settings.backlog, clipped,
            )  # fmt: skip
        if settings.pid != self._settings.pid:
            self._log.warning("a new `pid` is used only after a restart")

    def _release(self, generation: Generation) -> None:
        """Close what no generation uses any more."""
        for listener in close_unshared(generation, list(self._generations.values())):
            listener.unlink()

    def _reopen_logs(self) -> None:
        for generation in self._generations.values():
            settings = generation.settings
            for file in (generation.error_file, generation.access_file):
                if file is not None:
                    try:
                        file.open(*log_owner(settings))
                    except OSError as error:
                        self._log.error(
                            "USR1: %s cannot be opened (%s); the file that was open stays in use",
                            file.path, error.strerror,
                        )  # fmt: skip


def _signals_to_hear() -> list[signal.Signals]:
    """SIGNALS; but in a terminal WINCH says that somebody resizes the window, and no more."""
    terminal = any(os.isatty(fd) for fd in range(3))
    return [number for number in SIGNALS if not (terminal and number == signal.SIGWINCH)]


def plan_of(settings: Settings) -> Plan:
    """What the supervisor needs of the settings."""
    return Plan(settings.workers, settings.boot_timeout, settings.graceful_timeout)
