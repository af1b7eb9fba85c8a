"""Children that the operator's code forks in this process, and that come back out of that code.

A hook that forks a child to do something beside, and lets it end with ``sys.exit()`` or at its last
line, means the end of that child. What stands behind the call is the server's: a child that went on
there would be a second master, with the sockets and the workers of the first.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

from forkserve.errors import EXIT_FAILED, EXIT_OK


@contextlib.contextmanager
def strays_end_here() -> Iterator[None]:
    """A child that is forked in the block ends where it would leave it."""
    here = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() == here:
            raise
        _end(error)
    if os.getpid() != here:
        _end(None)


def _end(error: BaseException | None) -> None:
    """As the interpreter would, but for what is registered to be done at the end: that is for the
    process that has registered it."""
    status = EXIT_OK if error is None else EXIT_FAILED
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else EXIT_FAILED * bool(error.code)
    elif error is not None:
        with contextlib.suppress(Exception):
            traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # anything may have been put there
            stream.flush()
    os._exit(status & 0xFF)
