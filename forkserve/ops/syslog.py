"""A log that is sent to a syslog: one datagram a line, as RFC 5424 says.

Nothing here waits: what the socket does not take at once is lost, counted, and reported as soon as
something is taken again. The syslog may come later than the server, and come back after it was
gone, so one that is not there is no error of the start.
"""

import contextlib
import errno
import os
import socket
from typing import Any

from forkserve.net.lookup import look_up
from forkserve.net.syslog import SyslogAddress
from forkserve.ops.logs import INFO, LogFile
from forkserve.proc import wall

# Octets of a line. A receiver should take a message of 2048 (RFC 5424 section 6.1), and those on a
# unix socket take 8 KiB by default (rsyslog's maxMessageSize); the header has its part of that.
_LONGEST_UDP = 1900
_LONGEST_UNIX = 8000

_NOT_CONNECTED = (errno.EDESTADDRREQ, errno.ENOTCONN)


class Syslog(LogFile):
    """Written like a file. The socket is made once, by the master, and is the workers' too."""

    def __init__(self, path: str, address: SyslogAddress, name: str) -> None:
        """``path`` is the address as configured; ``name`` of the log: "access" or "error"."""
        super().__init__(path, 2)  # what the interpreter writes in a crash goes to standard error
        self._address = address
        self._name = name
        self._syslog: socket.socket | None = None
        self._to: Any = address.path
        self._host = "-"
        self._reported = 0  # lines whose loss was reported just now, and that may be lost too
        self.longest = _LONGEST_UNIX if address.path else _LONGEST_UDP
        self.lines_only = True

    def open(self, uid: int = -1, gid: int = -1) -> None:
        """Make the socket. A name is looked up here, so that no line waits for that; and so it
        counts until a reload opens the log anew. Raises OSError."""
        if self._syslog is not None:
            return  # after a rotation there is nothing to open
        address, family = self._address, int(socket.AF_UNIX)
        if not address.path:
            (family, self._to), *_ = look_up(address.host, address.port)
        self._syslog = socket.socket(family, socket.SOCK_DGRAM)
        self._syslog.setblocking(False)
        if not address.path:
            with contextlib.suppress(OSError):  # the network may come later
                self._syslog.connect(self._to)  # or nobody would say that nobody listens there
        host = socket.gethostname()
        self._host = host if host.isascii() and host.isprintable() and " " not in host else "-"

    def write(self, line: bytes, severity: int = INFO) -> None:
        """Send each line as a datagram. Never raises, nor blocks."""
        if self.lost and not self._reported:
            lost = self.lost
            if self._send(self.apology(lost).rstrip(b"\n"), severity):
                self._reported = lost
        for text in line.rstrip(b"\n").split(b"\n"):
            if not self._send(text, severity):
                self.lost += 1

    def _send(self, text: bytes, severity: int) -> bool:
        """False: it is lost, for sure."""
        octets = self._header(severity) + text[: self.longest]
        try:
            self._hand_over(octets)
        except OSError as error:
            self.failure = error
            if self._address.path or error.errno == errno.EAGAIN:
                return False
            # UDP: this is said of the line before, and nothing was sent now (udp(7)).
            if error.errno == errno.ECONNREFUSED:
                self.lost += not self._reported
                self._reported = 0
            try:
                self._hand_over(octets)
            except OSError:
                return False
            return True
        self.failure = None
        self.lost -= self._reported  # nobody has said that the report did not arrive
        self._reported = 0
        return True

    def _hand_over(self, octets: bytes) -> None:
        assert self._syslog is not None
        if self._address.path:
            self._syslog.sendto(octets, self._to)
            return
        try:
            self._syslog.send(octets)
        except OSError as error:
            if error.errno not in _NOT_CONNECTED:
                raise
            self._syslog.connect(self._to)
            self._syslog.send(octets)

    def _header(self, severity: int) -> bytes:
        """HEADER and STRUCTURED-DATA (RFC 5424 section 6), with a blank behind them."""
        stamp = wall.rfc3339(digits=6)
        priority = self._address.facility * 8 + severity
        words = f"<{priority}>1 {stamp} {self._host} forkserve {os.getpid()} {self._name} - "
        return words.encode("ascii")

    def close(self) -> None:
        """Close the socket."""
        if self._syslog is not None:
            self._syslog.close()
            self._syslog = None
