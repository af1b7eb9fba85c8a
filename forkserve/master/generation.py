"""A generation: one load of the settings, and what it holds open.

What two generations have in common (a socket of the same address, a log of the same path) is one
object in both, so that a reload closes nothing that goes on being used.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from forkserve.develop.reach import public_listener
from forkserve.errors import ForkserveError, in_a_line, traceback_of, why_not
from forkserve.hooks.calling import look_up
from forkserve.hooks.views import Configuration
from forkserve.master.roster import Worker
from forkserve.master.story import Plan
from forkserve.net.address import FdAddress
from forkserve.net.listeners import Listener, open_listeners
from forkserve.net.syslog import parse_syslog
from forkserve.ops.access import Access, AccessLog
from forkserve.ops.log_config import read_log_config
from forkserve.ops.logs import LogFile
from forkserve.ops.scoreboard import Call
from forkserve.ops.statsd import StatsD, open_statsd
from forkserve.ops.syslog import Syslog
from forkserve.proc.memory import usable_memory
from forkserve.proc.strays import strays_end_here
from forkserve.settings import Settings
from forkserve.settings.development import public

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Generation:
    """What all workers of one generation share."""

    number: int
    settings: Settings
    listeners: Sequence[Listener]
    error_file: LogFile
    access_file: LogFile | None
    tls: "ssl.SSLContext | None" = None
    log_config: Mapping[str, Any] | None = None
    unfit: str | None = None  # why clients will refuse its certificate
    status: Sequence[Listener] = ()  # of the status process
    statsd: StatsD | None = None

    @property
    def sockets(self) -> list[Listener]:
        """All on which it listens."""
        return [*self.listeners, *self.status]


def open_generation(
    number: int,
    settings: Settings,
    inherited: Sequence[FdAddress],
    current: Generation | None,
    adopted: Sequence[Listener] = (),
) -> Generation:
    """Open logs and sockets, or take over those that ``current`` has open.

    ``inherited`` sockets take the place of `bind`; ``adopted`` are those of a master before this
    one. Raises ForkserveError, with nothing left open
    that was not open before.
    """
    tls = load_tls(settings)
    log_config = load_log_config(settings)
    unfit = unfit_certificate(settings)
    with ExitStack() as opened:
        statsd = _statsd(settings)
        if statsd is not None:
            opened.callback(statsd.close)
        error_file = _log_file(settings, settings.error_logfile, 2, current, opened)
        access_file = None
        if settings.access_logfile is not None:
            access_file = _log_file(settings, settings.access_logfile, 1, current, opened)
        listeners = open_listeners(
            inherited or settings.bind,
            settings.backlog,
            current.listeners if current else adopted,
            None if inherited else "bind",
        )
        try:
            if settings.debugger and (listener := public_listener(listeners)) is not None:
                raise ForkserveError(public(listener.url_of("http")))
            left = current.status if current else [it for it in adopted if it not in listeners]
            status = open_listeners(settings.status, settings.backlog, left, "status")
        except ForkserveError:
            _close_new(listeners, [*(current.listeners if current else ()), *adopted])
            raise
        opened.pop_all()
    return Generation(
        number, settings, listeners, error_file, access_file, tls, log_config, unfit, status, statsd
    )


def _close_new(listeners: Sequence[Listener], existing: Sequence[Listener]) -> None:
    """Close those that were not there before."""
    for listener in listeners:
        if listener not in existing:
            listener.unlink()
            listener.close()


def load_tls(settings: Settings) -> "ssl.SSLContext | None":
    """Read certificate and key, here, where they can be root's alone; None for plain HTTP.

    The workers inherit it, and with it the keys of its session tickets. Raises ForkserveError.
    """
    if settings.certfile is None:
        return None
    from forkserve.net.tls import server_context  # ssl takes a while, for those who use it

    make = partial(
        server_context,
        settings.certfile,
        settings.keyfile,
        settings.ca_certs,
        settings.cert_reqs,
        settings.ciphers,
        settings.tls_min_version,
    )
    return make() if settings.ssl_context is None else _context_of_hook(settings, make)


def _context_of_hook(settings: Settings, make: "Callable[[], ssl.SSLContext]") -> "ssl.SSLContext":
    """What the hook returns. ``make`` is its second argument. Raises ForkserveError."""
    import ssl

    hook = settings.ssl_context
    assert hook is not None
    function = hook.function or look_up(hook)
    try:
        with strays_end_here():
            context = function(Configuration(settings), make)
    except ForkserveError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises
        what, trace = in_a_line(error), traceback_of(error, ("forkserve.",))
        raise ForkserveError(f"the hook ssl_context ({hook}) raised {what}\n{trace}") from None
    if not isinstance(context, ssl.SSLContext):
        raise ForkserveError(
            f"the hook ssl_context ({hook}) returned no ssl.SSLContext but {context!r:.80}"
        )
    return context


def load_log_config(settings: Settings) -> Mapping[str, Any] | None:
    """Read `log_config`, once a generation: a worker that comes later gets what the others have.

    Raises ForkserveError.
    """
    return None if settings.log_config is None else read_log_config(settings.log_config)


def unfit_certificate(settings: Settings) -> str | None:
    """Why clients will refuse the certificate; no reason for us to: the old one may be no better,
    and a clock can be wrong."""
    if settings.certfile is None:
        return None
    from forkserve.net import certificate  # as above

    return certificate.unfit(settings.certfile, datetime.now(UTC))


def close_unshared(generation: Generation, others: Sequence[Generation]) -> list[Listener]:
    """Close the files and sockets that ``generation`` shares with none of ``others``.

    Returns the sockets.
    """
    files = {id(file) for other in others for file in (other.error_file, other.access_file)}
    for file in (generation.error_file, generation.access_file):
        if file is not None and id(file) not in files:
            file.close()
    closed = [
        listener
        for listener in generation.sockets
        if not any(listener in other.sockets for other in others)
    ]
    for listener in closed:
        listener.close()
    if generation.statsd is not None:
        generation.statsd.close()
    return closed


def plan_of(settings: Settings) -> Plan:
    """What the supervisor needs of the settings."""
    return Plan(
        settings.workers.least,
        settings.boot_timeout,
        settings.graceful_timeout,
        preload=settings.preload,
        watched=settings.reload,
        most=settings.workers.most,
        quiet=settings.scale_down_after,
        max_lifetime=settings.max_lifetime,
        max_rss=settings.max_rss,
        memory=usable_memory(),
    )


def log_killed(generation: Generation, call: Call, worker: Worker, now: float) -> None:
    """Write the access line of a call that ``worker`` did not survive.

    The request line and the time are all that is known of it: status 000 stands for "none, as far
    as anybody knows", as in nginx, and is a number, because programs that read logs insist on it.
    """
    if generation.access_file is not None:
        log = AccessLog(generation.access_file, generation.settings.access_log_format)
        log.write(
            Access(
                "", 0, 0, now - call.start, call.request,
                pid=worker.pid, slot=worker.slot, generation=worker.generation,
                aborted="its worker was killed, or died",
            )
        )  # fmt: skip


def _statsd(settings: Settings) -> StatsD | None:
    """Here, where a name can be looked up: not in the middle of serving."""
    if settings.statsd_host is None:
        return None
    return open_statsd(settings.statsd_host, settings.statsd_prefix, settings.dogstatsd_tags)


def log_owner(settings: Settings) -> tuple[int, int]:
    """Whom the log files must belong to, so that the workers can open them again."""
    uid = -1 if settings.user is None else settings.user
    return uid, -1 if settings.group is None else settings.group


def _log_file(
    settings: Settings,
    path: str,
    standard_stream: int,
    current: Generation | None,
    opened: ExitStack,
) -> LogFile:
    """Open a log, or take over the one that is open. Raises ForkserveError.

    What is opened anew is closed by ``opened``, unless it is told otherwise.
    """
    existing = None
    if current is not None:
        existing = current.error_file if standard_stream == 2 else current.access_file
    try:
        syslog = parse_syslog(path)
        path = path if path == "-" or syslog is not None else os.path.abspath(path)
        if syslog is not None:
            file: LogFile = Syslog(path, syslog, "error" if standard_stream == 2 else "access")
        elif existing is not None and existing.path == path:
            return existing
        else:
            file = LogFile(path, standard_stream)
        file.open(*log_owner(settings))
        opened.callback(file.close)
    except OSError as error:
        setting = "error_logfile" if standard_stream == 2 else "access_logfile"
        raise ForkserveError(f"cannot open the log {why_not(path, error, setting)}") from None
    return file
