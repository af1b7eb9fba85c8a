"""The pid file: held by a lock, so that a number left over from a dead server fools nobody."""

import contextlib
import fcntl
import os
import stat

from forkserve.errors import PidFileError, why_not


class PidFile:
    """A file with the pid of this process, locked with flock(2) while the process lives.

    Only the lock says that a server is running; the number in it is for people and scripts.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._fd = -1
        self._succeeded = False

    def acquire(self) -> None:
        """Create or take over the file. Raises PidFileError; another server is not disturbed."""
        try:
            while self._fd < 0:
                self._fd = self._open_locked()
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            self.release()
            raise PidFileError(
                f"cannot write the pid file {why_not(self.path, error, 'pid')}"
            ) from None

    def _open_locked(self) -> int:
        """Open and lock the file; -1 if it was removed or replaced between the two."""
        # Not through a link: root would write where whoever made it wants.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self.path, flags, 0o644)
        if not stat.S_ISREG(os.fstat(fd).st_mode):  # ``release`` would remove /dev/null
            os.close(fd)
            raise PidFileError(
                f"the pid file {self.path} (`pid`) is not a regular file. Choose another"
            )
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise PidFileError(
                f"another forkserve (pid {pid}) holds the pid file {self.path} (`pid`), and it "
                "goes on. Stop it (kill "
                f"{pid}), let it take up what is new (kill -HUP {pid}), or choose another file"
            ) from None
        if self._is_at_path(fd):
            return fd
        os.close(fd)
        return -1

    def _is_at_path(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def move_to(self, path: str) -> None:
        """Take the place of the file at ``path``, in one step. Raises OSError."""
        os.rename(self.path, path)
        self.path = path

    def leave_to_successor(self) -> None:
        """Another process puts its file in the place of this one: do not remove it any more."""
        self._succeeded = True

    def release(self) -> None:
        """Remove the file, if it is still ours, and give up the lock."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                if not self._succeeded and self._is_at_path(self._fd):
                    os.unlink(self.path)
            self.close()

    def close(self) -> None:
        """Close this process's descriptor. In a forked child the lock stays with the parent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def remove_left(path: str) -> None:
    """Remove the pid file of a process that is gone. One that somebody holds stays."""
    if os.path.exists(path):
        with contextlib.suppress(PidFileError):
            left = PidFile(path)
            left.acquire()
            left.release()
