"""The head of a request: request line and field lines (RFC 9112 sections 2, 3 and 5).

``parse_head`` is the only way in. It is pure: what it returns depends on its arguments alone (the
table of field lines seen before only saves work). It has two paths with one result. The fast one
takes a whole, short, ordinary head with a handful of C-level operations. Everything else, and every
message that has to be refused, goes line by line through the careful one, so that the error is the
same whether the octets came at once or one by one.
"""

from functools import lru_cache
from ipaddress import IPv6Address

from forkserve.http import grammar
from forkserve.http.errors import ProtocolError


class Limits:
    """How much of a head is accepted, in octets, and how many fields.

    ``scheme``: that of an absolute target, "https" on connections with TLS.
    """

    __slots__ = ("field_size", "fields", "head", "request_line", "scheme", "short")

    def __init__(
        self,
        request_line: int = 8190,
        fields: int = 100,
        field_size: int = 8190,
        head: int = 65536,
        scheme: str = "http",
    ) -> None:
        self.scheme = scheme
        self.request_line = request_line
        self.fields = fields
        self.field_size = field_size
        self.head = head
        # A head no longer than this cannot break any of the limits in octets.
        self.short = min(request_line, field_size, head)


class Head:
    """A request head that is valid in itself.

    ``line``     the request line as sent
    ``method``   as sent; methods are case-sensitive
    ``target``   the request target as sent
    ``path``     its path, still percent-encoded; "*" for ``OPTIONS *``
    ``query``    its query without the "?", "" if there is none
    ``minor``    the minor version: 0, or 1 for HTTP/1.1 and later
    ``fields``   CGI variable name (RFC 3875 section 4.1, "HTTP_ACCEPT") -> value, latin-1 text,
                 repeated fields joined. In this form because all that reads them, framing too,
                 looks up by name, and because environ takes them over in one ``dict.update``.
    ``end``      index in the buffer of the first octet after the head
    """

    __slots__ = ("end", "fields", "line", "method", "minor", "path", "query", "target")

    def __init__(
        self,
        line: str,
        method: str,
        target: str,
        path: str,
        query: str,
        minor: int,
        fields: dict[str, str],
        end: int,
    ) -> None:
        self.line = line
        self.method = method
        self.target = target
        self.path = path
        self.query = query
        self.minor = minor
        self.fields = fields
        self.end = end


# Field lines that repeat from request to request, parsed: one dict lookup instead of a split, three
# checks and two new strings. Only fields of few values that hold no secret; when the table is full
# it starts anew, so that a client who invents lines costs a refill and never memory.
_REPEATING = frozenset(
    f"HTTP_{name}"
    for name in (
        "HOST CONNECTION USER_AGENT ACCEPT ACCEPT_ENCODING ACCEPT_LANGUAGE ACCEPT_CHARSET "
        "CACHE_CONTROL PRAGMA DNT TE UPGRADE_INSECURE_REQUESTS ORIGIN PRIORITY X_REQUESTED_WITH "
        "X_FORWARDED_PROTO X_FORWARDED_HOST X_FORWARDED_PORT SEC_FETCH_DEST SEC_FETCH_MODE "
        "SEC_FETCH_SITE SEC_FETCH_USER SEC_CH_UA SEC_CH_UA_MOBILE SEC_CH_UA_PLATFORM SEC_GPC"
    ).split()
) | {"CONTENT_TYPE"}
_KNOWN_LINES = 1024
_KNOWN_LINE_OCTETS = 256
_known: dict[str, tuple[str, str]] = {}

_SINGLETONS = {
    "HTTP_HOST": "Host is repeated",
    "CONTENT_LENGTH": "Content-Length is repeated",
    "CONTENT_TYPE": "Content-Type is repeated",
}


def parse_head(buffer: bytes, start: int, limits: Limits) -> Head | None:
    """Parse the request head that begins at ``buffer[start]``.

    Returns None while it is incomplete (and no rule is broken yet): call it again with more octets.
    Raises ProtocolError (400, 414, 421, 431, 501, 505) as soon as the octets at hand cannot become
    a head that is accepted.
    """
    end = buffer.find(b"\r\n\r\n", start)
    if end < 0 or end - start > limits.short:
        return _parse_carefully(buffer, start, limits)
    lines = buffer[start:end].decode("latin-1").split("\r\n")
    line = lines.pop(0)
    match = grammar.origin_request_line(line)
    if match is None or len(lines) > limits.fields:
        return _parse_carefully(buffer, start, limits)
    method, target, path, query, minor = match.groups("")
    fields: dict[str, str] = {}
    known = _known.get
    for item in lines:
        field = known(item) or field_line(item)
        if field is not None:
            name, value = field
            fields[name] = _join(name, fields[name], value) if name in fields else value
    if minor == "0":
        return Head(line, method, target, path, query, 0, fields, end + 4)
    if "HTTP_HOST" not in fields:
        raise ProtocolError(400, "Host is missing")
    return Head(line, method, target, path, query, 1, fields, end + 4)


def field_line(line: str) -> tuple[str, str] | None:
    """Parse one field line, without its CRLF, into (CGI variable name, value).

    Returns None for a field that must not reach an application. Raises ProtocolError(400).
    """
    name, colon, value = line.partition(":")
    # A name that nobody uses is not remembered: clients choose it, and its length.
    variable = _variable(name) if len(name) <= 64 else _variable.__wrapped__(name)
    value = value.strip(" \t")
    if not (variable and colon and value.isascii() and value.isprintable()):
        if not colon or variable is None or grammar.control_in_field(value):
            raise ProtocolError(400, _what_is_wrong_with(line))
        if not variable:
            return None
    if variable in _CHECKED:
        _CHECKED[variable](value)
    field = (variable, value)
    if variable in _REPEATING and len(line) <= _KNOWN_LINE_OCTETS:
        if len(_known) >= _KNOWN_LINES:
            _known.clear()
        _known[line] = field
    return field


@lru_cache(maxsize=1024)
def _variable(name: str) -> str | None:
    """The CGI variable of a field name; "" if the field is dropped; None if it is no token.

    A name with an underscore would overwrite the variable of the same name with a hyphen, which a
    proxy may have set. ``Proxy`` would become HTTP_PROXY, which HTTP clients take for a setting.
    """
    if not grammar.is_token(name):
        return None
    variable = name.upper().replace("-", "_")
    if "_" in name or variable == "PROXY":
        return ""
    return variable if variable in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{variable}"


def _join(name: str, first: str, second: str) -> str:
    """Combine two field lines of one name (RFC 9110 section 5.3). Raises ProtocolError(400)."""
    if name in _SINGLETONS:
        raise ProtocolError(400, _SINGLETONS[name])
    # RFC 6265 section 5.4 has one Cookie line; RFC 9113 section 8.2.3 joins several like this.
    return f"{first}; {second}" if name == "HTTP_COOKIE" else f"{first},{second}"


def _what_is_wrong_with(line: str) -> str:
    """Why a line is not a field line, for the person who wrote the client."""
    name, colon, _ = line.partition(":")
    if "\n" in line:
        return "a line ends with a bare LF"
    if line.startswith((" ", "\t")):
        return "a field line is folded (obs-fold)"
    if not colon:
        return "a field line has no colon"
    if not name:
        return "a field name is empty"
    if name.endswith((" ", "\t")):
        return "there is a blank between a field name and its colon"
    if not grammar.is_token(name):
        return "a field name holds a character that is not allowed"
    return "a field value holds a control character"


def check_host(value: str) -> None:
    """Check the value of Host, or an authority. Raises ProtocolError(400).

    An empty one is valid (RFC 9110 section 7.2: a target URI without an authority), but there is no
    port of no host.
    """
    match = grammar.host(value)
    if match is None:
        raise ProtocolError(400, "Host is malformed")
    name, port = match.groups("")
    if not name and value:
        raise ProtocolError(400, "Host has a port and no name")
    if len(port) > 5 or int(port or 0) > 65535:
        raise ProtocolError(400, "Host has a port above 65535")
    if name.startswith("["):
        try:
            IPv6Address(name[1:-1])
        except ValueError:
            raise ProtocolError(400, "Host is malformed") from None


def _check_length(value: str) -> None:
    if not grammar.is_digits(value):
        raise ProtocolError(400, "Content-Length is not a number")


# Fields whose value is checked here, because a wrong one makes the head itself invalid.
_CHECKED = {"HTTP_HOST": check_host, "CONTENT_LENGTH": _check_length}


# ---- the careful path: line by line, each rule in the order in which the octets arrive


def _parse_carefully(buffer: bytes, start: int, limits: Limits) -> Head | None:
    """What ``parse_head`` promises, for any head: long, unusual, incomplete or wrong."""
    begin = start
    while buffer.startswith(b"\r\n", begin):
        # RFC 9112 section 2.2: an empty line before the request line is ignored. Several are, as
        # many as fit into the limit of the line that they are in front of.
        begin += 2
        if begin - start > limits.request_line:
            raise ProtocolError(400, "there are too many empty lines before the request line")
    end = buffer.find(b"\r\n\r\n", begin)
    # Octets past the limits are never looked at, however many there are.
    stop = end if end >= 0 else min(len(buffer), begin + limits.head + 2)
    lines = buffer[begin:stop].decode("latin-1").split("\r\n")
    unfinished = lines.pop() if end < 0 else None
    request: tuple[str, str, str, str, int, str | None] | None = None
    fields: dict[str, str] = {}
    octets = 0
    for count, line in enumerate(lines):
        _check_limits(count, line, octets, limits)
        octets += len(line) + 2
        if request is None:
            request = _request_line(line, limits.scheme)
            continue
        if (field := field_line(line)) is not None:
            name, value = field
            fields[name] = _join(name, fields[name], value) if name in fields else value
    if unfinished is not None:
        _check_limits(len(lines), unfinished.removesuffix("\r"), octets, limits)
        return None
    assert request is not None  # split always gives a first line
    method, target, path, query, minor, authority = request
    if minor and "HTTP_HOST" not in fields:
        raise ProtocolError(400, "Host is missing")
    if authority is not None:
        # RFC 9112 section 3.2.2: the host of an absolute target replaces Host.
        fields["HTTP_HOST"] = authority
    return Head(lines[0], method, target, path, query, minor, fields, end + 4)


def _check_limits(count: int, line: str, octets: int, limits: Limits) -> None:
    """Check line number ``count`` (0: the request line), which may still be growing.

    Only rules that more octets cannot mend, and in the order in which octets would break them, so
    that a line fed in pieces fails like one fed whole.
    """
    if count == 0:
        if line and not grammar.is_token(line[0]):
            raise ProtocolError(400, "the request line does not begin with a method")
        status, what, size = 414, "the request line is", limits.request_line
    else:
        if line and count > limits.fields:
            raise ProtocolError(431, "there are more fields than the limit")
        status, what, size = 431, "a field line is", limits.field_size
    if limits.head - octets < size:
        status, what, size = 431, "the head is", limits.head - octets
    if "\n" in line[: size + 1]:
        raise ProtocolError(400, "a line ends with a bare LF")
    if len(line) > size:
        raise ProtocolError(status, f"{what} longer than the limit")


def _request_line(line: str, own_scheme: str) -> tuple[str, str, str, str, int, str | None]:
    """Parse any valid request line: (method, target, path, query, minor, authority or None).

    Raises ProtocolError (400, 421, 501, 505).
    """
    parts = line.split(" ")
    if len(parts) != 3 or not grammar.is_token(parts[0]):
        raise ProtocolError(400, "the request line is malformed")
    method, target, version = parts
    match = grammar.http_version(version)
    if match is None:
        raise ProtocolError(400, "the HTTP version is malformed")
    if match[1] != "1":
        raise ProtocolError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    minor = int(match[2] != "0")
    if method == "CONNECT":
        # The only method with an authority-form target (RFC 9112 section 3.2.3). A 2xx would turn
        # the connection into a tunnel, and there is nothing behind a WSGI server to tunnel to.
        raise ProtocolError(501, "CONNECT is not implemented")
    if target == "*" and method == "OPTIONS":
        return method, target, target, "", minor, None
    if match := grammar.origin_form(target):
        path, query = match.groups("")
        return method, target, path, query, minor, None
    if match := grammar.absolute_form(target):
        scheme, authority, path, query = match.groups("")
        _check_authority(scheme.lower(), own_scheme, authority)
        # RFC 9112 section 3.2.4: OPTIONS with neither path nor query asks about the server.
        nothing = "*" if method == "OPTIONS" and target.endswith(authority) else "/"
        return method, target, path or nothing, query, minor, authority
    raise ProtocolError(400, "the request target is malformed or does not fit the method")


def _check_authority(scheme: str, own_scheme: str, authority: str) -> None:
    """Check what an absolute request target says before its path. Raises ProtocolError."""
    if scheme not in ("http", "https"):
        raise ProtocolError(400, "the request target has a scheme other than http and https")
    if scheme != own_scheme:
        # RFC 9110 section 7.4: a request for an https resource MUST be rejected unless it came
        # over a connection that is secured for it. An http resource is not to be found here
        # either: ``wsgi.url_scheme`` would give it another URI (section 4.2.2).
        raise ProtocolError(421, "the scheme of the request target is not that of the connection")
    if "@" in authority:
        # RFC 9110 section 4.2.4: userinfo in a target is there to deceive.
        raise ProtocolError(400, "the request target holds userinfo")
    if not authority or authority.startswith(":"):
        # RFC 9110 section 4.2.1: an http URI with an empty host is invalid.
        raise ProtocolError(400, "the request target has no host")
    check_host(authority)
