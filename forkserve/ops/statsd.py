"""StatsD: each request, and each bad line of the log, as a datagram, under Gunicorn's names.

The names, types and the shape of the lines are those of Gunicorn's `gunicorn.instrument.statsd`, so
that dashboards keep working; what belongs to one request goes into one datagram, a line each. What
nobody takes is lost: nothing here waits, raises or tells.
"""

import logging
import socket
from typing import Any

from forkserve.net.lookup import look_up
from forkserve.ops.tally import Tally


class StatsD:
    """The way to one StatsD. Made by the master, and inherited by its workers: each datagram is
    one call of the kernel, so they share the socket.

    ``failure``: why nothing is sent at all, "" if it is.
    """

    def __init__(
        self, family: socket.AddressFamily, where: Any, prefix: str | None, tags: str | None
    ) -> None:
        """``where``: what ``sendto`` takes, None if nobody knows."""
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._where = where
        self._prefix = f"{prefix.rstrip('.')}." if prefix else ""
        self._tags = f"|#{tags}" if tags else ""
        self._workers: int | None = None
        self.failure = ""

    def close(self) -> None:
        self._socket.close()

    def request(self, status: int, seconds: float) -> None:
        """A request is over, after ``seconds``."""
        self._send(
            f"gunicorn.request.duration:{seconds * 1e3:.3f}|ms",
            "gunicorn.requests:1|c|@1.0",
            f"gunicorn.request.status.{status}:1|c|@1.0",
        )

    def line(self, level: str) -> None:
        """A line was written to the log: critical, error, warning or exception."""
        self._send(f"gunicorn.log.{level}:1|c|@1.0")

    def workers(self, count: int) -> None:
        """So many serve. Told when it changes."""
        if count != self._workers:
            self._workers = count
            self._send(f"gunicorn.workers:{count}|g")

    def _send(self, *lines: str) -> None:
        text = "\n".join(f"{self._prefix}{line}{self._tags}" for line in lines)
        if self._where is None:
            return
        try:
            self._socket.sendto(text.encode("ascii"), self._where)
        except OSError:  # full, nobody there, no route: it is lost
            return


class ToldTally(Tally):
    """A tally that tells StatsD, too, of each request."""

    __slots__ = ("_statsd",)

    def __init__(self, tally: Tally, statsd: StatsD) -> None:
        """``tally``: nobody else's from now on."""
        super().__init__(tally._memory)
        self._statsd = statsd

    def over(
        self, status: int, lasted: float, busy: float, queued: float, received: int, sent: int
    ) -> None:
        """See ``Tally.over``."""
        super().over(status, lasted, busy, queued, received, sent)
        self._statsd.request(status, lasted)


def open_statsd(host: str, prefix: str | None, tags: str | None) -> StatsD:
    """``host``: HOST:PORT or unix:///path. Looks the name up, which can take a while.

    That it is not found is no reason for a server not to serve: see ``StatsD.failure``.
    """
    place = place_of(host)
    if place is None:
        return StatsD(socket.AF_UNIX, host.removeprefix("unix://"), prefix, tags)
    try:
        found = look_up(*place)
    except OSError as error:
        statsd = StatsD(socket.AF_INET, None, prefix, tags)
        statsd.failure = (
            f"StatsD is told nothing, because {host} (`statsd_host`) is not found: "
            f"{error.strerror}. Repair it, and send HUP"
        )
        return statsd
    family, where = min(found, key=lambda item: item[0] != socket.AF_INET)
    return StatsD(family, where, prefix, tags)


def place_of(host: str) -> tuple[str, int] | None:
    """(host, port) of a StatsD that is told by UDP, None of one on a unix socket."""
    if host.startswith("unix://"):
        return None
    name, _, port = host.rpartition(":")
    return name.strip("[]"), int(port)


OF_APPLICATION = {"of_application": True}
"""``extra`` of a line that tells of an exception of the application: Gunicorn counts them apart."""

_LEVELS = (
    (logging.CRITICAL, "critical"), (logging.ERROR, "error"), (logging.WARNING, "warning"),
)  # fmt: skip


class LineCounter(logging.Filter):
    """Tells StatsD of the lines of a log. It filters nothing: it sees each line that is written."""

    def __init__(self, statsd: StatsD) -> None:
        super().__init__()
        self._statsd = statsd

    def filter(self, record: logging.LogRecord) -> bool:
        """Count it. Always True."""
        if getattr(record, "of_application", False):
            self._statsd.line("exception")
        else:
            # By number: the names in the logging module are the application's to change.
            name = next((name for level, name in _LEVELS if record.levelno >= level), None)
            if name is not None:
                self._statsd.line(name)
        return True
