"""What all connections of one worker share: the application, the limits, the logs, the clock."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from urllib.parse import unquote_to_bytes

from forkserve.http.forwarded import UNTRUSTED, Forwarded, forwarded_reader
from forkserve.http.head import Limits
from forkserve.http.response import OwnLines, own_lines
from forkserve.net.peers import trust_in
from forkserve.ops.access import AccessLog
from forkserve.ops.scoreboard import Row
from forkserve.settings import Settings
from forkserve.wsgi.call import Application
from forkserve.wsgi.chunked import NO_CHUNKS, ChunkReader

_INPUT_ROOM = 16 << 20

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    "", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip


class Service:
    """Made once, before the first connection. Times are in seconds, sizes in octets.

    ``persist``     False once the worker retires: responses then announce the close
    ``forked``      this is a child that the application has forked
    ``requests``    how many have been read whole
    ``file_room``   how many more files may be open at once: bodies of requests, and of responses
    ``input_room``  how many more octets of unfinished requests may be kept in memory
    ``chunks``      of the body of the running call, if it has one
    """

    def __init__(
        self,
        app: Application,
        settings: Settings,
        row: Row,
        log: logging.Logger,
        access_log: AccessLog | None,
        clock: Callable[[], float],
        file_room: int,
    ) -> None:
        self.app = app
        self.row = row
        self.log = log
        self.access_log = access_log
        self.clock = clock
        self.limits = Limits(
            settings.limit_request_line,
            settings.limit_request_fields,
            settings.limit_request_field_size,
            settings.limit_request_head,
            "http" if settings.certfile is None else "https",
        )
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
        self.persist = True
        self.forked = False
        self.requests = 0
        self.file_room = file_room
        self.input_room = _INPUT_ROOM
        self.chunks: ChunkReader | None = None
        self.dropped_fields: set[str] = set()
        self._trusts = trust_in(settings.forwarded_allow_ips)
        self._read_forwarded = forwarded_reader(self._trusts)
        self._told_of_untrusted = False
        self._server_header = settings.server_header
        self._own_lines: OwnLines = (b"", b"", b"", b"")
        self._date_until = 0.0
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
        if self.chunks is not None:
            return self.chunks
        if self.row.read() is None:
            raise RuntimeError("chunked_read was called, and no call of the application is running")
        return NO_CHUNKS

    def progress(self) -> float:
        """The running call is not stuck: it has sent or received something. Returns the time."""
        now = self.clock()
        self.row.extend(now + self.timeout)
        return now

    def forwarded(self, fields: Mapping[str, str], peer: str) -> Forwarded:
        """What proxies say of a request of ``peer``, which has some of their fields."""
        if self._trusts(peer):
            return self._read_forwarded(fields)
        if not self._told_of_untrusted:
            self._told_of_untrusted = True  # any client can send them, as often as it likes
            self.log.info(
                "%s sends fields that only a proxy may send (X-Forwarded-For and the like); they "
                "are dropped, as from all who are not in `forwarded_allow_ips`. If it is your "
                "proxy, name it there. This is said once",
                peer or "a client of the unix socket",
            )
        return UNTRUSTED

    def own_lines(self, now: float) -> OwnLines:
        """The fields Server and Date (RFC 9110 section 5.6.7), made once a second."""
        if now >= self._date_until:
            self._date_until = now + 1.0
            year, month, day, hour, minute, second, weekday = time.gmtime()[:7]
            date = (
                f"Date: {_DAYS[weekday]}, {day:02} {_MONTHS[month]} {year} "
                f"{hour:02}:{minute:02}:{second:02} GMT\r\n"
            ).encode("ascii")
            self._own_lines = own_lines(date, server=self._server_header)
        return self._own_lines
