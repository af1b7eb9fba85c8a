"""Where a syslog listens, as people write it.

syslog+unix:///dev/log   syslog+udp://logs.example:514   ...?facility=local3
"""

import re
from typing import NamedTuple

PREFIX = "syslog+"
_PORT = 514  # RFC 5426 section 3.3

# RFC 5424 section 6.2.1, table 1: the numerical codes.
FACILITIES = {
    **{name: code for code, name in enumerate(
        ("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron",
         "authpriv", "ftp")
    )},
    **{f"local{number}": 16 + number for number in range(8)},
}  # fmt: skip

_ADDRESS = re.compile(
    r"syslog\+(?:unix://(?P<path>/[^?]+)|udp://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/?@]+)"
    r"(?::(?P<port>[0-9]{1,5}))?/?)(?:\?facility=(?P<facility>[a-z0-9]+))?"
)


class SyslogAddress(NamedTuple):
    """A datagram socket: ``path`` of a unix one, "" for UDP. ``facility`` is its numerical code."""

    path: str
    host: str
    port: int
    facility: int


def parse_syslog(text: str) -> SyslogAddress | None:
    """None: it is no such address. Raises ValueError, whose text continues what was written."""
    if not text.startswith(PREFIX):
        return None
    match = _ADDRESS.fullmatch(text)
    if match is None or "\0" in text:
        raise ValueError(
            "is no address of a syslog: write syslog+unix:///dev/log or syslog+udp://HOST:514, "
            "with ?facility=local0 behind it if you like"
        )
    port = int(match["port"] or _PORT)
    if not 0 < port <= 65535:
        raise ValueError("has a port that is none")
    facility = match["facility"] or "user"
    if facility not in FACILITIES:
        raise ValueError(f"names a facility that is none of {', '.join(FACILITIES)}")
    return SyslogAddress(
        match["path"] or "", (match["host"] or "").strip("[]"), port, FACILITIES[facility]
    )


def check_log_address(text: str) -> None:
    """Raises ValueError for what is neither a file nor an address of a syslog."""
    parse_syslog(text)
