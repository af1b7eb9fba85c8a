"""The cases of ``corpus/``, and what forkserve makes of them as pure functions and as a connection.

How the files are written stands in ``corpus/README.rst``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkserve.http.body import Decoder, decoder_for
from forkserve.http.errors import ProtocolError
from forkserve.http.framing import RequestFraming, request_framing
from forkserve.http.head import Head, Limits, parse_head
from forkserve.worker.state import State
from tests.worker.peer import Peer

LIMITS = Limits(request_line=200, fields=10, field_size=200, head=600)
MAX_BODY = 1000

OPEN, MORE, CLOSE = "open", "more", "close"
Request = tuple[str, str, bytes]


@dataclass(frozen=True)
class Outcome:
    """The requests, and what is then: OPEN, MORE, CLOSE, or the status of a refusal."""

    requests: tuple[Request, ...]
    end: str | int


@dataclass(frozen=True)
class Case:
    name: str
    source: str
    octets: bytes
    outcome: Outcome


def cases() -> list[Case]:
    found = []
    for path in sorted(Path(__file__).with_name("corpus").glob("*.txt")):
        for text in re.split(r"^case +", path.read_text(), flags=re.MULTILINE)[1:]:
            found.append(_case(path.stem, text.splitlines()))
    return found


def _case(theme: str, lines: list[str]) -> Case:
    name, source = re.split(r" {2,}", lines[0].strip())
    octets, requests = b"", []
    end: str | int = OPEN
    for line in lines[1:]:
        if line.startswith("| "):
            octets += _octets(line[2:])
        elif line.startswith("=> "):
            words = line[3:].split(" ", 2)
            if len(words) > 1:
                body = _octets(words[2]) if len(words) > 2 else b""
                requests.append((words[0], _expanded(words[1]), body))
            else:
                end = int(words[0]) if words[0].isdigit() else words[0]
        else:
            assert not line, f"neither octets nor an outcome: {line}"
    assert octets and (requests or end != OPEN), name
    assert isinstance(end, int) or end in (OPEN, MORE, CLOSE), name
    return Case(f"{theme}: {name}", source, octets, Outcome(tuple(requests), end))


def _expanded(text: str) -> str:
    while found := re.search(r"\{([^{}]+)\*([0-9]+)\}", text):
        text = text[: found.start()] + found[1] * int(found[2]) + text[found.end() :]
    return text


def _octets(text: str) -> bytes:
    return _expanded(text).encode("ascii").decode("unicode_escape").encode("latin-1")


class Reading:
    """What the pure functions make of octets that come in pieces."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.heads: list[tuple[bytes, Head, RequestFraming]] = []
        self._end: str | int = OPEN
        self._buffer = b""
        self._body: tuple[Head, RequestFraming, Decoder] | None = None
        self._content: list[bytes] = []

    def feed(self, octets: bytes) -> None:
        if self._end != OPEN:
            return
        self._buffer += octets
        try:
            while self._end == OPEN and self._step():
                pass
        except ProtocolError as error:
            self._end = error.status

    def _step(self) -> bool:
        """One head, or what is there of a body. False if more octets are needed."""
        if self._body is None:
            head = parse_head(self._buffer, 0, LIMITS)
            if head is None:
                return False
            framing = request_framing(head, MAX_BODY)
            self.heads.append((self._buffer[: head.end], head, framing))
            self._buffer = self._buffer[head.end :]
            self._body = head, framing, decoder_for(framing, LIMITS, MAX_BODY)
        head, framing, decoder = self._body
        taken = decoder.decode(self._buffer, 0, self._content)
        self._buffer = self._buffer[taken:]
        if not decoder.finished:
            return False
        self.requests.append((head.method, head.target, b"".join(self._content)))
        self._body = None
        self._content.clear()
        if not framing.persist:
            self._end = CLOSE
        return True

    @property
    def outcome(self) -> Outcome:
        waits = self._end == OPEN and (self._body is not None or self._buffer.strip(b"\r\n"))
        return Outcome(tuple(self.requests), MORE if waits else self._end)


def read(pieces: Iterable[bytes]) -> Outcome:
    reading = Reading()
    for piece in pieces:
        reading.feed(piece)
    return reading.outcome


def converse(pieces: Iterable[bytes]) -> Outcome:
    """What a connection makes of them."""
    requests: list[Request] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        requests.append((environ["REQUEST_METHOD"], environ["REQUEST_URI"], body))
        start_response("200 OK", [])
        return [b"read"]

    peer = Peer(
        app,
        limit_request_line=LIMITS.request_line,
        limit_request_fields=LIMITS.fields,
        limit_request_field_size=LIMITS.field_size,
        limit_request_head=LIMITS.head,
        max_body=MAX_BODY,
    )
    try:
        for piece in pieces:
            if peer.state is State.CLOSED:
                break
            peer.send(piece)
        statuses = re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", peer.read())
        answers = [int(status) for status in statuses if status != b"100"]
        state, buffer = peer.state, peer.connection.buffer
    finally:
        peer.connection.close()
        peer.connection.socket.close()
        peer.socket.close()
    refused = [status for status in answers if status != 200]
    assert answers == [200] * len(requests) + refused
    assert len(refused) <= 1
    end: str | int = OPEN
    if refused:
        end = refused[0]
        assert state is State.LINGER
    elif state is State.LINGER:
        end = CLOSE
    elif state is State.BODY or (state is State.HEAD and buffer.strip(b"\r")):
        end = MORE
    else:
        assert state in (State.HEAD, State.IDLE)
    return Outcome(tuple(requests), end)
