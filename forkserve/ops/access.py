"""The access log: one line a request, in Gunicorn's atoms or as JSON.

A format is compiled once into a list of functions. What a client or an application can choose is
escaped, so that no line can be forged.
"""

import base64
import binascii
import errno
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forkserve.errors import in_a_line
from forkserve.ops.logs import LogFile, in_json, printable
from forkserve.ops.styles import quoted
from forkserve.proc.wall import rfc3339

# Filters that an application, or a hook, puts on one of these hold for the access log.
LOGGERS = ("forkserve.access", "gunicorn.access")

FORMATS = {
    "common": '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s',
    "combined": '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
}


@dataclass(slots=True)
class Access:
    """What is known of a request when it is over. Text that is not known is ""."""

    remote: str
    status: int  # 0 if none is known
    octets: int  # of the response's body that were handed to the kernel, or are left to it
    seconds: float  # from the first octet of the request to the end of the response
    line: str = ""  # the request line as the client sent it, well-formed or not
    environ: Mapping[str, object] = field(default_factory=dict)
    headers: Sequence[tuple[str, str]] = ()
    pid: int = 0  # of the worker, if that is another process
    slot: int | None = None  # of the worker, and its generation; None: of this process
    generation: int | None = None
    request_id: str = ""
    queued: float | None = None  # seconds; these three are None if the application was not called
    called: float | None = None  # in the application, without what it waited for the client
    writing: float | None = (
        None  # from the client's being late, or the call's end, to the last octet
    )
    aborted: str = ""  # why the response is not complete


_TELL_EVERY = 60.0
"""Seconds between two lines in the error log about an access log that cannot be written."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

_Atom = Callable[[Access], str]


def _variable(name: str) -> _Atom:
    def atom(access: Access) -> str:
        value = access.environ.get(name)
        return "-" if value is None or value == "" else str(value)

    return atom


def _variable_in_any_case(name: str) -> _Atom:
    """Gunicorn's documentation has the names of variables in lower case."""
    as_it_is, upper = _variable(name), _variable(name.upper())
    return lambda access: upper(access) if (value := as_it_is(access)) == "-" else value


def _response_field(name: str) -> _Atom:
    def atom(access: Access) -> str:
        values = [value for other, value in access.headers if other.lower() == name]
        return ", ".join(values) or "-"

    return atom


def _user(access: Access) -> str:
    """The user of HTTP Basic authentication (RFC 7617)."""
    scheme, _, credentials = str(access.environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    if scheme.lower() != "basic":
        return "-"
    try:
        user = base64.b64decode(credentials.strip(), validate=True).partition(b":")[0]
    except (binascii.Error, ValueError):
        return "-"
    return user.decode("latin-1") or "-"


def _method(access: Access, nothing: str = "-") -> str:
    return access.line.partition(" ")[0] or nothing


def _target(access: Access) -> str:
    return access.line.partition(" ")[2].rpartition(" ")[0]


def _path(access: Access) -> str:
    return _target(access).partition("?")[0] or "-"


def _query(access: Access) -> str:
    return _target(access).partition("?")[2]


def _protocol(access: Access, nothing: str = "-") -> str:
    return access.line.rpartition(" ")[2] or nothing


_ATOMS: dict[str, _Atom] = {
    "h": lambda access: access.remote or "-",
    "l": lambda access: "-",
    "u": _user,
    "t": lambda access: time.strftime("[%d/%b/%Y:%H:%M:%S %z]"),
    "r": lambda access: access.line or "-",
    "m": _method,
    "U": _path,
    "q": _query,
    "H": _protocol,
    "s": lambda access: f"{access.status:03}",
    "B": lambda access: str(access.octets),
    "b": lambda access: str(access.octets or "-"),
    "f": _variable("HTTP_REFERER"),
    "a": _variable("HTTP_USER_AGENT"),
    "T": lambda access: str(int(access.seconds)),
    "M": lambda access: str(int(access.seconds * 1e3)),
    "D": lambda access: str(int(access.seconds * 1e6)),
    "L": lambda access: f"{access.seconds:.6f}",
    "p": lambda access: f"<{access.pid or os.getpid()}>",
}
JSON = "json"

_SHORTER = (2048, 512, 128, 16)
"""Characters that are left of each text of a line that is too long, until it is short enough."""

_PART = re.compile(
    r"%\((?:\{([^}]+)\}([ioe])|([a-zA-Z]))\)(-?[0-9]{0,3}(?:\.[0-9]{1,3})?)s|%%|(%)|[^%]+"
)


def compile_format(text: str) -> Callable[[Access], str]:
    """Compile "common", "combined", "json" or a format of atoms.

    Raises ValueError for an unknown atom.
    """
    if text == JSON:
        return json_line
    parts: list[_Atom] = []
    for match in _PART.finditer(FORMATS.get(text, text)):
        name, kind, letter, width, stray = match.groups()
        if kind is not None:
            parts.append(_aligned(_escaped(_of_name(kind, name)), width))
        elif letter is not None:
            if letter not in _ATOMS:
                raise ValueError(f"the access log knows no atom {match[0]!r}")
            parts.append(_aligned(_escaped(_ATOMS[letter]), width))
        elif stray:
            rest = text[match.start() : match.start() + 12]
            raise ValueError(
                f"the access log's atoms look like %(h)s or %({{host}}i)s, not {rest!r}"
            )
        else:
            parts.append(_literal("%" if match[0] == "%%" else match[0]))
    return lambda access: "".join([part(access) for part in parts])


def _of_name(kind: str, name: str) -> _Atom:
    """%({name}i)s: of the request's header; o: of the response's header; e: of environ."""
    if kind == "e":
        return _variable_in_any_case(name)
    if kind == "o":
        return _response_field(name.lower())
    variable = name.upper().replace("-", "_")
    plain = variable in ("CONTENT_TYPE", "CONTENT_LENGTH")
    return _variable(variable if plain else f"HTTP_{variable}")


def _escaped(atom: _Atom) -> _Atom:
    if atom is _user:  # which stands without quotes, so that a blank would begin the next field
        return lambda access: printable(atom(access)).replace(" ", "\\x20")
    return lambda access: printable(atom(access))


def _aligned(atom: _Atom, width: str) -> _Atom:
    """``width``: that of %(h)15s, as in printf(3)."""
    return (lambda access: f"%{width}s" % atom(access)) if width else atom


def _literal(text: str) -> _Atom:
    return lambda access: text


class Atoms(dict[str, Any]):
    """What is found in the ``args`` of a record, as in Gunicorn: all atoms, by their names. Texts
    are escaped, so that a format with them is the line."""

    def __init__(self, access: Access) -> None:
        super().__init__({name: _escaped(atom)(access) for name, atom in _ATOMS.items()})
        for variable, value in access.environ.items():
            shown = printable(value) if isinstance(value, str) else value
            self[f"{{{variable.lower()}}}e"] = shown
            name = _field_name(variable)
            if name:
                self[f"{{{name}}}i"] = shown
        for name, value in access.headers:
            self[f"{{{name.lower()}}}o"] = printable(value)

    def __missing__(self, name: str) -> Any:
        return dict.get(self, name.lower(), "-")


def _field_name(variable: str) -> str:
    """Of the header field that is in this variable of environ; "" if none is."""
    if variable.startswith("HTTP_"):
        variable = variable[5:]
    elif variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return ""
    return variable.lower().replace("_", "-")


def json_line(access: Access, most: int | None = None) -> str:
    """One object, always with the same keys. ``most``: characters of each of its texts."""

    def text(value: str) -> str:
        return quoted(value[:most]) if value else "null"

    def seconds(value: float | None) -> str:
        return "null" if value is None else f"{value:.6f}"

    def number(value: int | None) -> str:
        return "null" if value is None else str(value)

    return (
        f'{{"time":"{rfc3339()}",'
        f'"request_id":{text(access.request_id)},"client":{text(access.remote)},'
        f'"method":{text(_method(access, ""))},"target":{text(_target(access))},'
        f'"protocol":{text(_protocol(access, ""))},"status":{access.status},'
        f'"bytes":{access.octets},"seconds":{access.seconds:.6f},'
        f'"queue_seconds":{seconds(access.queued)},"app_seconds":{seconds(access.called)},'
        f'"write_seconds":{seconds(access.writing)},"worker":{number(access.slot)},'
        f'"generation":{number(access.generation)},"pid":{access.pid or os.getpid()},'
        f'"aborted":{text(access.aborted)}}}'
    )


class AccessLog:
    """Writes one line for each request that is over."""

    def __init__(
        self,
        file: LogFile,
        text: str,
        tell: Callable[[str], object] = lambda text: None,
        clock: Callable[[], float] = lambda: 0.0,
        *,
        slot: int | None = None,
        generation: int | None = None,
    ) -> None:
        """``tell`` is called when lines are lost, with what there is to say about it.

        ``slot``, ``generation``: of this worker.
        """
        self.file = file
        self._format = compile_format(text)
        self._json = text == JSON
        self._text = FORMATS.get(text, text)
        self._loggers = [logging.getLogger(name) for name in LOGGERS]
        if self._json:
            file.apology = in_json
        self._tell = tell
        self._clock = clock
        self._tell_again = float("-inf")
        self._slot = slot
        self._generation = generation

    def write(self, access: Access) -> None:
        """Never raises: ``environ`` is the application's, and may hold what cannot be shown."""
        for logger in self._loggers:
            if logger.filters and not self._passes(logger, access):
                return
        line = self.line(access, self.file.longest)
        self.file.write(line + b"\n")
        if self.file.failure is not None:
            self._say_why(self.file.failure)

    def record(self, access: Access, name: str) -> logging.LogRecord:
        """The line as one of the logger ``name``, with its atoms in ``args``."""
        text = self._text
        if self._json:
            text = self.line(access).decode("utf-8").replace("%", "%%")
        record = logging.LogRecord(name, logging.INFO, "", 0, text, (), None)
        record.args = Atoms(access)
        return record

    def _passes(self, logger: logging.Logger, access: Access) -> bool:
        """A filter is any code: what it fails at is written."""
        try:
            return bool(logger.filter(self.record(access, logger.name)))
        except Exception as error:  # noqa: BLE001 - whatever it raises
            self._tell_at_times(
                f"a filter of the logger {logger.name} raised {in_a_line(error)}: the lines of the "
                "access log that it fails at are written"
            )
            return True

    def line(self, access: Access, longest: int | None = None) -> bytes:
        """The line, without its end; with it, it has no more than ``longest`` octets."""
        if access.slot is None:
            access.slot, access.generation = self._slot, self._generation
        try:
            line = self._format(access).encode("utf-8", "backslashreplace")
        except Exception as error:  # noqa: BLE001 - of a __str__, say
            text = f"this line could not be formatted: {in_a_line(error)}"
            line = printable(text).encode("ascii")
        if longest is None or len(line) < longest:
            return line
        if self._json:  # cut anywhere else it would be no object any more
            return next(
                shorter
                for most in _SHORTER
                if len(shorter := json_line(access, most).encode("ascii")) < longest
            )
        return line[: longest - 1]

    def end(self) -> None:
        """There is nobody left to write more. What is lost now stays so."""
        if self.file.lost:
            were = "1 line was" if self.file.lost == 1 else f"{self.file.lost} lines were"
            self._tell(f"{were} lost, and it stays so: the access log {self._name} took no more")

    @property
    def _name(self) -> str:
        return "on standard output" if self.file.path == "-" else self.file.path

    def _tell_at_times(self, text: str) -> None:
        now = self._clock()
        if now >= self._tell_again:
            self._tell_again = now + _TELL_EVERY
            self._tell(text)

    def _say_why(self, failure: OSError) -> None:
        slow = isinstance(failure, BlockingIOError)
        why = "whoever reads it is too slow" if slow else failure.strerror
        lost = f"{self.file.lost} lines are lost so far" if self.file.lost > 1 else "Lines are lost"
        self._tell_at_times(
            f"the access log {self._name} cannot be written: {why}. {lost}, and counted, until "
            f"it can be{'; make room' if failure.errno in _FULL else ''}"
        )
