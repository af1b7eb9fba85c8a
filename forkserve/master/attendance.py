"""The status process as a real one: forks it, hears it, and performs what ``attendant`` decides."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace

from forkserve.master.attendant import Action, Attendant, Dismiss, End, Start
from forkserve.master.generation import Generation
from forkserve.master.story import Life, Log
from forkserve.net.listeners import Listener
from forkserve.net.peers import NOBODY
from forkserve.proc.channel import Channel, Message
from forkserve.proc.signals import describe_status
from forkserve.settings import Settings

# What a few load balancers, a Prometheus and some browsers need.
_CONNECTIONS = 256
_LARGEST_BODY = 1 << 16
_PATIENCE = 2.0
"""Seconds for what clients send and take, all of which is short: or so many who say half of what
they want keep those out who ask whether the server is ready."""


@dataclass(frozen=True, slots=True)
class Concern:
    """All that a status process depends on: it is replaced when this changes."""

    settings: Settings
    listeners: tuple[Listener, ...]


@dataclass(slots=True)
class _Process:
    pid: int
    channel: Channel
    hears: bool = True  # it has not closed its end


class Attendance:
    """Used by the master's only thread; nothing here blocks."""

    def __init__(
        self,
        fork: Callable[[Generation], tuple[int, Channel]],
        await_words: Callable[[Channel], None],
        perform: Callable[[Log], None],
    ) -> None:
        """``fork``: make one, and return its pid and the master's end of its channel; OSError.

        ``await_words``: wake up when something is said there. ``perform``: say it in the log.
        """
        self._fork = fork
        self._await_words = await_words
        self._log = perform
        self._attendant = Attendant()
        self._processes: dict[int, _Process] = {}  # by serial
        self._concern: Concern | None = None
        self._generation: Generation | None = None
        self._leaving = False

    @property
    def due(self) -> float:
        """When ``look`` must be called at the latest."""
        return self._attendant.due

    def look(self, generation: Generation, now: float, *, speaks: bool) -> None:
        """Hear what is said, and see that there is one if there should be.

        ``generation``: the one in force. ``speaks``: this master, and no other, is the server to
        the outside: while two are there, one answers.
        """
        if generation is not self._generation or speaks == (self._concern is None):
            self._generation = generation
            concern = concern_of(generation) if speaks and not self._leaving else None
            if concern != self._concern:
                self._concern = concern
                self._attendant.want(concern is not None)
        for serial, process in self._processes.items():
            self._hear(serial, process)
        self._balance(now)

    def forgive(self, seconds: float) -> None:
        """This process did not run for so long."""
        self._attendant.forgive(seconds)

    def collected(self, pid: int, status: int, now: float) -> bool:
        """A child was collected. Whether it was one of these."""
        for serial, process in self._processes.items():
            if process.pid == pid:
                self._hear(serial, process)  # its last words
                process.channel.close()
                del self._processes[serial]
                self._say(self._attendant.died(serial, describe_status(status), now))
                return True
        return False

    def holds(self, life: Life, now: float) -> bool:
        """The workers are gone: it goes too. Whether it has to be waited for."""
        if not self._leaving:
            self._leaving = True
            self._concern = None
            self._attendant.want(False)
            self._balance(now, quick=True)
            if life is Life.QUITTING:
                for process in self._processes.values():
                    os.kill(process.pid, signal.SIGKILL)
        return bool(self._attendant.alive)

    def reopen_logs(self) -> None:
        """USR1."""
        for process in self._processes.values():
            process.channel.send(Message.REOPEN)

    def let_go(self) -> None:
        """In a forked child: close what is the master's alone."""
        for process in self._processes.values():
            process.channel.close()

    # ---- what the table says

    def _balance(self, now: float, *, quick: bool = False) -> None:
        for action in self._attendant.balance(now, quick=quick):
            self._perform(action, now)

    def _perform(self, action: Action, now: float) -> None:
        match action:
            case Start(serial=serial):
                self._start(serial, now)
            case Dismiss(serial=serial, now=at_once):
                order = Message.QUIT if at_once else Message.RETIRE
                self._processes[serial].channel.send(order)
            case End(serial=serial):
                os.kill(self._processes[serial].pid, signal.SIGKILL)
            case Log():
                self._say(action)

    def _start(self, serial: int, now: float) -> None:
        assert self._generation is not None and self._concern is not None
        own = replace(
            self._generation,
            settings=self._concern.settings,
            listeners=self._concern.listeners,
            status=(),
            access_file=None,
            tls=None,
        )
        try:
            pid, channel = self._fork(own)
        except OSError as error:
            self._say(self._attendant.not_started(serial, error.strerror or str(error), now))
            return
        self._processes[serial] = _Process(pid, channel)
        self._attendant.started(serial, pid)
        self._await_words(channel)

    def _hear(self, serial: int, process: _Process) -> None:
        process.channel.flush()
        messages = process.channel.receive() if process.hears else ()
        if messages is None:
            # SIGCHLD tells when it has left. Its end of the channel would be reported for ever.
            process.hears = False
            process.channel.close()
            return
        for message, text in messages:
            if message is Message.READY:
                self._attendant.ready(serial)
            elif message is Message.FAILED:
                self._attendant.failed(serial, text)
            elif message is Message.LEAVING:
                self._say(self._attendant.leaving(serial))

    def _say(self, line: Log | None) -> None:
        if line is not None:
            self._log(line)


def concern_of(generation: Generation) -> Concern | None:
    """What its status process depends on, None if there is to be none."""
    settings = generation.settings
    if not generation.status:
        return None
    own = Settings(
        app=settings.app,
        bind=settings.status,
        status=settings.status,
        worker_connections=_CONNECTIONS,
        max_body=_LARGEST_BODY,
        head_timeout=_PATIENCE,
        body_timeout=_PATIENCE,
        write_timeout=_PATIENCE,
        # A page in a browser on this machine may send any field, and none may change the host that
        # it has asked for (see ops/status.py).
        forwarded_allow_ips=(NOBODY,),
        user=settings.user,
        group=settings.group,
        umask=settings.umask,
        name=settings.name,
        tmp_dir=settings.tmp_dir,
        error_logfile=settings.error_logfile,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )
    return Concern(own, tuple(generation.status))
