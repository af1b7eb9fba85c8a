"""The call of the application: the whole contract of PEP 3333, and nothing of HTTP.

    NEW ──start_response──> STARTED ──first block──> COMMITTED ──the end──> FINISHED
     ^ with exc_info ──────────┘         └──────── something fails ───────> ABORTED

In STARTED the status and the header may still be replaced. A lone block takes both steps at once:
its length is known, and head and body leave together. What the application raises passes through
``run_app`` unchanged; its caller sees from the stage whether the client can still be told.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, TypeAlias

from forkserve.http.errors import InvalidResponse
from forkserve.wsgi.file_wrapper import FileWrapper

Environ: TypeAlias = dict[str, Any]
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]
Application: TypeAlias = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Stage(Enum):
    """How far the response to one call is."""

    NEW = "start_response was not called, or what it was given was refused"
    STARTED = "status and header are known, and can still be replaced"
    COMMITTED = "octets of it are out"
    FINISHED = "nothing more of it goes out; further blocks are dropped"
    ABORTED = "the client cannot be given the rest"


NEW, STARTED, COMMITTED, FINISHED, ABORTED = Stage
_NOT_STARTED = "the application did not call start_response"


class Sink(ABC):
    """Where the response to one call goes: what the application calls, above what a server does.

    A base class and not an object of its own between the two: there is one a request.
    """

    __slots__ = ("stage",)

    def __init__(self) -> None:
        self.stage = NEW

    # ---- for the application

    def start_response(
        self,
        status: str,
        headers: Sequence[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        """PEP 3333, "The start_response() Callable"."""
        if self.stage is not NEW:
            if exc_info is None:
                raise InvalidResponse("start_response was called again, without exc_info")
            try:
                if self.stage is not STARTED:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # a cycle through this frame otherwise
            self.stage = NEW
        self.start(status, headers)
        self.stage = STARTED
        return self.write

    def write(self, block: bytes) -> None:
        """The ``write`` callable; also what each block of the iterable goes through."""
        if type(block) is not bytes:
            block = _as_bytes(block)
        if block:
            if self.stage is NEW:
                raise InvalidResponse(_NOT_STARTED)
            if self.stage is not FINISHED:
                self.send(block)

    # ---- for the server to do; the stage is its to move, from the first octet on

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
    def send_file(self, wrapper: FileWrapper) -> bool:
        """Send the rest of a file as the whole body, perhaps later. True: the sink closes
        ``wrapper``, when that is done or has failed. False: it is to be iterated."""

    @abstractmethod
    def finish(self) -> None:
        """The body is complete."""


def run_app(app: Application, environ: Environ, sink: Sink) -> None:
    """Call ``app`` and send what it answers to ``sink``.

    Whatever happens, ``close`` of what it returned is called exactly once, after the response is
    finished or has failed: of a file that was left to ``sink``, by that, later. Raises what the
    application raises, and InvalidResponse for an answer that breaks the contract.
    """
    blocks = app(environ, sink.start_response)
    stage = sink.stage
    if type(blocks) is list and len(blocks) == 1 and (stage is STARTED or stage is NEW):
        # The usual answer; and a list has nothing to close.
        block = blocks[0]
        if type(block) is not bytes:
            block = _as_bytes(block)
        if stage is NEW:
            raise InvalidResponse(_NOT_STARTED)
        sink.send_only(block)
        return
    left = False
    try:
        # The very wrapper: what another layer has put around it may change what is in it.
        if type(blocks) is FileWrapper and stage is STARTED:
            left = sink.send_file(blocks)
        if not left:
            _send_blocks(blocks, sink)
    finally:
        close = None if left else getattr(blocks, "close", None)
        if close is not None:
            close()


def _send_blocks(blocks: Iterable[bytes], sink: Sink) -> None:
    for block in blocks:
        sink.write(block)
        if sink.stage is FINISHED:
            break  # no body after HEAD, or as much as was announced: the rest may have no end
    if sink.stage is COMMITTED:
        sink.finish()
    elif sink.stage is STARTED:
        sink.send_only(b"")
    elif sink.stage is NEW:
        raise InvalidResponse(_NOT_STARTED)


def _as_bytes(block: object) -> bytes:
    """A block of another type than bytes. PEP 3333 knows no other; subclasses are welcome."""
    if isinstance(block, bytes):
        return bytes(block)
    raise InvalidResponse(f"a block of the body is not bytes but {type(block).__name__}")
