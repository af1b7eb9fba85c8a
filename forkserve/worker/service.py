"""What all connections of one worker share: the application, the limits, the logs, the clock."""

import errno
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from urllib.parse import unquote_to_bytes

from forkserve.errors import EXIT_SOFTWARE
from forkserve.http.forwarded import UNTRUSTED, Forwarded, forwarded_reader
from forkserve.http.head import Limits
from forkserve.http.request_start import waited
from forkserve.http.response import OwnLines, own_lines
from forkserve.net.peers import trust_in
from forkserve.ops.access import AccessLog
from forkserve.ops.scoreboard import Cell
from forkserve.ops.tally import Tally
from forkserve.proc import wall
from forkserve.proc.channel import Message
from forkserve.settings import Settings
from forkserve.worker.identity import RequestIds
from forkserve.worker.lead import Lead
from forkserve.wsgi.call import Application, run_app
from forkserve.wsgi.chunked import NO_CHUNKS, ChunkReader
from forkserve.wsgi.file_wrapper import FileWrapper

# What clients can make a worker keep of requests that are not complete, however many they are; the
# help of `buffer_body` says it too.
_INPUT_ROOM = 16 << 20
_BUSY_EVERY = 1.0  # seconds between two words to the master

_TELL_EVERY = 10.0
"""Seconds between two lines in the log about bodies that cannot be stored."""

OVER, REVOKED = "the call has come to its end", "the server has given the call up"

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    "", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip


class _Running(threading.local):
    """``cell``: of this thread, if it calls the application; ``chunks``: of the body of its running
    call, if it has one."""

    cell: Cell | None = None
    chunks: ChunkReader | None = None


class Service:
    """Made once, before the first connection. Times are in seconds, sizes in octets.

    ``persist``     False once the worker retires: responses then announce the close
    ``forked``      this is a child that the application has forked
    ``requests``    how many have been read whole
    ``tally``       what is counted for those who look
    ``file_room``   how many more files may be open at once: bodies of requests, and of responses
    ``input_room``  how many more octets of unfinished requests may be kept in memory
    ``gives``       the worker retires, and others go on with its connections
    ``has_siblings``  whether there still are others. For any thread
    ``closings``    files that were sent, with the lines and the ids of their requests: the
                    application's to close
    ``verdicts``    of exchanges whose call has lost the lead: how it ended, OVER or REVOKED. Set
                    once, by ``decide``
    ``running``     what this thread is in
    ``named``       a setting with its origin, for the log
    ``woke``        when the loop had its events, and could call: what they brought was there then
    ``lag``         so many seconds before that it may have come: the loop did not look meanwhile
    ``ids``         of requests; None: they have none
    ``report_stuck``  says which call has passed its deadline, and its request's id
    ``announce``    says something to the master
    ``tell_at``     when the next request is told to the master; never, if it does not ask
    ``run``         calls the application: ``run_app``, or with hooks around it
    ``aborts``      a hook
    """

    def __init__(
        self,
        app: Application,
        settings: Settings,
        lead: Lead,
        log: logging.Logger,
        access_log: AccessLog | None,
        clock: Callable[[], float],
        file_room: int,
    ) -> None:
        self.app = app
        self.lead = lead
        self.log = log
        self.access_log = access_log
        self.clock = clock
        self.persist = True
        self.gives = False
        self.forked = False
        self.requests = 0
        self.tally = Tally()  # on no scoreboard
        self.file_room = file_room
        self.input_room = _INPUT_ROOM
        self.closings: deque[tuple[FileWrapper, str, str]] = deque()
        self.verdicts: dict[object, str] = {}
        self.running = _Running()
        self.named = settings.named
        self.woke = float("inf")
        self.lag = 0.0
        self.has_siblings: Callable[[], bool] = _always
        self.announce: Callable[[Message, str], None] = _to_nobody
        self.report_stuck: Callable[[Cell, str, str], None] = _silent
        self.run: Callable[..., None] = run_app
        self.aborts: Callable[[], None] = _nothing
        self.dropped_fields: set[str] = set()
        self._trusts = trust_in(settings.forwarded_allow_ips)
        self._read_forwarded = forwarded_reader(self._trusts)
        self._told: set[str] = set()
        self._bodies_not_told_of = 0
        self._tell_of_bodies = 0.0
        self.request_id_header = settings.request_id_header and settings.request_id != "off"
        self.ids: RequestIds | None = None
        if settings.request_id != "off":
            self.ids = RequestIds(self._trusts if settings.request_id == "trust" else None)
        self._own_lines: OwnLines = (b"", b"", b"", b"")
        self._date_until = 0.0
        self._take(settings)

    def _take(self, settings: Settings) -> None:
        """What connections need of the settings."""
        self.limits = Limits(
            settings.limit_request_line,
            settings.limit_request_fields,
            settings.limit_request_field_size,
            settings.limit_request_head,
            "http" if settings.certfile is None else "https",
        )
        self.threads = settings.threads
        self.max_body = settings.max_body
        self.buffer_body = settings.buffer_body
        self.buffer_response = settings.buffer_response
        self.tmp_dir = settings.tmp_dir
        self.timeout = float("inf") if settings.timeout is None else settings.timeout
        self.keep_alive = settings.keep_alive
        self.handshake_timeout = settings.handshake_timeout
        self.head_timeout = settings.head_timeout
        self.body_timeout = settings.body_timeout
        self.body_min_rate = settings.body_min_rate
        self.chunk_limit = settings.chunked_input_limit
        self.chunk_timeout = settings.chunked_input_timeout
        self.write_timeout = settings.write_timeout
        self.queue_timeout = settings.queue_timeout
        self.max_timeout = settings.max_timeout
        asked = settings.max_rss is not None or settings.workers.least < settings.workers.most
        self.tell_at = 0.0 if asked else float("inf")
        self._server_header = settings.server_header
        # As in PATH_INFO: octets, read as latin-1.
        self._stream_paths = tuple(
            os.fsencode(path).decode("latin-1").rstrip("/") + "/" for path in settings.stream_path
        )

    def streams(self, path: str) -> bool:
        """The body of a request for ``path``, as the client wrote it, is not to be collected."""
        if not self._stream_paths:
            return False
        decoded = unquote_to_bytes(path).decode("latin-1")
        return f"{decoded}/".startswith(self._stream_paths)

    def running_chunks(self) -> ChunkReader:
        """The body of the running call. Raises RuntimeError."""
        if self.running.chunks is not None:
            return self.running.chunks
        if self.running.cell is None or not self.running.cell.deadline:
            raise RuntimeError("chunked_read was called, and no call of the application is running")
        return NO_CHUNKS

    def decide(self, exchange: object, verdict: str) -> bool:
        """OVER, says the thread of the call; REVOKED, says the loop. Of the two that one is heard
        who comes first (a setdefault is atomic); False: it was the other."""
        return self.verdicts.setdefault(exchange, verdict) is verdict

    def end_child(self) -> None:
        """Raises SystemExit if this is a child of the application that came back from its call:
        nothing behind it is its own."""
        if self.forked:
            raise SystemExit(EXIT_SOFTWARE)

    def set_deadline(self, seconds: float) -> float:
        """``forkserve.deadline``: give the running call so much time from now on, and again after
        each sign of progress; at most `max_timeout`. Returns what was given.

        Raises ValueError, and RuntimeError outside of a call.
        """
        cell = self.running.cell
        if cell is None or not cell.deadline:
            raise RuntimeError("forkserve.deadline was called, and no call of the application runs")
        if not seconds > 0:
            raise ValueError(f"a deadline is a number of seconds above 0, not {seconds!r}")
        before = cell.deadline
        cell.limit = min(float(seconds), max(self.max_timeout, self.timeout))
        cell.extend(self.clock())
        if cell.deadline < before:
            self.lead.wake()  # the loop would look at it too late
        return cell.limit

    def tell_busy(self, now: float) -> None:
        """``tell_at`` has come, and a request too."""
        self.tell_at = now + _BUSY_EVERY
        self.announce(Message.BUSY, "")

    def forwarded(self, fields: Mapping[str, str], peer: str) -> Forwarded:
        """What proxies say of a request of ``peer``, which has some of their fields."""
        if self._trusts(peer):
            return self._read_forwarded(fields)
        self.tell_once(
            "%s sends fields that only a proxy may send (X-Forwarded-For and the like); they are "
            "dropped, as from all who are not in `forwarded_allow_ips`. If it is your proxy, name "
            "it there",
            peer or "a client of the unix socket",
        )
        return UNTRUSTED

    def waited(self, fields: Mapping[str, str], peer: str, came: float) -> float:
        """Seconds that a request of ``peer`` has waited by now, as its fields say; 0.0 if they do
        not, or ``peer`` is nobody who may. ``came``: so long it took to come, which is no wait."""
        if not self._trusts(peer):
            return 0.0
        seconds = waited(fields, wall.now()) - came
        if seconds > self.queue_timeout:
            self.tell_once(
                "a request of %s has waited for %.1f s by a proxy's clock (X-Request-Start), which "
                "is longer than `queue_timeout`: it gets a 503. If they all do, compare the clocks",
                peer or "a client of the unix socket", seconds,
            )  # fmt: skip
        return seconds

    def refuse_proxy_header(self, peer: str) -> None:
        """``peer`` sends a PROXY header where there should be none: it is a malformed request."""
        self.tell_once(
            "%s sends a PROXY header, and is not asked for one: it gets a 400. If it is "
            "your proxy, set `proxy_protocol` to on, and name it in `proxy_allow_from`",
            peer or "a client of the unix socket",
        )

    def tell_once(self, text: str, *arguments: object) -> None:
        """A line in the log, the first time: any client can provoke it, as often as it likes."""
        if text not in self._told:
            self._told.add(text)
            self.log.info(f"{text}. This is said once", *arguments)

    def body_not_stored(self, error: OSError, line: str) -> None:
        """A body cannot be collected. A full disk is full for all, so not each of them is told."""
        now = self.clock()
        if now < self._tell_of_bodies:
            self._bodies_not_told_of += 1
            return
        # Not imported here: without a descriptor left it could not be.
        default = getattr(sys.modules.get("tempfile"), "tempdir", None) or "the system's directory"
        cure = "See that the directory is there and has room, or name another and send HUP"
        if error.errno in (errno.EMFILE, errno.ENFILE):
            cure = "Raise the limit of descriptors (ulimit -n, LimitNOFILE=)"
        count = self._bodies_not_told_of
        others = f", and so {'was' if count == 1 else 'were'} {count} before it" if count else ""
        self._bodies_not_told_of, self._tell_of_bodies = 0, now + _TELL_EVERY
        self.log.error(
            "a body cannot be collected in %s (%s): %s. The request %.200r is answered with "
            "507%s. %s",
            self.tmp_dir or default, self.named("tmp_dir"), error.strerror, line, others, cure,
        )  # fmt: skip

    def own_lines(self, now: float) -> OwnLines:
        """The fields Server and Date (RFC 9110 section 5.6.7), made once a second."""
        if now >= self._date_until:
            year, month, day, hour, minute, second, weekday = time.gmtime()[:7]
            date = (
                f"Date: {_DAYS[weekday]}, {day:02} {_MONTHS[month]} {year} "
                f"{hour:02}:{minute:02}:{second:02} GMT\r\n"
            ).encode("ascii")
            self._own_lines = own_lines(date, server=self._server_header)
            self._date_until = now + 1.0  # last: another thread may look at it
        return self._own_lines


def _to_nobody(message: Message, text: str) -> None:
    """There is no master."""


def _always() -> bool:
    """Nobody says otherwise."""
    return True


def _silent(cell: Cell, request: str, request_id: str) -> None:
    """There is no crew that could say more than the client is told."""


def _nothing() -> None:
    """There is no hook."""
