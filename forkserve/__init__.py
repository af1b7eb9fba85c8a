"""A pre-fork WSGI server: persistent connections in sync workers, reloads that lose nothing."""

from collections.abc import Callable
from typing import Protocol

__version__ = "0.1.0"


class ChunkedInput(Protocol):
    """The body of a request, chunk by chunk."""

    def chunked_read(self, timeout: float | None = None, /) -> bytes: ...

    def chunked_read_nb(self) -> bytes | None: ...


def chunked_read(timeout: float | None = None, /) -> bytes:
    """The next chunk of the body of the request that this worker answers, as the client framed it;
    b"" at the end of the body.

    ``timeout``: seconds that it may wait for the client each time; None and 0 stand for the setting
    `chunked_input_timeout`, a negative one for ever. Raises OSError if the chunk does not come, and
    RuntimeError if no call of the application is running.
    """
    return _of_running_call().chunked_read(timeout)


def chunked_read_nb() -> bytes | None:
    """The same without waiting: None if the next chunk is not there yet."""
    return _of_running_call().chunked_read_nb()


def _no_call() -> ChunkedInput:
    raise RuntimeError("chunked_read is for the calls that a worker of forkserve makes")


_of_running_call: Callable[[], ChunkedInput] = _no_call


def read_chunks_from(of_running_call: Callable[[], ChunkedInput]) -> None:
    """From now on the two functions ask ``of_running_call`` what to read from. For the worker."""
    global _of_running_call
    _of_running_call = of_running_call
