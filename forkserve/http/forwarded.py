"""What proxies say of a request: ``X-Forwarded-*``, and ``Forwarded`` (RFC 7239).

Anybody can send these fields. So they count only if the peer, who sent the request, is trusted; and
of a list only the items count that trusted proxies have written. Each proxy appends what it knows
of its own peer, so the list is read from its end:

* an address that is trusted too is one more proxy, and the item in front of it is of its making;
* the first that is not trusted is the client. If all are trusted, the leftmost is;
* what is no address ("unknown", "_hidden", "unix:", or malformed) ends the walk: whoever stands
  behind it is not known, so nothing that is left of it counts. The client is then the last proxy
  that has an address.

Scheme, host and port are those that stand beside the client. Nothing here raises: what is malformed
counts as not said.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from forkserve.http import grammar
from forkserve.http.errors import ProtocolError
from forkserve.http.head import check_host

# In the order of the arguments of ``_read``.
_READ = (
    "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT", "HTTP_FORWARDED",
)  # fmt: skip

# The others are not interpreted here, but by applications: with these, too, proxies say who the
# client is, by which scheme and host it came, or where the application is mounted.
FIELDS = frozenset(_READ) | frozenset(
    f"HTTP_{name}"
    for name in (
        "X_FORWARDED_BY X_FORWARDED_HTTPS X_FORWARDED_PREFIX X_FORWARDED_PROTOCOL "
        "X_FORWARDED_SCHEME X_FORWARDED_SCRIPT_NAME X_FORWARDED_SERVER X_FORWARDED_SSL "
        "X_CLIENT_IP X_CLUSTER_CLIENT_IP X_HOST X_HTTPS X_REAL_IP X_SCHEME X_SCRIPT_NAME "
        "X_URL_SCHEME FRONT_END_HTTPS"
    ).split()
)  # fmt: skip
"""The CGI variables of all fields that only a trusted proxy may send."""

# Items of a list that are looked at, counted from its end. No request passes so many proxies.
_MOST_ITEMS = 64
_LONGEST_NODE = 128
_REMEMBERED = 512

# node = nodename [ ":" node-port ]                                    RFC 7239 section 6
# nodename = IPv4address / "[" IPv6address "]" / "unknown" / obfnode
# node-port = 1*5DIGIT / obfport ; obfport = "_" 1*(ALPHA / DIGIT / "." / "_" / "-")
# Deviations: X-Forwarded-For has IPv6 without brackets, which has no port then; and a zone (RFC
# 6874) may follow, which only the proxy itself can make sense of. ``ipaddress`` has the last word.
_ZONE = r"(?:%[A-Za-z0-9._~\-]{1,40})?"
_node = re.compile(
    rf"(?:\[([0-9A-Fa-f:.]+){_ZONE}\]|([0-9.]+))(?::(?:([0-9]{{1,5}})|_[A-Za-z0-9._\-]+))?"
    rf"|([0-9A-Fa-f:.]+){_ZONE}"
).fullmatch
_quoted = re.compile(r'"((?:[^"\\]|\\.)*)"').fullmatch  # RFC 9110 section 5.6.4
_port = re.compile(r"[0-9]{1,5}").fullmatch

Trusts = Callable[[str], bool]
"""Whether an address, as text, is one of a trusted proxy."""


class Forwarded(NamedTuple):
    """What becomes of a request in whose head some of ``FIELDS`` are. "" is what nobody has said.

    ``drop``         variables that the application must not see
    ``address``      the client's, in its shortest form, IPv6 without brackets; ``port`` is its port
    ``scheme``       "http" or "https"
    ``host``         as the client's Host field was
    ``server_name``  the host without its port, IPv6 in brackets (RFC 3875 section 4.1.14)
    ``server_port``  the port that the client connected to
    """

    drop: frozenset[str] = frozenset()
    address: str = ""
    port: str = ""
    scheme: str = ""
    host: str = ""
    server_name: str = ""
    server_port: str = ""


UNTRUSTED = Forwarded(FIELDS)
"""The peer is nobody who may send such fields."""

_ONLY_FORWARDED = frozenset({"HTTP_FORWARDED"})
_NOTHING: frozenset[str] = frozenset()


def forwarded_reader(trusts: Trusts) -> Callable[[Mapping[str, str]], Forwarded]:
    """A function that says what the trusted peer that sent ``fields`` says, and the trusted proxies
    behind it.

    It remembers its answers of late: a client sends several requests, and its proxy says the same
    of each.
    """
    remembered = lru_cache(maxsize=1024)(partial(_read, trusts))

    def read(fields: Mapping[str, str]) -> Forwarded:
        texts = [*map(fields.get, _READ)]
        # What is long was not made by proxies. It takes no memory here.
        short = sum([len(text) for text in texts if text]) <= _REMEMBERED
        return remembered(*texts) if short else _read(trusts, *texts)

    return read


def _read(
    trusts: Trusts,
    x_for: str | None,
    x_proto: str | None,
    x_host: str | None,
    x_port: str | None,
    rfc7239: str | None,
) -> Forwarded:
    """Many proxies set X-Forwarded-* and pass on the ``Forwarded`` of the client (nginx does). So
    with one of the former there, even an empty one, the latter is dropped."""
    if x_for is x_proto is x_host is x_port is None:
        return _read_rfc7239(rfc7239 or "", trusts)
    nodes = _items(x_for)
    at, client = _walk(nodes, trusts)

    def said(text: str | None) -> str:
        values = _items(text)
        if not values:
            return ""
        # Lists of one length were written by the same proxies. Of others only the end is known to
        # be written by the nearest one.
        return values[at] if len(values) == len(nodes) else values[-1]

    return _forwarded(_ONLY_FORWARDED, client, said(x_proto), said(x_host), said(x_port))


def _read_rfc7239(text: str, trusts: Trusts) -> Forwarded:
    """RFC 7239 section 4: one element for each proxy, with what it knows as pairs."""
    elements = [_pairs(item) for item in _items(text)]
    at, client = _walk([element.get("for", "") for element in elements], trusts)

    def said(name: str) -> str:
        # A proxy may say only who its peer is. Then the next one to the right knows, if any.
        return next((element[name] for element in elements[at:] if name in element), "")

    return _forwarded(_NOTHING, client, said("proto"), said("host"), "")


def _walk(nodes: Sequence[str], trusts: Trusts) -> tuple[int, tuple[str, str]]:
    """(index of the last item that a trusted proxy has written, the client's address and port)."""
    client = ("", "")
    at = len(nodes)
    while at > 0:
        at -= 1
        node = _address(nodes[at]) if len(nodes[at]) <= _LONGEST_NODE else None
        if node is None:
            break
        client = node
        if not trusts(node[0]):
            break
    return at, client


def _forwarded(
    drop: frozenset[str], client: tuple[str, str], scheme: str, host: str, port: str
) -> Forwarded:
    """Keep of what was said what is well-formed."""
    scheme = scheme.lower()
    host, server_name, server_port = _host(host)
    return Forwarded(
        drop,
        *client,
        scheme if scheme in ("http", "https") else "",
        host,
        server_name,
        _port_number(port) or server_port,
    )


def _items(text: str | None) -> list[str]:
    """The last items of a list, empty ones left out (RFC 9110 section 5.6.1).

    Split at each comma, within quotes too: no address, scheme or host holds one, and so a quote
    that a client leaves open cannot swallow what a proxy appends.
    """
    pieces = (text or "").rsplit(",", _MOST_ITEMS)[-_MOST_ITEMS:]
    return [item for piece in pieces if (item := piece.strip(" \t"))]


def _pairs(element: str) -> dict[str, str]:
    """``for=192.0.2.1;proto=https`` as a dict; {} if it is malformed, or names something twice."""
    pairs: dict[str, str] = {}
    for pair in element.split(";"):
        name, equals, value = pair.strip(" \t").partition("=")
        name = name.lower()
        if not name and not equals:
            continue
        if not (grammar.is_token(name) and value) or name in pairs:
            return {}
        pairs[name] = _unquoted(value)
    return pairs


def _unquoted(value: str) -> str:
    match = _quoted(value)
    return re.sub(r"\\(.)", r"\1", match[1]) if match else value


def _address(node: str) -> tuple[str, str] | None:
    """(address, port or "") of an item, None if it is no address."""
    match = _node(_unquoted(node))
    if match is None:
        return None
    try:
        address = ip_address(match[1] or match[2] or match[4])
    except ValueError:
        return None
    port = match[3] or ""
    if port and int(port) > 65535:
        return None
    if isinstance(address, IPv6Address):
        # A proxy with one socket for both families writes IPv4 like this.
        return str(address.ipv4_mapped or address), port
    return (str(address), port) if match[2] else None


def _host(text: str) -> tuple[str, str, str]:
    """(host, its name, its port), all "" for what could not stand in Host."""
    try:
        check_host(text)
    except ProtocolError:
        return "", "", ""
    match = grammar.host(text)
    assert match is not None  # or else check_host would have raised
    name, port = match.groups("")
    return text, name, _port_number(port)


def _port_number(text: str) -> str:
    """A port in its shortest form, "" if it is none that one could connect to."""
    if not _port(text) or not 0 < int(text) <= 65535:
        return ""
    return str(int(text))
