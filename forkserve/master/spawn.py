"""From the master to a worker: the fork, or the order to a template process; and what a child must
let go of.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from forkserve.errors import EXIT_SOFTWARE, traceback_of
from forkserve.hooks.views import Newborn, Server
from forkserve.master import story
from forkserve.master.generation import Generation
from forkserve.master.hooks import MasterHooks
from forkserve.master.template import Office, Template, Templates
from forkserve.ops.logs import LogFile
from forkserve.ops.scoreboard import Row, Scoreboard
from forkserve.proc import signals
from forkserve.proc.channel import Channel
from forkserve.proc.lifeline import adopt_orphans


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker is born with."""

    generation: Generation
    slot: int
    row: Row
    channel: Channel
    master: int  # pid
    newborn: Newborn | None  # None if a template process has forked it, which knows more of it


@dataclass(frozen=True, slots=True)
class TemplateSeat:
    """What a template process is born with."""

    generation: Generation
    scoreboard: Scoreboard
    channel: Channel
    master: int  # pid
    server: Server  # as the hooks know it


@dataclass(frozen=True, slots=True)
class StatusSeat:
    """What a status process is born with. ``generation`` has the settings and sockets that are its
    own."""

    generation: Generation
    scoreboard: Scoreboard
    channel: Channel
    master: int  # pid


class Entrances(NamedTuple):
    """What the three kinds of children run. Each returns its exit status. ``rehearsal`` returns
    what a fourth kind runs before the settings are read anew, or None if that runs no code and asks
    no other machine."""

    worker: Callable[[Seat], int]
    template: Callable[[TemplateSeat], int]
    status: Callable[[StatusSeat], int]
    rehearsal: Callable[[], Callable[[], str] | None] = lambda: None


class Spawner:
    """Makes workers, each from its generation: by a fork, or with `preload` by its template."""

    def __init__(
        self, entrances: Entrances, scoreboard: Scoreboard, office: Office, hooks: MasterHooks
    ) -> None:
        self._hooks = hooks
        self._entrances = entrances
        self._scoreboard = scoreboard
        self._office = office
        self.templates = Templates(office)

    def spawn(
        self, action: story.Spawn, generation: Generation, let_go: Callable[[], None]
    ) -> Channel:
        """Make a worker, and have ``office`` hear of it, perhaps later. Returns the master's end of
        its channel.

        ``let_go`` runs in a child first: it closes what is the master's alone. Raises OSError if
        the kernel gives no process.
        """
        if generation.settings.preload:
            template = self.templates.get(generation.number)
            if template is None:
                template = self._fork_template(generation, let_go)
            return self.templates.order(template, action)
        seat = (generation, action.slot, self._scoreboard.row(action.row))
        master = os.getpid()
        newborn = self._hooks.newborn(action.serial, action.slot, generation)
        pid, channel = fork_child(
            lambda theirs: self._entrances.worker(Seat(*seat, theirs, master, newborn)),
            generation.error_file,
            let_go,
        )
        self._office.born(action.serial, pid)
        return channel

    def attend(self, generation: Generation, let_go: Callable[[], None]) -> tuple[int, Channel]:
        """Make a status process. Returns its pid and the master's end of its channel; OSError."""
        master = os.getpid()
        return fork_child(
            lambda theirs: self._entrances.status(
                StatusSeat(generation, self._scoreboard, theirs, master)
            ),
            generation.error_file,
            let_go,
        )

    def _fork_template(self, generation: Generation, let_go: Callable[[], None]) -> Template:
        adopt_orphans()
        master = os.getpid()
        server = self._hooks.server
        pid, channel = fork_child(
            lambda theirs: self._entrances.template(
                TemplateSeat(generation, self._scoreboard, theirs, master, server)
            ),
            generation.error_file,
            let_go,
        )
        return self.templates.add(generation.number, pid, channel)


def fork_child(
    enter: Callable[[Channel], int], error_file: LogFile, let_go: Callable[[], None]
) -> tuple[int, Channel]:
    """Fork a child that runs ``enter`` and exits with what it returns.

    Signals are blocked around the fork, and stay so in the child until it has handlers of its own:
    none reaches a handler that belongs to the other process. Returns (pid, the master's end of the
    channel). Raises OSError.
    """
    ours, theirs = Channel.pair()
    with signals.blocked():
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            status = EXIT_SOFTWARE
            try:
                ours.close()
                let_go()
                status = enter(theirs)
            except SystemExit as error:  # of a child of the application that came back to us
                status = error.code if isinstance(error.code, int) else bool(error.code)
            except BaseException as error:  # noqa: BLE001 - nothing may unwind into our frames
                text = f"{traceback_of(error, ())}\n"
                error_file.write(text.encode("utf-8", "backslashreplace"))
            finally:
                os._exit(status & 0xFF)
    theirs.close()
    return pid, ours
