"""The Python stacks of a process that goes on, written by faulthandler into a file in memory that
the asking side has made and keeps (not into a pipe, which can be full).

There are two ways. A thread that is told to, and has the interpreter, writes those of all threads:
``write_stacks``. Where no thread gets the interpreter, because C code holds it, a signal has the
main thread write them. That handler is C and takes no lock, but it must be the second choice: a
thread that runs Python meanwhile changes its frames while they are read, and the process dies of
that (CPython 3.11, one time in seventy under load). When the interpreter is held, nobody runs.

System calls that the signal interrupts are restarted by the kernel (SA_RESTART), and those that no
kernel restarts (poll, nanosleep: signal(7)) by Python (PEP 475). When the handler has finished can
be read in /proc: as long as the signal is pending, or is blocked in the main thread (its handler
runs, since faulthandler has no SA_NODEFER), it has not.
"""

import faulthandler
import gc
import json
import os
import re
import signal
import sys
import threading
from types import FrameType

SIGNAL = signal.SIGRTMIN + 9
"""Some number that no program is known to use. Without our handler it would end the process, so
nobody sends it without a look."""

NAMES = "names "
"""What the last line begins with, before the threads' names as JSON, if they are known."""

_LARGEST = 1 << 20  # 100 threads of 100 frames, as faulthandler cuts them, are about so much
_MASK = re.compile(rb"^(SigPnd|ShdPnd|SigBlk|SigCgt):\s*([0-9a-f]+)$", re.MULTILINE)
_STOPPED = re.compile(rb"^State:\s*[tT]", re.MULTILINE)

_fd = -1  # of the file, in the process whose stacks are asked for


def write_stacks_into(fd: int) -> None:
    """Write the stacks of this process into ``fd``, at SIGNAL and by ``write_stacks``.

    For the main thread. The descriptor has to stay open as long as this process lives.
    """
    global _fd
    _fd = fd
    faulthandler.register(SIGNAL, file=fd, all_threads=True, chain=False)


def write_stacks() -> None:
    """Write them now. From any thread, which is called the current one."""
    if _fd >= 0:
        faulthandler.dump_traceback(_fd, all_threads=True)
        names = {f"{thread.ident or 0:#018x}": thread.name for thread in threading.enumerate()}
        os.write(_fd, f"\n{NAMES}{json.dumps(names)}\n".encode())


def current_frames() -> dict[int, FrameType]:
    """Of each thread of this process, by its ident: what it runs. For any thread.

    No garbage is collected meanwhile. CPython up to 3.11.8 makes these frames under a lock of its
    own, and if it collects an object of threading.local then, waits for it for ever (gh-106883).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if enabled:
            gc.enable()


class StackFile:
    """Where one other process writes its stacks."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._fd = os.memfd_create("forkserve-stacks", os.MFD_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor that the other process is to have."""
        return self._fd

    def clear(self) -> None:
        """Nothing is written yet."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)  # the other side's descriptor has the same position

    def read(self) -> str:
        """What is there, cut if it is too long."""
        text = os.pread(self._fd, _LARGEST, 0).decode("utf-8", "replace")
        return text.strip("\n")

    def close(self) -> None:
        os.close(self._fd)


def send_signal(pid: int) -> bool:
    """Have the main thread of ``pid`` write. False if it would not, or later, when it goes on."""
    status = _status(pid)
    if not _mask("SigCgt", status) or _STOPPED.search(status):
        return False
    try:
        os.kill(pid, SIGNAL)
    except OSError:
        return False
    return True


def is_writing(pid: int) -> bool:
    """Whether the handler of the signal has not finished. False if the process is gone.

    Its other threads block every signal (``worker/crew.py``), so it is the main thread that writes.
    """
    status = _status(pid)
    return any(_mask(name, status) for name in ("ShdPnd", "SigPnd", "SigBlk"))


def _status(pid: int) -> bytes:
    """That of the process, and of its main thread (proc_pid_status(5))."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return file.read()
    except OSError:  # gone
        return b""


def _mask(name: str, status: bytes) -> bool:
    """Whether the signal is in the mask of that name."""
    masks = {found[1].decode(): int(found[2], 16) for found in _MASK.finditer(status)}
    return bool(masks.get(name, 0) >> (SIGNAL - 1) & 1)
