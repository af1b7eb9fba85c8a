"""What a worker is, from the fork to its exit."""

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import TextIOBase
from typing import TYPE_CHECKING, Any, NamedTuple

import forkserve
from forkserve import __version__
from forkserve.develop.board import Board
from forkserve.errors import EXIT_OK
from forkserve.hooks.views import Newborn
from forkserve.net.listeners import Listener
from forkserve.ops.access import AccessLog
from forkserve.ops.logs import LogFile
from forkserve.ops.scoreboard import Row
from forkserve.ops.statsd import LineCounter, StatsD, ToldTally
from forkserve.ops.tally import Tally
from forkserve.proc.channel import Channel, Message
from forkserve.proc.crash import dump_stacks_to
from forkserve.proc.descriptors import allow_descriptors
from forkserve.proc.lifeline import die_with
from forkserve.proc.signals import FOR_MASTER, default_in_children
from forkserve.settings import Settings
from forkserve.worker.crew import Crew
from forkserve.worker.environs import Environs, Name
from forkserve.worker.handoff import HandoffQueue
from forkserve.worker.hooks import WorkerHooks
from forkserve.worker.lead import Lead
from forkserve.worker.logs import LogFiles, worker_logs
from forkserve.worker.loop import Loop
from forkserve.worker.orders import Orders
from forkserve.worker.preface import connector
from forkserve.worker.process import (
    Preloaded,
    capture,
    give_up,
    hear_signals,
    introduce,
    load,
    prepare_process,
    reopen,
    settle_memory,
)
from forkserve.worker.service import Service
from forkserve.worker.stacks import take_stack_file
from forkserve.wsgi.call import Application, Environ
from forkserve.wsgi.environ import listener_environ

if TYPE_CHECKING:
    import ssl

_DESCRIPTORS = 256  # for the application, beside those of the connections and their bodies


class Trim(NamedTuple):
    """What not every worker has.

    ``who``     its name in the log and its title, if it is none of the application's workers
    ``statsd``  who is told of requests, and of lines of the log
    ``front``   puts something in front of the application
    """

    who: str = ""
    statsd: StatsD | None = None
    front: Callable[[Application], Application] = lambda app: app

    def watched(self, log: logging.Logger) -> logging.Logger:
        """The log, whose lines StatsD is told of."""
        if self.statsd is not None:
            log.addFilter(LineCounter(self.statsd))
        return log

    def told(self, tally: Tally) -> Tally:
        """What counts in its place, and tells StatsD."""
        return tally if self.statsd is None else ToldTally(tally, self.statsd)


_PLAIN = Trim()


def run_worker(
    settings: Settings,
    *,
    slot: int,
    generation: int,
    row: Row,
    listeners: Sequence[Listener],
    channel: Channel,
    files: LogFiles,
    log_config: Mapping[str, Any] | None,
    tls: "ssl.SSLContext | None",
    queue: HandoffQueue | None,
    master: int,
    board: Board | None = None,
    newborn: Newborn | None = None,
    preloaded: Preloaded | None = None,
    trim: Trim = _PLAIN,
) -> int:
    """Be a worker. Called in a forked child, with all signals blocked; returns the exit status."""
    signals = hear_signals()
    log = trim.watched(introduce(settings, files, trim.who or f"worker {slot} gen {generation}"))
    hooks = WorkerHooks(settings, log, newborn, slot, preloaded and preloaded.app)
    for close in (channel.close, signals.close, *(it.close for it in listeners)):
        os.register_at_fork(after_in_child=close)
    default_in_children(FOR_MASTER)
    try:
        capture(settings, files)
        hooks.post_fork()
        speaks = slot == 0 and not trim.who  # of what concerns all of the application's workers
        connections, file_room = _share_descriptors(settings, log, warn=speaks)
        settings = _ready(settings, preloaded, master, hooks)
        _show_stacks(files.error, None if trim.who else channel)
        app, targets = preloaded[1:3] if preloaded else load(
            settings, log, log_config, generation, board, speaks)  # fmt: skip
        access, errors = worker_logs(settings, files, log, targets, slot, generation)
        app, cells = trim.front(app), row.cells()
        service = Service(app, settings, Lead(cells[0]), log, access, time.monotonic, file_room)
        service.tally, service.announce = trim.told(row.tally()), channel.send
        service.has_siblings = row.has_siblings
        forkserve.read_chunks_from(service.running_chunks)
        loop = Loop(
            service, listeners,
            Environs(partial(_environ, service, errors, slot, generation), tls=bool(tls)),
            connections, due_after(settings),
            connect=connector(settings, tls), queue=queue, row=row,
        )  # fmt: skip
        os.register_at_fork(after_in_child=loop.let_go)
        hooks.post_worker_init(service)
        reopen_logs = partial(reopen, settings, log, files, speaks=speaks)
        Orders(loop, channel, signals, reopen_logs, hooks.worker_int)
        crew = Crew(service, loop, cells, partial(_leave, hooks, access))
        loop.begin()
    except Exception as error:  # noqa: BLE001 - the master waits to hear why
        hooks.worker_exit()
        return give_up(channel, settings, error)
    settle_memory()
    row.set_serving(True)
    channel.send(Message.READY)
    crew.serve()
    return EXIT_OK


def _ready(
    settings: Settings, preloaded: Preloaded | None, master: int, hooks: WorkerHooks
) -> Settings:
    """Make this process the application's. Raises ForkserveError."""
    settings = prepare_process(settings) if preloaded is None else preloaded.settings
    die_with(master)  # after the change of user, at which the kernel forgets it
    hooks.prepare(settings)
    return settings


def _show_stacks(error_file: LogFile, channel: Channel | None) -> None:
    """Of a crash, and at the master's SIGABRT, when a call is stuck; and to who asks for them by
    ``channel``, if anybody does."""
    dump_stacks_to(error_file)
    take_stack_file(channel)


def _share_descriptors(settings: Settings, log: logging.Logger, *, warn: bool) -> tuple[int, int]:
    """(connections, files of bodies) that can be open at once.

    A quarter of the room is for the files: a body that gets none holds a worker while it comes, or
    goes.
    """
    wanted = settings.worker_connections
    limit = allow_descriptors(wanted + wanted // 2 + _DESCRIPTORS)
    room = max(2, limit - _DESCRIPTORS)
    file_room = min(wanted, room // 4)
    connections = min(wanted, room - file_room)
    if connections < wanted and warn:  # once, and not in each worker
        log.warning(
            "%d descriptors are allowed, so at most %d connections are held, not the %d of "
            "%s: raise the limit (ulimit -n, LimitNOFILE= of the unit, --ulimit nofile= of "
            "Docker), or lower it",
            limit, connections, wanted, settings.named("worker_connections"),
        )  # fmt: skip
    return connections, file_room


def due_after(settings: Settings) -> float:
    """The number of requests after which this worker wants to be replaced."""
    if settings.max_requests is None:
        return float("inf")
    jitter = int.from_bytes(os.urandom(8), "big") % (settings.max_requests_jitter + 1)
    return settings.max_requests + jitter


def _environ(
    service: Service, errors: TextIOBase, slot: int, generation: int, name: Name, tls: bool
) -> Environ:
    environ = listener_environ(
        errors,
        name,
        software=f"forkserve/{__version__}",
        slot=slot,
        generation=generation,
        threads=service.threads,
        tls=tls,
    )
    environ["forkserve.deadline"] = service.set_deadline
    return environ


def _leave(hooks: WorkerHooks, access: AccessLog | None) -> None:
    hooks.worker_exit()
    if access is not None:
        access.end()
    _run_exit_functions()


def _run_exit_functions() -> None:
    """What the interpreter does at its end; os._exit, which a forked child ends with, does not.

    First it waits for the application's threads: `graceful_timeout` bounds that.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the application may have put anything there
            stream.flush()
