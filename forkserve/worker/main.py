"""What a worker is, from the fork to its exit."""

import atexit
import contextlib
import gc
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from io import TextIOBase
from typing import TYPE_CHECKING, Any, NamedTuple

import forkserve
from forkserve import __version__
from forkserve.apploader import load_application
from forkserve.develop.board import Board
from forkserve.errors import EXIT_FAILED, EXIT_OK, ForkserveError, in_a_line, traceback_of, why_not
from forkserve.hooks.views import Newborn
from forkserve.net.listeners import Listener
from forkserve.ops.capture import capture_output
from forkserve.ops.log_config import Targets
from forkserve.ops.logs import LogFile
from forkserve.ops.scoreboard import Row
from forkserve.ops.statsd import LineCounter, StatsD, ToldTally
from forkserve.ops.tally import Tally
from forkserve.proc.channel import Channel, Message
from forkserve.proc.crash import dump_stacks_to
from forkserve.proc.descriptors import allow_descriptors
from forkserve.proc.lifeline import die_with
from forkserve.proc.privileges import drop_privileges
from forkserve.proc.signals import FOR_MASTER, SignalQueue, default_in_children, unblock_all
from forkserve.proc.title import set_title
from forkserve.settings import Settings
from forkserve.worker.crew import Crew
from forkserve.worker.debug import debug_warning
from forkserve.worker.environs import Environs, Name
from forkserve.worker.handoff import HandoffQueue
from forkserve.worker.hooks import WorkerHooks
from forkserve.worker.lead import Lead
from forkserve.worker.logs import LogFiles, configure_logging, first_log, worker_logs
from forkserve.worker.loop import Loop
from forkserve.worker.preface import connector
from forkserve.worker.service import Service
from forkserve.worker.stacks import take_stack_file
from forkserve.wsgi.call import Application, Environ
from forkserve.wsgi.chunked import install_uwsgi_module
from forkserve.wsgi.environ import listener_environ

if TYPE_CHECKING:
    import ssl

_DESCRIPTORS = 256  # for the application, beside those of the connections and their bodies
_USABLE = os.R_OK | os.W_OK | os.X_OK


class Preloaded(NamedTuple):
    """What a template process has made before it forks its workers."""

    settings: Settings  # as ``prepare_process`` returned them
    app: Callable[..., Any]
    targets: Targets | None  # of `log_config`
    newborn: Newborn | None = None  # as the template process sees this worker


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
    signals = _hear_signals()
    log = _introduce(settings, trim, files, f"worker {slot} gen {generation}")
    hooks = WorkerHooks(settings, log, newborn, slot)
    for close in (channel.close, signals.close, *(it.close for it in listeners)):
        os.register_at_fork(after_in_child=close)
    default_in_children(FOR_MASTER)
    try:
        _capture(settings, files)
        hooks.post_fork()
        speaks = slot == 0 and not trim.who  # of what concerns all of the application's workers
        connections, file_room = _share_descriptors(settings, log, warn=speaks)
        settings = _ready(settings, preloaded, master, hooks)
        _show_stacks(files.error, None if trim.who else channel)
        app, targets = preloaded[1:3] if preloaded else load(
            settings, log, log_config, generation, board, speaks
        )  # fmt: skip
        access, errors = worker_logs(settings, files, log, targets, slot, generation)
        cells = row.cells()
        app = trim.front(app)
        service = Service(app, settings, Lead(cells[0]), log, access, time.monotonic, file_room)
        service.tally = trim.told(row.tally())
        forkserve.read_chunks_from(service.running_chunks)
        loop = Loop(
            service, listeners,
            Environs(partial(_environ, service, errors, slot, generation), tls=bool(tls)),
            connections, due_after(settings),
            connect=connector(settings, tls), queue=queue, row=row,
        )  # fmt: skip
        os.register_at_fork(after_in_child=loop.let_go)
        hooks.post_worker_init(service)
        loop.listen_to(channel, signals, partial(_reopen, settings, log, files))
        crew = Crew(service, loop, cells, channel.send, partial(_leave, hooks))
        loop.begin()
    except Exception as error:  # noqa: BLE001 - the master waits to hear why
        hooks.worker_exit()
        return give_up(channel, settings, error)
    _freeze()
    row.set_serving(True)
    channel.send(Message.READY)
    crew.serve()
    return EXIT_OK


def _introduce(settings: Settings, trim: Trim, files: LogFiles, who: str) -> logging.Logger:
    """Have a title, and a log that says who writes."""
    who = trim.who or who
    set_title(who, settings.name or settings.app)
    return trim.watched(first_log(settings, files, who))


def load(
    settings: Settings,
    log: logging.Logger,
    log_config: Mapping[str, Any] | None,
    generation: int,
    board: Board | None,
    speaks: bool,
) -> tuple[Callable[..., Any], Targets | None]:
    """The application, as it is to be served, and what `log_config` has made before it.

    ``board``: with `reload`; ``speaks``: this process is the one that tells what concerns them all.
    Raises ForkserveError.
    """
    targets = configure_logging(settings, log_config)
    if board is None and not settings.debugger:
        app = load_application(settings.app)
        warning = debug_warning(app) if speaks else None
        if warning is not None:
            log.warning("%s", warning)
        return app, targets
    from forkserve.develop.application import load_for_development  # only for who develops

    return load_for_development(settings, generation, board, log, speaks=speaks), targets


def _freeze() -> None:
    """What exists now stays: nobody need look at it again, or write to its shared pages."""
    gc.collect()
    gc.freeze()


def _hear_signals() -> SignalQueue:
    lead_a_session()
    signals = SignalQueue()
    # Also those about which nothing is done: their default action would end or stop the process.
    signals.listen(FOR_MASTER)
    unblock_all()
    return signals


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


def give_up(channel: Channel, settings: Settings, error: Exception) -> int:
    """Tell the master why there is no worker, or no template process. Returns the exit status."""
    if isinstance(error, ForkserveError):
        channel.send(Message.FAILED, error.report(settings.explained))
        return error.exit_status
    channel.send(Message.FAILED, f"{in_a_line(error)}\n{traceback_of(error, ())}")
    return EXIT_FAILED


def lead_a_session() -> None:
    """Have a session of one's own: Ctrl-C at the terminal is for the master, which tells all."""
    if os.getsid(0) != os.getpid():
        os.setsid()


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


def reopen(log: logging.Logger, *files: LogFile | None) -> None:
    """Open the log files anew."""
    for file in files:
        if file is not None:
            try:
                file.open()
            except OSError as error:
                log.error(
                    "USR1: cannot open %s. What was open stays in use", why_not(file.path, error)
                )


def prepare_process(settings: Settings) -> Settings:
    """Make this process one that the application can be imported in: user, umask, environment,
    working directory and module path are what the settings say.

    Returns them with paths that stay right if the application then changes the working directory.
    Raises ForkserveError.
    """
    drop_privileges(settings.user, settings.group)
    if settings.umask is not None:
        os.umask(settings.umask)
    for assignment in settings.env:
        name, _, value = assignment.partition("=")
        os.environ[name] = value
    if settings.chdir is not None:
        try:
            os.chdir(settings.chdir)
        except OSError as error:
            raise ForkserveError(
                f"cannot change to the directory {settings.chdir} (`chdir`): {error.strerror}. It "
                f"must be there, and user {os.geteuid()} may enter it"
            ) from None
    try:
        directory = os.getcwd()
    except OSError:
        raise ForkserveError(
            "the working directory is gone: somebody has removed it, or put another in its place, "
            "since the start. Start forkserve anew, or set `chdir` to a path that a deploy keeps"
        ) from None
    tmp_dir = settings.tmp_dir
    if tmp_dir is not None and not (os.path.isdir(tmp_dir) and os.access(tmp_dir, _USABLE)):
        raise ForkserveError(
            f"the directory {tmp_dir} (`tmp_dir`) is not there, or user {os.geteuid()} cannot "
            "write in it: bodies are collected there. Make it, or name another"
        )
    sys.path[:0] = [directory, *(os.path.abspath(path) for path in settings.pythonpath)]
    if settings.uwsgi_api:
        install_uwsgi_module()
    # Modules may have come since the master looked.
    importlib.invalidate_caches()
    return settings if tmp_dir is None else replace(settings, tmp_dir=os.path.abspath(tmp_dir))


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


def _capture(settings: Settings, files: LogFiles) -> None:
    if settings.capture_output:
        capture_output(*files)


def _reopen(settings: Settings, log: logging.Logger, files: LogFiles) -> None:
    reopen(log, *files)
    _capture(settings, files)


def _leave(hooks: WorkerHooks) -> None:
    hooks.worker_exit()
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
