"""The master's end of the watcher, and of the board: with `reload` only.

The watcher is a process, because to look at files can block. What it says is an event like a
signal; if it ends, the server goes on, and developers are told that a save does nothing now.
"""

import os
import signal
from collections.abc import Callable
from typing import NamedTuple, Protocol

from forkserve.develop.board import Board
from forkserve.develop.reach import public_listener
from forkserve.master import story
from forkserve.master.generation import Generation
from forkserve.master.spawn import fork_child
from forkserve.proc.channel import Channel, Message
from forkserve.proc.signals import describe_status

_BLIND = "Saving a file does nothing now; HUP reloads, and a restart brings the watcher back"


class WatcherSeat(NamedTuple):
    """What a watcher is born with."""

    generation: Generation
    channel: Channel
    master: int  # pid


class Office(Protocol):
    """The shell, as far as it is needed here."""

    def await_words(self, channel: Channel) -> None:
        """Wake up when something is said there, and call ``hear`` then."""

    def happened(self, event: story.Event) -> None:
        """Something that the supervisor has to know."""

    def log(self, level: str, text: str) -> None:
        """For the operator."""


class Lookout:
    """Used by the master's only thread; nothing here blocks. Without `reload` it does nothing."""

    def __init__(
        self, enter: Callable[[WatcherSeat], int] | None = None, board: Board | None = None
    ) -> None:
        """``enter``: what the watcher runs. It returns the exit status."""
        self._enter = enter
        self._board = board
        self._generation: Generation | None = None
        self._channel: Channel | None = None
        self._pid = 0
        self._ready = False
        self._ended = False

    def follow(
        self, generation: Generation, office: Office, let_go: Callable[[Generation], None]
    ) -> None:
        """This generation is in force: watch what its settings say. ``let_go`` closes in the child
        what is the master's alone."""
        before, self._generation = self._generation, generation
        if self._enter is None or self._ended:
            if generation.settings.reload and before is not None and self._enter is None:
                office.log("warning", "`reload` is used only after a restart")
            return
        listener = public_listener(generation.listeners)
        if before is None and listener is not None:
            office.log(
                "warning",
                f"`reload` is on, and {listener.url_of('http')} can be reached from other "
                "machines: who can reach it is shown lines of code that fails",
            )
        if before is None or self._needs(before) != self._needs(generation):
            self._begin(office, let_go)

    def _needs(self, generation: Generation) -> tuple[object, ...]:
        """The settings that a watcher is made for."""
        settings = generation.settings
        return (
            settings.chdir, settings.pythonpath, settings.reload_extra, settings.reload_engine,
            settings.user, settings.group, settings.log_level, settings.log_format,
            generation.error_file,
        )  # fmt: skip

    def _begin(self, office: Office, let_go: Callable[[Generation], None]) -> None:
        """Have a watcher, in the place of the one that there may be."""
        generation, enter = self._generation, self._enter
        assert generation is not None and enter is not None
        self._kill()
        master = os.getpid()
        try:
            self._pid, self._channel = fork_child(
                lambda theirs: enter(WatcherSeat(generation, theirs, master)),
                generation.error_file,
                lambda: let_go(generation),
            )
        except OSError as error:
            office.log("error", f"no watcher can be forked: {error.strerror}. {_BLIND}")
            return
        self._ready = False
        office.await_words(self._channel)

    def hear(self, office: Office, *, heed: bool) -> None:
        """Take what the watcher says. ``heed``: a change is to be loaded; not while another master
        is started, which reads everything anew."""
        if self._channel is None:
            return
        for message, text in self._channel.receive() or ():
            if message is Message.READY:
                self._ready = True
            elif message is Message.FAILED:
                office.log("error", f"nothing is watched: {text}. {_BLIND}")
                self._close()
                return
            elif message is Message.CHANGED and heed:
                office.happened(story.Changed(text))

    def collected(
        self, pid: int, status: int, office: Office, let_go: Callable[[Generation], None]
    ) -> None:
        """A child has ended that is no worker. If it was the watcher, there is a new one; unless it
        came to nothing."""
        if pid != self._pid or self._ended:
            return
        ready = self._ready
        self._close()
        how = describe_status(status)
        if ready:
            office.log("warning", f"the watcher (pid {pid}) died: {how}. A new one takes its place")
            self._begin(office, let_go)
        else:
            office.log("error", f"the watcher (pid {pid}) could not begin: {how}. {_BLIND}")

    def explain(self, reason: str) -> None:
        """Show it to developers, in their browser; "": there is nothing to be shown any more."""
        if self._board is not None:
            self._board.post(reason)

    def end(self) -> None:
        """The server stops."""
        self._ended = True
        self._kill()

    def _kill(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)  # it holds nothing that could be lost
        self._close()

    def _close(self) -> None:
        self._pid = 0
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def let_go(self) -> None:
        """In a forked child: the channel is the master's."""
        if self._channel is not None:
            self._channel.close()
