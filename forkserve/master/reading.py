"""How the settings of a reload are read, when that runs code or asks other machines: in a child
first.

Nothing waits for the child but the reload: while it runs, the master does all else. TOML without
hooks, and without names of other machines, is read at once.
"""

import os
import select
import signal
import time
from collections.abc import Callable

from forkserve.errors import EXIT_FAILED, EXIT_OK, ForkserveError, in_a_line
from forkserve.master import story
from forkserve.master.generation import Generation
from forkserve.master.generations import Generations
from forkserve.master.hooks import MasterHooks
from forkserve.net import lookup
from forkserve.proc.channel import Channel, Message
from forkserve.proc.lifeline import die_with
from forkserve.proc.signals import unblock_all
from forkserve.rehearsal import be_silent, too_long

_NEVER = float("inf")
_WHAT = "the configuration file"


class Reading:
    """Used by the master's only thread. ``due``: when ``look`` must be called at the latest."""

    def __init__(
        self,
        generations: Generations,
        hooks: MasterHooks,
        rehearsal: Callable[[], Callable[[], str] | None],
        happened: Callable[[story.Event], None],
        epoll: select.epoll,
        fork: Callable[[Generation, Callable[[Channel], int]], tuple[int, Channel]],
    ) -> None:
        """``rehearsal`` returns what is to be run in a child, None if nothing is; ``fork`` forks
        one; ``happened`` is told how it went."""
        self._generations = generations
        self._hooks = hooks
        self._rehearsal = rehearsal
        self._fork = fork
        self._happened = happened
        self._epoll = epoll
        self._channel: Channel | None = None
        self._pid = 0
        self._number = 0
        self.due = _NEVER

    def begin(self, number: int) -> None:
        """Read the settings of generation ``number``."""
        run = self._rehearsal()
        if run is None:
            lookup.take("")
            self._happened(self._load(number))
            return
        self._number = number
        master = os.getpid()
        try:
            self._pid, self._channel = self._fork(
                self._generations.current, lambda theirs: _rehearse(run, theirs, master)
            )
        except OSError as error:
            self._happened(story.SettingsRefused(f"no process to try it in: {error.strerror}"))
            return
        self.due = time.monotonic() + self._generations.current.settings.boot_timeout
        self._epoll.register(self._channel.fileno(), select.EPOLLIN)

    def look(self, now: float) -> None:
        """Hear what the child says, or has said."""
        if self._channel is None:
            return
        messages = self._channel.receive()
        if messages == [] and self._pid and now < self.due:
            return
        if messages == [] and self._pid:
            os.kill(self._pid, signal.SIGKILL)
            seconds = self._generations.current.settings.boot_timeout
            event: story.Event = story.SettingsRefused(too_long(_WHAT, seconds))
        elif not messages:
            event = story.SettingsRefused(f"{_WHAT} ended the process in which it was tried")
        elif messages[0][0] is Message.READY:
            lookup.take(messages[0][1])
            event = self._load(self._number)
        else:
            event = story.SettingsRefused(messages[0][1])
        self.let_go()
        self.due = _NEVER
        self._happened(event)

    def collected(self, pid: int) -> None:
        """A child has ended. Its channel does not tell that, if the file has left a process behind
        that holds it; and the number of the child is no longer its own."""
        if pid == self._pid:
            self._pid = 0
            if self._channel is not None:
                self.due = 0.0

    def _load(self, number: int) -> story.Event:
        event = self._generations.load(number)
        if isinstance(event, story.SettingsLoaded):
            self._hooks.reloads(number)
        return event

    def let_go(self) -> None:
        """Close what is the master's alone."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _rehearse(run: Callable[[], str], channel: Channel, master: int) -> int:
    """What the child does. Returns its exit status."""
    unblock_all()
    die_with(master)
    be_silent()
    try:
        found = run()
    except ForkserveError as error:
        channel.send(Message.FAILED, error.report())
        return EXIT_FAILED
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary of a reload
        channel.send(Message.FAILED, in_a_line(error))
        return EXIT_FAILED
    channel.send(Message.READY, found)
    return EXIT_OK
