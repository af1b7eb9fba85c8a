"""What a process leaves behind when it crashes: the Python stacks of its threads, in the error log.

faulthandler writes them from the handlers of SIGSEGV, SIGABRT and the like, also when the
interpreter itself cannot run. It gives the main thread an alternate signal stack for that, and then
*every* handler of the process runs on it: CPython installs all with SA_ONSTACK. That stack is of
16 KiB, and one signal frame takes 3 to 11 of them where the processor has AVX-512 or AMX. Five
different signals that arrive together overflow it, and kill the process (CPython 3.11, seen with
SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN and SIGTTOU). So it gets a larger one.
"""

import ctypes
import faulthandler
import mmap
from typing import Protocol

# Room for every signal there is (64), with the largest frames. Only touched pages take memory.
_STACK = 1 << 20

_stack: mmap.mmap | None = None


class _File(Protocol):
    def fileno(self) -> int: ...


class _StackT(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (
        ("ss_sp", ctypes.c_void_p),
        ("ss_flags", ctypes.c_int),
        ("ss_size", ctypes.c_size_t),
    )


def dump_stacks_to(file: _File) -> None:
    """Write the stacks of all threads to ``file`` if this process crashes, or gets SIGABRT.

    The descriptor is used as it is then. For the main thread.
    """
    faulthandler.enable(file)
    widen_signal_stack()


def widen_signal_stack() -> None:
    """Replace the alternate signal stack of faulthandler, if it is in use, with one that is large
    enough for handlers that interrupt each other. For the main thread."""
    global _stack
    if _stack is None and faulthandler.is_enabled():
        # Private: after a fork, parent and child must not run on the same memory.
        _stack = mmap.mmap(-1, _STACK, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(_stack))
        ctypes.CDLL(None).sigaltstack(ctypes.byref(_StackT(address, 0, _STACK)), None)
