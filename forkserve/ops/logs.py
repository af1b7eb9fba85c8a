"""The error log, and the files that both logs are written to.

Every line is one ``write`` to a descriptor in append mode, so lines of several processes never mix.
Writing to a log cannot fail: what the disk does not take is counted, and the count is written
when it takes lines again.
"""

import io
import logging
import os
import time

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

# Everything but printable ASCII, and the two characters with which a quoted field could be left.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 256), 0x22, 0x5C)}


def printable(text: str) -> str:
    """``text`` (of a client, latin-1) so that it can forge no line and move no terminal."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.translate(_ESCAPES).encode("ascii", "backslashreplace").decode("ascii")


class LogFile:
    """A file, or a standard stream, that lines are appended to."""

    def __init__(self, path: str, standard_stream: int) -> None:
        """``path`` is absolute, or "-" for the descriptor ``standard_stream``."""
        self.path = path
        self._fd = standard_stream
        self._lost = 0

    def open(self, uid: int = -1, gid: int = -1) -> None:
        """Open the file, and give it to the user who will have to open it again. Raises OSError."""
        if self.path == "-":
            return
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        if os.geteuid() == 0 and (uid, gid) != (-1, -1) and os.path.isfile(self.path):
            os.fchown(fd, uid, gid)
        if self._fd <= 2:
            self._fd = fd
        else:
            # Onto the same number: faulthandler, and a thread that is writing, keep theirs.
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)

    def fileno(self) -> int:
        return self._fd

    def write(self, line: bytes) -> None:
        """Append one line, or several that belong together. Never raises."""
        try:
            if self._lost:
                line = b"%d lines were lost here: the log could not be written\n%b" % (
                    self._lost, line,
                )  # fmt: skip
            written = os.write(self._fd, line)
            while written < len(line):
                written += os.write(self._fd, line[written:])
            self._lost = 0
        except OSError:
            self._lost += 1

    def close(self) -> None:
        """Close the file. A standard stream stays open."""
        if self._fd > 2:
            os.close(self._fd)
            self._fd = -1


class _Lines(logging.Handler):
    """Writes records to a LogFile."""

    def __init__(self, file: LogFile) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - a log call must not fail whatever it calls: its caller
            text = f"a line could not be formatted: {record.msg!r} {record.args!r}"
        self._file.write(text.encode("utf-8", "backslashreplace") + b"\n")


class _Formatter(logging.Formatter):
    """2026-11-20 07:25:06.123 +0000 INFO [worker 2 gen 1 pid 4711] text"""

    def __init__(self, who: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s [{who} pid {os.getpid()}] %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        local = time.localtime(record.created)
        return time.strftime(f"%Y-%m-%d %H:%M:%S.{int(record.msecs):03d} %z", local)


def error_log(file: LogFile, level: str, who: str) -> logging.Logger:
    """The error log of this process. ``who`` is "master", or "worker 2 gen 1".

    The logger stands outside of the logging module's tree: an application that configures logging
    (and by default disables every logger that exists) must not silence its server.
    """
    log = logging.Logger("forkserve", LEVELS[level])
    handler = _Lines(file)
    handler.setFormatter(_Formatter(who))
    log.addHandler(handler)
    return log


class ErrorStream(io.TextIOBase):
    """``wsgi.errors``: what the application writes goes to the error log's file as it is."""

    def __init__(self, file: LogFile) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text:
            self._file.write(text.encode("utf-8", "backslashreplace"))
        return len(text)
