"""Where the limits of this process's control groups stand (cgroups(7)), of version 1 and 2."""

import os
from collections.abc import Iterator


def directories(controller: str, root: str = "/") -> Iterator[tuple[int, str]]:
    """(version, directory) of the process's group, and of those around it, that may limit it.

    ``controller``: "cpu", "memory". ``root`` is where /proc is. Not all of them exist.
    """
    for line in read(os.path.join(root, "proc/self/cgroup")).splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            version, base = 2, os.path.join(root, "sys/fs/cgroup")
        elif controller in controllers.split(","):
            version, base = 1, os.path.join(root, "sys/fs/cgroup", controller)
        else:
            continue
        # In a container the path may be the host's, and the mount may begin at the container's
        # own group: the walk ends at the mount, so it sees that one in either case.
        directory = base + os.path.normpath(f"/{path}").rstrip("/")
        while directory.startswith(base):
            yield version, directory
            directory = os.path.dirname(directory)


def read(path: str) -> str:
    """The text of a file of the kernel, "" if it is not there."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
