"""When a proxy in front has got a request, as it says in ``X-Request-Start``.

t=1512379167.574   seconds, of nginx: ``proxy_set_header X-Request-Start "t=${msec}"``
1512379167574      milliseconds, of Heroku's router
t=1512379167574000 microseconds, of Apache: ``RequestHeader set X-Request-Start "%t"``
Root=1-5a25131f-.. seconds in hexadecimal, in ``X-Amzn-Trace-Id``: the load balancers of AWS send no
                   other time. A Root that is there already they keep, and add a Self of their own.

The times are those of another machine's clock, and so nothing to rely on: what lies in the future,
or too far in the past, counts as not said.
"""

import re
from collections.abc import Mapping

START = "HTTP_X_REQUEST_START"
TRACE = "HTTP_X_AMZN_TRACE_ID"
SENT_AT = frozenset((START, TRACE))
"""The CGI variables of the fields that say so."""

_LONGEST_WAIT = 3600.0
"""Seconds that a request can have waited. Proxies give up much sooner: a clock is wrong."""

_start = re.compile(r"(?:t=)?([0-9]{9,19})(\.[0-9]{1,9})?").fullmatch
_self, _root = (
    re.compile(rf"(?:^|;)\s*{name}=1-([0-9a-fA-F]{{8}})-").search for name in ("Self", "Root")
)

# By the number of digits in front of the point: those of seconds are 10 until the year 2286.
_SECONDS_OF_DIGITS = ((11, 1.0), (14, 1e-3), (17, 1e-6), (19, 1e-9))


def waited(fields: Mapping[str, str], now: float) -> float:
    """Seconds from then to ``now`` (seconds since 1970); 0.0 if nobody has said so.

    A time that has no fraction in its field may be that much later: the shortest wait counts.
    """
    text = fields.get(START)
    if text is not None:
        # Of several proxies the one in front of us is the last.
        match = _start(text.rpartition(",")[2].strip())
        if match is None:
            return 0.0
        unit = next(unit for digits, unit in _SECONDS_OF_DIGITS if len(match[1]) <= digits)
        then = (int(match[1]) + float(match[2] or 0.0)) * unit
    else:
        text = fields.get(TRACE, "")[:256]
        found = _self(text) or _root(text)
        if found is None:
            return 0.0
        then = int(found[1], 16) + 1.0
    seconds = now - then
    return seconds if 0.0 < seconds <= _LONGEST_WAIT else 0.0
