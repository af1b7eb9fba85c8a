"""`capture_output`: what the application prints goes to the error log's file."""

import contextlib
import os
import stat
import sys

from forkserve.ops.logs import LogFile


def capture_output(file: LogFile, *others: LogFile | None) -> None:
    """Put the file of ``file`` in the place of standard output and standard error.

    Only a regular file: from a pipe that nobody reads the application would get errors, and where
    the log is a standard stream there is nothing to do. ``others`` are logs that may be written to
    standard output, and go on being that.
    """
    if file.path == "-" or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return
    for other in others:
        if other is not None:
            other.step_aside()
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        with contextlib.suppress(Exception):  # the application may have put anything there
            stream.flush()
        os.dup2(file.fileno(), number)
        with contextlib.suppress(Exception):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
