"""Files of the operator's, which a reload reads again."""

import errno
import os
import stat


def read_regular(path: str) -> bytes:
    """The octets of a regular file. Raises OSError, also for any other: a pipe without a writer
    would stop the master."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            what = "it is not a regular file, so a reload could not read it again"
            raise OSError(errno.EINVAL, what)
        return file.read()
