"""How a line of the error log looks: plain, in a terminal, as JSON, and in a syslog.

A style makes a line of a record, without its end, so that what a client or an application can
choose forges no line and moves no terminal.
"""

import logging
import os
import time
from collections.abc import Callable
from json.encoder import encode_basestring_ascii

from forkserve.proc.wall import rfc3339

Style = Callable[[logging.LogRecord], str]

# Of a message: lines of a traceback are its own, so they are set off, and what else could move a
# terminal (the text of an exception often holds what a client has sent) is escaped.
_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
} | {ord("\n"): "\n    "}

_COLOURS = {
    logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31",
}  # fmt: skip

_LEVELS = {
    logging.DEBUG: "DEBUG", logging.INFO: "INFO", logging.WARNING: "WARNING",
    logging.ERROR: "ERROR", logging.CRITICAL: "CRITICAL",
}  # fmt: skip

_message = logging.Formatter("%(message)s").format  # with the traceback behind it, if there is one


def plain(who: str) -> Style:
    """2026-11-20 07:25:06.123 +0000 INFO [worker 2 gen 1 pid 4711] text"""
    own = f"{who} pid {os.getpid()}"

    def style(record: logging.LogRecord) -> str:
        local = time.localtime(record.created)
        stamp = time.strftime(f"%Y-%m-%d %H:%M:%S.{int(record.msecs):03d} %z", local)
        return f"{stamp} {_level(record)} [{own}{_request(record)}] {_text(record)}"

    return style


def terminal(who: str, *, colours: bool) -> Style:
    """07:25:06 INFO [worker 2 gen 1 pid 4711] text"""
    own = f"{who} pid {os.getpid()}"

    def style(record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        level, where = _level(record), f"[{own}{_request(record)}]"
        if colours:
            where = f"\x1b[2m{where}\x1b[0m"
            if record.levelno in _COLOURS:
                level = f"\x1b[{_COLOURS[record.levelno]}m{level}\x1b[0m"
        return f"{stamp} {level} {where} {_text(record)}"

    return style


def short(who: str) -> Style:
    """[worker 2 gen 1] text: a syslog has time, level and pid already."""

    def style(record: logging.LogRecord) -> str:
        return f"[{who}{_request(record)}] {_text(record)}"

    return style


def structured(who: str, longest: int | None = None) -> Style:
    """One object of JSON. ``longest``: octets that it may have; its message is cut for that."""
    process = quoted(who)

    def style(record: logging.LogRecord) -> str:
        request = getattr(record, "request_id", "")
        level = quoted((_LEVELS.get(record.levelno) or record.levelname).lower())
        start = (
            f'{{"time":"{rfc3339(record.created)}",'
            f'"level":{level},"process":{process},"pid":{os.getpid()},'
            f'"request_id":{quoted(request) if request else "null"},"message":'
        )
        text = _message(record)
        message = quoted(text)
        # Cut before it is quoted: behind that, half an escape could be left of it.
        while longest is not None and len(start) + len(message) >= longest and text:
            text = text[: 3 * len(text) // 4]
            message = quoted(text)
        return f"{start}{message}}}"

    return style


def quoted(text: str) -> str:
    """A string of JSON in printable ASCII, whatever is in ``text``: also half a surrogate pair,
    which readers of JSON would choke on."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return encode_basestring_ascii(text).replace("\x7f", "\\u007f")


def _level(record: logging.LogRecord) -> str:
    """The names in the logging module are the application's to change: with colours, for one."""
    return _LEVELS.get(record.levelno) or ascii(record.levelname)[1:-1]


def _text(record: logging.LogRecord) -> str:
    return _message(record).translate(_CONTROLS)


def _request(record: logging.LogRecord) -> str:
    request = getattr(record, "request_id", "")
    return f" request {request}" if request else ""
