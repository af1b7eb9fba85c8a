"""How much memory this process and its children may use together, and how much one of them holds.

Sources: cgroup v2, memory.max; cgroup v1, memory.limit_in_bytes; proc(5), meminfo and statm.
"""

import os

from forkserve.proc import cgroup

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}


def usable_memory(root: str = "/") -> int | None:
    """Octets that the cgroup allows, or else those that the machine has; None if neither is known.

    ``root`` is where /proc is.
    """
    limits = []
    for line in cgroup.read(os.path.join(root, "proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            limits.append(int(line.split()[1]) << 10)  # "MemTotal:  16384 kB"
    for version, directory in cgroup.directories("memory", root):
        # "max" is no limit; version 1 has a number of about 2 ** 63 for that.
        text = cgroup.read(os.path.join(directory, _FILES[version]))
        if text.isdecimal() and int(text) > 0:
            limits.append(int(text))
    return min(limits, default=None)


def resident_memory(pid: int) -> int | None:
    """Octets of memory that a process holds (RSS), shared ones included; None if it is gone."""
    fields = cgroup.read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else None
