"""How many processors this process may really use: its affinity and its cgroup's quota.

Sources: sched_getaffinity(2); cgroup v2, cpu.max; cgroup v1, cpu.cfs_quota_us. A container with a
quota of two processors sees all of the machine's in /proc/cpuinfo.
"""

import math
import os


def usable_cpus(root: str = "/") -> int:
    """The number of workers that can run at once, at least 1. ``root`` is where /proc is."""
    cpus = float(len(os.sched_getaffinity(0)))
    for quota in _quotas(root):
        cpus = min(cpus, quota)
    # Rounded up: a quota of 1.5 is used whole by two workers, and not by one.
    return max(1, math.ceil(cpus))


def _quotas(root: str) -> list[float]:
    """The quotas, in processors, of the process's cgroup and of those around it."""
    quotas = []
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            base, reader = os.path.join(root, "sys/fs/cgroup"), _quota_v2
        elif "cpu" in controllers.split(","):
            base, reader = os.path.join(root, "sys/fs/cgroup/cpu"), _quota_v1
        else:
            continue
        # In a container the path may be the host's, and the mount may begin at the container's
        # own group: the walk ends at the mount, so it sees that one in either case.
        directory = base + os.path.normpath(f"/{path}").rstrip("/")
        while directory.startswith(base):
            quota = reader(directory)
            if quota is not None:
                quotas.append(quota)
            directory = os.path.dirname(directory)
    return quotas


def _quota_v2(directory: str) -> float | None:
    quota, _, period = _read(os.path.join(directory, "cpu.max")).partition(" ")
    return _ratio(quota, period)


def _quota_v1(directory: str) -> float | None:
    return _ratio(
        _read(os.path.join(directory, "cpu.cfs_quota_us")),
        _read(os.path.join(directory, "cpu.cfs_period_us")),
    )


def _ratio(quota: str, period: str) -> float | None:
    """None for "max", for -1, and for a file that is not there."""
    try:
        ratio = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return ratio if ratio > 0 else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
