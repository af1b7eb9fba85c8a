"""From one master to the next: starts it, adopts what it hands down, and says whose turn it is.

One object serves both sides, since the successor of today is the predecessor of tomorrow. What to
do about a successor is ``upgrade``'s decision; this performs it.
"""

import os
import select
import signal
import socket
import time
from collections.abc import Callable, MutableMapping, Sequence

from forkserve.master import story, upgrade, wording
from forkserve.master.generation import Generation
from forkserve.master.launch import become, inherit, takers_of
from forkserve.master.spawn import fork_child
from forkserve.master.story import Life, Reload
from forkserve.master.supervisor import Supervisor
from forkserve.master.upgrade import Bequest, Upgrade
from forkserve.net.address import FdAddress, UnixAddress, parse_address
from forkserve.net.listeners import Listener, adopt_listener, take_over
from forkserve.net.systemd import Notifier
from forkserve.ops.takers import Takers
from forkserve.proc.channel import Channel, Message
from forkserve.proc.command import Command
from forkserve.proc.pidfile import PidFile, remove_left
from forkserve.proc.signals import ENDING, describe_status

_NEVER = float("inf")

# Of the pid file of a new master, as long as the old one is in charge.
_SECOND = ".2"


class Succession:
    """The master's place in a line of masters. Used by its only thread.

    ``listeners``  what was adopted
    ``inherited``  the sockets from the service manager, which take the place of `bind`
    ``watchdog``   WATCHDOG_USEC, "" if there is none
    ``queue``      both ends of the hand-off queue, to hand on
    ``takers``     whether our workers take from that queue, and whether the other master's do
    ``control``    the control socket: what was adopted, then what is to be handed on
    ``in_charge``  not so as long as the master before this one is the server still
    ``before_launch``  a hook, before an upgrade begins
    """

    def __init__(self, command: Command) -> None:
        """``command``: what to start for an upgrade."""
        self._command = command
        self.notifier = Notifier("")
        self.watchdog = ""
        self.inherited: Sequence[FdAddress] = ()
        self.listeners: list[Listener] = []
        self.queue: tuple[int, int] | None = None
        self.control: Listener | None = None
        self.before_launch: Callable[[], None] = lambda: None
        self._upgrade = Upgrade()
        self._bequest: Bequest | None = None
        self._before: Channel | None = None  # to the master before this one
        self._after: Channel | None = None  # to the one after it
        self.in_charge = True
        self._said_ready = False
        self._term_is_known = False  # this process ends, and another TERM may say the same
        self._renames = False  # the one after this puts its pid file in the place of ours
        self._second = False  # our pid file stands beside that of the master before this one
        self._end_by = _NEVER  # when the master before this one is not waited for any longer

    # ---- the successor: before it runs

    @property
    def is_heir(self) -> bool:
        """Whether there was a master before this one."""
        return self._bequest is not None

    def adopt_from(self, environ: MutableMapping[str, str]) -> None:
        """Be the successor, if it says so. Raises ForkserveError."""
        bequest = upgrade.take_bequest(environ)
        if bequest is None:
            self.takers = Takers.make()
            return
        inherit(bequest)
        self._before = Channel(socket.socket(fileno=bequest.channel))
        self._bequest = bequest
        self.in_charge = False
        self.takers = takers_of(bequest)
        self.watchdog = bequest.watchdog
        self.notifier = Notifier(bequest.notify)
        self.notifier.muted = True
        self.inherited = [FdAddress(fd) for fd in bequest.activated]
        self.queue = bequest.queue
        self.listeners = [
            adopt_listener(parse_address(address), fd, has_file)
            for fd, address, has_file in bequest.listeners
        ]
        if bequest.control is not None:
            fd, path = bequest.control
            self.control = adopt_listener(UnixAddress(path, 0o600), fd, has_file=True)

    def pid_path(self, path: str) -> str:
        """Where to write the pid file that is to be at ``path``."""
        path = os.path.abspath(path)
        self._second = self._bequest is not None and self._bequest.pid_file == path
        return path + _SECOND if self._second else path

    def fail(self, reason: str) -> None:
        """This process cannot take the place of the one before it, if there is one."""
        if self._before is not None and not self.in_charge:
            self._before.send(Message.FAILED, (reason or "It did not say why").splitlines()[0])

    # ---- both, while they run

    @property
    def progress(self) -> Upgrade:
        """How far the upgrade is: to be read."""
        return self._upgrade

    def begin(
        self,
        epoll: select.epoll,
        supervisor: Supervisor,
        feed: Callable[[story.Event], None],
        perform: Callable[[story.Action], None],
        pid_file: PidFile | None,
        current: Callable[[], Generation],
    ) -> None:
        """``current`` gives the generation in force."""
        self._epoll = epoll
        self._supervisor = supervisor
        self._feed = feed
        self._perform = perform
        self._pid_file = pid_file
        self._current = current
        if self._before is not None:
            epoll.register(self._before.fileno(), select.EPOLLIN)

    @property
    def speaks(self) -> bool:
        """Whether this master, and no other, is the server to the outside."""
        return self.in_charge and self._upgrade.step is not upgrade.Step.SUCCEEDED

    @property
    def due(self) -> float:
        """When ``look`` must be called at the latest."""
        deadline = self._upgrade.deadline
        return min(self._end_by, _NEVER if deadline is None else deadline)

    def holds(self) -> bool:
        """Whether this process, whose own work is done, has another to wait for."""
        if self._upgrade.alive:
            return True
        if self._before is None or self._bequest is None or not self.in_charge:
            return False
        if self._end_by == _NEVER:
            longer = max(self._current().settings.graceful_timeout, self._bequest.graceful)
            self._end_by = time.monotonic() + longer
        return time.monotonic() < self._end_by

    def take_signal(self, number: signal.Signals) -> None:
        """A signal came: decide, or let the supervisor."""
        if number == signal.SIGTERM and self._term_is_known:
            self._term_is_known = False
            self._perform(story.Log("info", upgrade.ENDING_ALREADY))
            return
        if number in ENDING and self._before is not None and self._bequest is not None:
            if self.in_charge:
                self._before.send(self._word(number))
            else:
                self.fail(upgrade.CALLED_OFF)
                if number == signal.SIGTERM and self._supervisor.life is Life.UP:
                    # What is served here already is for the other one's workers.
                    self._term_is_known = True
                    self._feed(story.Succeeded(self._bequest.master))
                    return
        self._tell(story.SignalCame(number))

    def look(self) -> None:
        """Hear what the neighbours say, and see to the time."""
        if self._before is not None:
            self._hear_predecessor(self._before)
        if self._after is not None:
            self._hear_successor(self._after)
        self._tell(story.Tick())

    def forgive(self, seconds: float) -> None:
        """This process did not run for so long."""
        self._upgrade.forgive(seconds)

    def child_ended(self, pid: int, status: int) -> None:
        """A child was collected that is no worker."""
        if pid == self._upgrade.pid:
            if self._after is not None:
                self._hear_successor(self._after, dead=True)  # its last words
            self._close_after()
            self._tell(upgrade.Gone(describe_status(status)))

    def let_go(self) -> None:
        """In a forked child: close what is the master's alone."""
        for channel in (self._before, self._after):
            if channel is not None:
                channel.close()
        if self.takers.fd >= 0:
            os.close(self.takers.fd)  # it stays mapped
        for listener in self.listeners:
            if listener not in self._current().sockets:
                listener.close()

    # ---- the old one

    def _tell(self, event: upgrade.Event) -> None:
        settings = self._current().settings
        actions = self._upgrade.handle(
            event,
            time.monotonic(),
            obstacle=self._obstacle(),
            boot_timeout=settings.boot_timeout,
            graceful_timeout=settings.graceful_timeout,
        )
        for action in actions:
            self._do(action)

    def _obstacle(self) -> str:
        """Why there can be no upgrade now, "" if there can."""
        if os.getpid() == 1:
            return upgrade.IS_PROCESS_1
        if self._supervisor.life is Life.STARTING:
            return "this process does not serve yet. Send USR2 again when it does"
        if self._supervisor.life is not Life.UP:
            return "this process is stopping"
        if self._supervisor.reload is not Reload.NONE:
            return "a reload is under way. Send USR2 again when that is done"
        if self._before is not None:
            return "the process before this one has not ended yet. Send USR2 again when it has"
        return ""

    def _do(self, action: upgrade.Action) -> None:
        match action:
            case story.Log():
                self._perform(action)
            case upgrade.Pass(signal=number):
                self._feed(story.SignalCame(number))
            case upgrade.Send(signal=number):
                os.kill(self._upgrade.pid, number)
            case upgrade.Order(signal=number) if self._after is not None:
                self._after.send(self._word(number))
            case upgrade.Dismiss() if self._after is not None:
                self._after.send(Message.RETIRE)
            case upgrade.Launch():
                self._launch()
            case upgrade.HandOver():
                self._hand_over()
            case upgrade.CleanUp() if self._pid_file is not None:
                remove_left(self._pid_file.path + _SECOND)  # one that was killed has left it
            case upgrade.HeedReload(status=status):
                self.notifier.notify(*wording.reloading(time.monotonic(), status))
                self.notifier.notify("READY=1", f"STATUS={status}")

    def _word(self, number: signal.Signals) -> Message:
        """What a signal that ends this process is for the other one."""
        gently = number == signal.SIGTERM and not self._supervisor.life.ends
        return Message.STOP if gently else Message.QUIT

    def _launch(self) -> None:
        """Fork, and become the successor there."""
        self.before_launch()
        master = os.getpid()
        try:
            # Its signals stay blocked through the exec, until it has handlers of its own.
            pid, self._after = fork_child(
                lambda theirs: become(self._command, self._bequeath(master, theirs), theirs),
                self._current().error_file,
                lambda: None,
            )
        except OSError as error:
            self._tell(upgrade.LaunchFailed(f"It could not be forked: {error.strerror}"))
            return
        self._epoll.register(self._after.fileno(), select.EPOLLIN)
        self._tell(upgrade.Launched(pid))

    def _bequeath(self, master: int, channel: Channel) -> Bequest:
        control = self.control
        return Bequest(
            master=master,
            channel=channel.fileno(),
            listeners=tuple(
                (listener.socket.fileno(), str(listener.address), listener.has_file)
                for listener in self._current().sockets
                if listener.is_reachable()
            ),
            activated=tuple(address.fd for address in self.inherited),
            queue=self.queue,
            takers=(self.takers.fd, self.takers.next_place),
            graceful=self._current().settings.graceful_timeout,
            pid_file="" if self._pid_file is None else self._pid_file.path,
            notify=self.notifier.path,
            watchdog=self.watchdog,
            control=None if control is None else (control.socket.fileno(), control.name[0]),
        )

    def _hear_successor(self, channel: Channel, *, dead: bool = False) -> None:
        messages = channel.receive() or []
        rest = channel.receive()  # the end of the channel, too
        messages += rest or []
        ends = dead or rest is None or any(message is Message.FAILED for message, _ in messages)
        for message, text in messages:
            if message is Message.READY and not ends:
                self._renames = bool(text)
                self._tell(upgrade.SaidReady())
            elif message is Message.FAILED:
                self._tell(upgrade.SaidFailed(text))
            elif message in (Message.STOP, Message.QUIT):
                self._tell(upgrade.SaidStop(quick=message is Message.QUIT))
                self._stop_workers()
                if message is Message.QUIT and self._supervisor.life is not Life.QUITTING:
                    self._feed(story.SignalCame(signal.SIGQUIT))
        if rest is None:
            self._close_after()  # SIGCHLD tells how it ended

    def _close_after(self) -> None:
        if self._after is not None:
            self._epoll.unregister(self._after.fileno())
            self._after.close()
            self._after = None
            self.takers.forget()
            if self._upgrade.step is upgrade.Step.SUCCEEDED:
                self._stop_workers()

    def _stop_workers(self) -> None:
        """Those of the other master do not go on: ours, if they retire, serve what waits."""
        if self._supervisor.life is Life.STOPPING:
            for worker in self._supervisor.roster:
                self._perform(story.Tell(worker.serial, Message.STOP))

    def _hand_over(self) -> None:
        """The order matters: who speaks for the service is known before the successor speaks."""
        assert self._after is not None
        pid = self._upgrade.pid
        if self._renames and self._pid_file is not None:
            self._pid_file.leave_to_successor()
        for listener in self._current().sockets:
            listener.shared = True
        self.notifier.notify(f"MAINPID={pid}", "STATUS=serving, upgraded")
        self.notifier.muted = True
        self._after.send(Message.YOURS)
        self._feed(story.Succeeded(pid))

    # ---- the new one

    def _hear_predecessor(self, channel: Channel) -> None:
        assert self._bequest is not None
        messages = channel.receive()
        for message, _ in messages or ():
            if message is Message.YOURS:
                self._take_charge("takes the place of")
                if self._supervisor.life.ends:  # the other one had not heard of that: both end
                    channel.send(Message.STOP)
                    self._stop_workers()
            elif message is Message.RETIRE:
                self._term_is_known = True
                self._feed(story.Succeeded(self._bequest.master))
            elif message is Message.STOP and not self._supervisor.life.ends:
                self._term_is_known = True
                self._feed(story.SignalCame(signal.SIGTERM))
            elif message is Message.QUIT and self._supervisor.life is not Life.QUITTING:
                self._feed(story.SignalCame(signal.SIGQUIT))
        if messages is None:
            self._epoll.unregister(channel.fileno())
            channel.close()
            self._before = None
            self.takers.forget()
            if not self.in_charge:
                self._stop_workers()
                self._take_charge("outlives" if self._supervisor.life.ends else "goes on without")
            self._perform(story.Log("info", upgrade.DONE.format(self._bequest.master)))
        elif not self._said_ready and self._supervisor.is_complete:
            self._said_ready = True
            self.takers.take(True)
            channel.send(Message.READY, "pid file" if self._second else "")

    def _take_charge(self, how: str) -> None:
        assert self._bequest is not None
        self.in_charge = True
        self._perform(story.Log("info", f"USR2: this process {how} process {self._bequest.master}"))
        if self._pid_file is not None and self._second:
            try:
                self._pid_file.move_to(self._bequest.pid_file)
            except OSError as error:
                text = f"cannot move the pid file to {self._bequest.pid_file}: {error.strerror}"
                self._perform(story.Log("error", text))
        goes_on, current = not self._supervisor.life.ends, self._current()
        take_over(self.listeners, current.sockets if goes_on else current.status)
        self.listeners = []
        self.takers.take(goes_on)
        self.notifier.muted = False
        if goes_on:
            self.notifier.notify("STATUS=serving, upgraded", "WATCHDOG=1")
        else:
            self.notifier.notify("STOPPING=1", "STATUS=stopping")
