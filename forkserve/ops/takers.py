"""Whether the workers of another master take what ours hand off.

In an upgrade two masters live side by side, and their workers share the hand-off queue. Each master
has an octet here that says whether its own take. It is a file in memory, which the second master
inherits, and all workers of both see it.

Who gives a connection looks afterwards, and takes it back if nobody takes; a master that is to end
clears its octet before its workers hear of it, and these empty the queue when they stop. So what is
given is taken, and no master waits for a word of the other. (One that is killed clears nothing: the
other does, when it sees that.)
"""

import mmap
import os

_PLACES = 2  # for two that live at once; the third takes that of the first
_NOEXEC_SEAL = 8  # MFD_NOEXEC_SEAL, which a hardened kernel wants (vm.memfd_noexec) since Linux 6.3


class Takers:
    """One master's view. All its processes may read it; ``take`` and ``forget`` are the master's.

    ``fd``  of the file, close-on-exec (the mapping has another); -1 if this system has none, and
            nobody inherits it
    """

    def __init__(self, fd: int, place: int) -> None:
        """``place``: 0 or 1, which of the octets is this master's. Raises OSError, ValueError."""
        self.fd = fd
        self.place = place
        self._memory = mmap.mmap(fd, _PLACES)

    @classmethod
    def make(cls) -> "Takers":
        """For the first master, whose workers take. Raises OSError."""
        fd = _file_in_memory()
        takers = cls(fd, 0)
        takers.take(True)
        return takers

    @property
    def next_place(self) -> int:
        """That of the master that follows."""
        return _PLACES - 1 - self.place

    def take(self, taking: bool) -> None:
        """Whether our workers take what others hand off."""
        self._memory[self.place] = taking

    def forget(self) -> None:
        """The other master is gone, and perhaps without a word."""
        self._memory[self.next_place] = 0

    def others_take(self) -> bool:
        """Whether those of the other one do."""
        return self._memory[self.next_place] == 1


def _file_in_memory() -> int:
    for flags in (_NOEXEC_SEAL, 0):
        try:
            fd = os.memfd_create("forkserve", os.MFD_CLOEXEC | flags)
        except (AttributeError, OSError):
            continue  # not on every system
        os.ftruncate(fd, _PLACES)
        return fd
    return -1
