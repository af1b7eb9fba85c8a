"""The application of the status process: health, metrics, and a page for people.

Pure WSGI over a function that takes a snapshot of the scoreboard; it knows no worker and no master.
The page takes nothing from elsewhere, and may not: its Content-Security-Policy names the hashes of
its own script and style, and nothing else. Request targets, which are hostile text, reach it only
as JSON. On a loopback address the page answers to no name but the machine's own there: a page of
another site, in a browser on this machine, could have its name point here (DNS rebinding), and read
what runs.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from forkserve.ops import metrics
from forkserve.ops.health import why_not_ready
from forkserve.ops.history import History

STEP = 1.0
"""Seconds between two points of the charts."""

_TEXT = "text/plain; charset=utf-8"

_HOST = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::[0-9]*)?")  # RFC 3986 section 3.2.2, loosely

_STRANGER = (
    b"this address is a loopback one, and answers to localhost and to addresses only: another name "
    b"may be that of a site that wants to read what runs here\n"
)

Environ = Mapping[str, Any]


class Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes
    fields: tuple[tuple[str, str], ...] = ()


class StatusSite:
    """A WSGI application. Its own thread takes a snapshot each second, once ``begin`` was called;
    that is also how often an idle server wakes for it."""

    def __init__(
        self,
        take: Callable[[], Mapping[str, Any]],
        clock: Callable[[], float],
    ) -> None:
        """``take``: a snapshot."""
        self._take = take
        self._clock = clock
        self._history = History()
        self._lock = threading.Lock()
        self._page = _page()
        self._routes: dict[str, Callable[[Environ], Answer]] = {
            "/": lambda environ: _for_who_is_here(environ) or self._page,
            "/status.json": lambda environ: _for_who_is_here(environ) or self._status(environ),
            "/healthz": lambda environ: Answer(200, _TEXT, b"alive\n"),
            "/readyz": lambda environ: readiness(self._take()),
            "/metrics": lambda environ: measurements(self._take(), environ),
        }

    def begin(self) -> None:
        """Collect what the charts show, from now on."""
        self.sample()
        threading.Thread(target=self._sample_for_ever, name="history", daemon=True).start()

    def sample(self) -> None:
        """One point more."""
        with self._lock:
            self._history.add(self._take(), self._clock())

    def _sample_for_ever(self) -> None:
        never = threading.Event()
        while not never.wait(STEP):
            self.sample()

    def __call__(self, environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        route = self._routes.get(environ["PATH_INFO"])
        if route is None:
            return respond(Answer(404, _TEXT, b"there is no such page\n"), environ, start_response)
        return respond_with(route, environ, start_response)

    def _status(self, environ: Environ) -> Answer:
        """The snapshot, and the points after the one that the page has (`?after=`)."""
        found = re.search(r"(?:^|&)after=([0-9]{1,12})(?:&|$)", environ.get("QUERY_STRING", ""))
        snapshot = self._take()
        with self._lock:
            points = self._history.since(int(found[1]) if found else 0, self._clock())
        text = json.dumps(
            {
                **snapshot,
                "self": os.getpid(),  # another one numbers its points anew
                "ready": why_not_ready(snapshot) or "yes",
                "history": points,
            },
            separators=(",", ":"),
        )
        return Answer(200, "application/json", text.encode("ascii"))


def _for_who_is_here(environ: Environ) -> Answer | None:
    """None, or a refusal if a browser could be asking for the page of another site."""
    host = _HOST.fullmatch(environ.get("HTTP_HOST", ""))
    name = (host[1] or host[2] or "").lower().removesuffix(".") if host else "?"
    if not _is_loopback(environ["SERVER_NAME"]) or name in ("", "localhost") or _is_address(name):
        return None
    return Answer(421, _TEXT, _STRANGER)


def _is_address(name: str) -> bool:
    """Whom that leads to cannot be changed."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ip_address(name).is_loopback


def readiness(snapshot: Mapping[str, Any]) -> Answer:
    """200, or 503 and why."""
    why = why_not_ready(snapshot)
    if not why:
        return Answer(200, _TEXT, b"ready\n")
    return Answer(503, _TEXT, f"{why}\n".encode("ascii", "backslashreplace"))


def measurements(snapshot: Mapping[str, Any], environ: Environ) -> Answer:
    """Those for Prometheus, or 501 if what writes them is not there."""
    if not snapshot["server"]:
        return Answer(503, _TEXT, b"the server is starting\n")
    try:
        accept = environ.get("HTTP_ACCEPT", "")
        return Answer(200, *metrics.exposition(snapshot, accept))
    except ImportError:
        return Answer(501, _TEXT, f"{metrics.MISSING}\n".encode("ascii"))


def respond_with(
    route: Callable[[Environ], Answer], environ: Environ, start_response: Callable[..., object]
) -> Iterable[bytes]:
    """Answer, if it is only asked."""
    if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        return respond(route(environ), environ, start_response)
    refusal = Answer(405, _TEXT, b"this can only be read\n", (("Allow", "GET, HEAD"),))
    return respond(refusal, environ, start_response)


def respond(
    answer: Answer, environ: Environ, start_response: Callable[..., object]
) -> Iterable[bytes]:
    """The answer as WSGI."""
    phrase = HTTPStatus(answer.status).phrase
    fields = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        *answer.fields,
    ]
    start_response(f"{answer.status} {phrase}", fields)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]


def _page() -> Answer:
    """The page, and a policy that lets it run its own script and ask this server only."""
    octets = Path(__file__).with_name("status.html").read_bytes()
    policy = (
        f"default-src 'none'; script-src {_hashes(octets, b'script')}; "
        f"style-src {_hashes(octets, b'style')}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Answer(200, "text/html; charset=utf-8", octets, (("Content-Security-Policy", policy),))


def _hashes(page: bytes, element: bytes) -> str:
    """The sources of a policy that allow the inline elements of the page (CSP3 section 2.3.1)."""
    found = re.findall(b"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text).digest()).decode() for text in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
