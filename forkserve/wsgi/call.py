"""The call of the application: the whole contract of PEP 3333, and nothing of HTTP.

    start_response ──> sink.start(status, headers)     may be replaced until the sink is committed
    first block    ──> sink.send(block)                commits: the head goes out with it
    a lone block   ──> sink.send_only(block)           head and whole body at once, length known
    end            ──> sink.finish()                   only if nothing failed

The application's errors pass through ``run_app`` unchanged. Its caller sees from
``sink.committed`` whether the client can still be told.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeAlias

from forkserve.http.errors import InvalidResponse

Environ: TypeAlias = dict[str, Any]
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]
Application: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

_NOT_STARTED = "the application did not call start_response"


class Sink:
    """Where the response to one call goes: what the application calls, above what a server does.

    ``committed``  an octet of the response is out, or may be
    ``started``    start_response was called, and took what it was given
    ``wrote``      a block was sent

    (A base class and not an object of its own between the two: that would cost each request 2 % of
    its time.)
    """

    __slots__ = ("committed", "started", "wrote")

    def __init__(self) -> None:
        self.committed = self.started = self.wrote = False

    # ---- for the application

    def start_response(
        self,
        status: str,
        headers: Sequence[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        """PEP 3333, "The start_response() Callable"."""
        if exc_info is not None:
            try:
                if self.committed:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # a cycle through this frame otherwise
        elif self.started:
            raise InvalidResponse("start_response was called again, without exc_info")
        self.started = False
        self.start(status, headers)
        self.started = True
        return self.write

    def write(self, block: bytes) -> None:
        """The ``write`` callable; also what each block of the iterable goes through."""
        if type(block) is not bytes:
            block = _as_bytes(block)
        if block:
            if not self.started:
                raise InvalidResponse(_NOT_STARTED)
            self.wrote = True
            self.send(block)

    # ---- for the server to do

    @abstractmethod
    def start(self, status: str, headers: Sequence[tuple[str, str]]) -> None:
        """Take status and header, in place of any taken before. Raises InvalidResponse."""

    @abstractmethod
    def send(self, block: bytes) -> None:
        """Send one non-empty block of the body, now."""

    @abstractmethod
    def send_only(self, block: bytes) -> None:
        """Send the whole body, which may be empty."""

    @abstractmethod
    def finish(self) -> None:
        """The body is complete."""


def run_app(app: Application, environ: Environ, sink: Sink) -> None:
    """Call ``app`` and send what it answers to ``sink``.

    Whatever happens, ``close`` of what it returned is called exactly once, after the response is
    finished or has failed. Raises what the application raises, and InvalidResponse for an answer
    that breaks the contract.
    """
    blocks = app(environ, sink.start_response)
    if type(blocks) is list and len(blocks) == 1 and not sink.wrote:
        # The usual answer: its length is known, and a list has nothing to close.
        block = blocks[0]
        if type(block) is not bytes:
            block = _as_bytes(block)
        if not sink.started:
            raise InvalidResponse(_NOT_STARTED)
        sink.send_only(block)
        return
    try:
        for block in blocks:
            sink.write(block)
        if sink.wrote:
            sink.finish()
        elif sink.started:
            sink.send_only(b"")
        else:
            raise InvalidResponse(_NOT_STARTED)
    finally:
        close = getattr(blocks, "close", None)
        if close is not None:
            close()


def _as_bytes(block: object) -> bytes:
    """A block of another type than bytes. PEP 3333 knows no other; subclasses are welcome."""
    if isinstance(block, bytes):
        return bytes(block)
    raise InvalidResponse(f"a block of the body is not bytes but {type(block).__name__}")
