"""The error log, and the files that both logs are written to.

Every line of ours is one ``write`` to a descriptor in append mode, so lines of several processes
never mix.
Writing to a log cannot fail: what the disk, or the reader of a pipe, does not take is counted, and
the count is written when it takes lines again.
"""

import errno
import fcntl
import io
import logging
import os
import select
import signal
import socket
import stat
import threading
from collections.abc import Callable
from typing import Any

from forkserve.errors import in_a_line
from forkserve.ops import styles
from forkserve.proc import wall

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


INFO = 6
"""The severity of most lines (RFC 5424 section 6.2.1, table 2), for a log that asks."""

NOTICE = logging.WARNING - 1
"""The level of what applications write to ``wsgi.errors``: nobody knows what it is."""

_SEVERITIES = (
    (logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (NOTICE, 5),
    (logging.INFO, INFO),
)  # fmt: skip
_LONGEST_WAITING = 1 << 16  # of a line of ``wsgi.errors`` without an end

Apology = Callable[[int], bytes]
"""The line, with its end, that tells of so many lost ones."""


def in_words(lost: int) -> bytes:
    """The apology of a log of text."""
    lines = b"1 line was" if lost == 1 else b"%d lines were" % lost
    return b"%b lost here: the log could not be written\n" % lines


def in_json(lost: int) -> bytes:
    """That of a log of objects."""
    return b'{"time":"%b","lost":%d,"message":"%b"}\n' % (
        wall.rfc3339().encode(), lost, in_words(lost).rstrip()
    )  # fmt: skip


class LogFile:
    """A file, or a standard stream, that lines are appended to.

    ``longest``     a line of more octets may be mixed with those of other processes; None: no such
    ``failure``     why the last line was lost; None if it was not
    ``lost``        lines that are lost, and of which the log itself does not tell yet
    ``apology``     tells of lines that were lost
    ``lines_only``  each ``write`` has to be of whole lines
    """

    def __init__(self, path: str, standard_stream: int) -> None:
        """``path`` is absolute, or "-" for the descriptor ``standard_stream``."""
        self.path = path
        self._fd = standard_stream
        self._write: Callable[[int, bytes], int] = os.write
        self._socket: socket.socket | None = None
        self.lost = 0
        self._torn = False
        self.longest: int | None = None
        self.failure: OSError | None = None
        self.apology: Apology = in_words
        self.lines_only = False

    def open(self, uid: int = -1, gid: int = -1) -> None:
        """Open the file. One that is made here is given to the user who will open it again.

        Raises OSError.
        """
        if self.path == "-":
            if self._fd <= 2:
                self._open_stream()
            return
        fd = _open_to_append(self.path, uid, gid)
        self.longest = select.PIPE_BUF if stat.S_ISFIFO(os.fstat(fd).st_mode) else None
        if self._fd <= 2:
            self._fd = fd
        else:
            # Onto the same number: faulthandler, and a thread that is writing, keep theirs.
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)

    def _open_stream(self) -> None:
        """Open the standard stream once more, so that a reader who does not read cannot block us.

        O_NONBLOCK belongs to the open file, which other programs may share, and not to the
        descriptor: so a pipe or a terminal is opened again, through /proc. A pipe that cannot be,
        because another user has made it, is asked each time; journald's socket has a flag of its
        own for it.
        """
        mode = os.fstat(self._fd).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = sock = socket.socket(fileno=os.dup(self._fd))
            self._fd = sock.fileno()
            self._write = lambda fd, octets: sock.send(octets, socket.MSG_DONTWAIT)
        elif stat.S_ISFIFO(mode) or os.isatty(self._fd):
            self.longest = select.PIPE_BUF
            flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                self._fd = os.open(f"/proc/self/fd/{self._fd}", flags)
            except OSError:
                if stat.S_ISFIFO(mode):
                    self._write = _write_to_pipe
            if os.isatty(self._fd):
                self._write = _write_to_terminal

    def fileno(self) -> int:
        return self._fd

    def step_aside(self) -> None:
        """Go on with a descriptor of its own, if it uses that of a standard stream."""
        if 0 <= self._fd <= 2:
            self._fd = fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, 3)

    def write(self, line: bytes, severity: int = INFO) -> None:
        """Append one line, or several that belong together. Never raises, nor blocks on a pipe."""
        if self.lost or self._torn:
            line = (b"\n" if self._torn else b"") + self.apology(self.lost) + line
        written = 0
        try:
            while written < len(line):
                written += self._write(self._fd, line[written:])
            self.lost, self._torn, self.failure = 0, False, None
        except OSError as error:
            self.failure = error
            self.lost += 1
            self._torn = self._torn or written > 0

    def close(self) -> None:
        """Close the file. A standard stream stays open."""
        if self._socket is not None:
            self._socket.close()
        elif self._fd > 2:
            os.close(self._fd)
        self._fd = -1


def _write_to_pipe(fd: int, octets: bytes) -> int:
    """Without waiting, into one that would. Raises OSError: BlockingIOError if there is no room."""
    try:
        return os.pwritev(fd, [octets], -1, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ESPIPE):
            raise
    # An older kernel. Where there is room for a page, so much is taken at once, unless another
    # process has taken it in between.
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return os.write(fd, octets[: select.PIPE_BUF])


def _write_to_terminal(fd: int, octets: bytes) -> int:
    # In the background of a terminal with "stty tostop", a write would end in SIGTTOU again and
    # again; a process that blocks the signal may write (termios(3)).
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        return os.write(fd, octets)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _open_to_append(path: str, uid: int, gid: int) -> int:
    """Open a log, and make it if it is not there.

    As root, for workers of another user, who may be able to write its directory: so a file that is
    there is not given away, and a link is followed only if root made it (CVE-2016-1247).
    """
    # Not blocking, since it may be a pipe with a name, or that of a container: /dev/stdout.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    giving = os.geteuid() == 0 and (uid, gid) != (-1, -1)
    if giving:
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        except FileExistsError:
            found = os.lstat(path)
            if not (stat.S_ISLNK(found.st_mode) and found.st_uid == 0):
                flags |= os.O_NOFOLLOW
            return os.open(path, flags)
        try:
            os.fchown(fd, uid, gid)
        except OSError:
            os.close(fd)
            raise
        return fd
    return os.open(path, flags | os.O_CREAT, 0o644)


class _Lines(logging.Handler):
    """Writes records to a LogFile."""

    def __init__(self, file: LogFile, style: styles.Style) -> None:
        super().__init__()
        self._file = file
        self._style = style

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self._style(record)
        except Exception as error:  # noqa: BLE001 - a log call must not fail its caller
            text = f"a line could not be formatted: {record.msg!r}: {in_a_line(error)}"
            record = logging.LogRecord(
                record.name, record.levelno, record.pathname, record.lineno, text, (), None
            )
            text = self._style(record)
        octets = text.encode("utf-8", "backslashreplace") + b"\n"
        severity = next((it for level, it in _SEVERITIES if record.levelno >= level), 7)
        self._file.write(octets, severity)


class _Logger(logging.Logger):
    """What the application sets for all loggers (a factory of records, say) is not for this one."""

    def makeRecord(  # noqa: N802 - the name is logging's
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        extra: Any = None,
        sinfo: str | None = None,
    ) -> logging.LogRecord:
        """A plain record, with what ``extra`` says of it."""
        record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
        record.__dict__.update(extra or {})
        if level == NOTICE:
            record.levelname = "NOTICE"  # here, and not in the tables of the logging module
        return record


def error_log(file: LogFile, level: str, who: str, log_format: str = "plain") -> logging.Logger:
    """The error log of this process. ``who`` is "master", or "worker 2 gen 1".

    The logger stands outside of the logging module's tree: an application that configures logging
    (and by default disables every logger that exists) must not silence its server.
    """
    log = _Logger("forkserve.error", LEVELS[level])
    log.manager = logging.Manager(logging.RootLogger(logging.NOTSET))  # has heard no `disable`
    log.addHandler(_Lines(file, _style(file, who, log_format)))
    if log_format == "json":
        file.apology = in_json
    return log


def _style(file: LogFile, who: str, log_format: str) -> styles.Style:
    if log_format == "json":
        # What is sent as one datagram is no object if it is cut there.
        return styles.structured(who, file.longest if file.lines_only else None)
    if file.lines_only:
        return styles.short(who)
    if log_format == "auto" and os.isatty(file.fileno()):
        return styles.terminal(who, colours=not os.environ.get("NO_COLOR"))
    return styles.plain(who)


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


class LineStream(ErrorStream):
    """The same for a log that takes whole lines, or objects: a line waits for its end, or for a
    ``flush``, in the thread that writes it."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._waiting = threading.local()

    def write(self, text: str) -> int:
        *lines, rest = (getattr(self._waiting, "text", "") + text).split("\n")
        if len(rest) > _LONGEST_WAITING:
            lines, rest = [*lines, rest], ""
        self._waiting.text = rest
        for line in lines:
            self._say(line)
        return len(text)

    def flush(self) -> None:
        rest, self._waiting.text = getattr(self._waiting, "text", ""), ""
        if rest:
            self._say(rest)

    def _say(self, line: str) -> None:
        # Whatever the least level is: it is not one of our lines.
        self._log.handle(self._log.makeRecord(self._log.name, NOTICE, "", 0, "%s", (line,), None))


def error_stream(file: LogFile, log: logging.Logger, log_format: str) -> ErrorStream:
    """``wsgi.errors`` for the log ``log``, which is written to ``file``."""
    return LineStream(log) if file.lines_only or log_format == "json" else ErrorStream(file)
