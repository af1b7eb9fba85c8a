"""How many processors this process may really use: its affinity and its cgroup's quota.

Sources: sched_getaffinity(2); cgroup v2, cpu.max; cgroup v1, cpu.cfs_quota_us. A container with a
quota of two processors sees all of the machine's in /proc/cpuinfo.
"""

import math
import os

from forkserve.proc import cgroup


def usable_cpus(root: str = "/") -> int:
    """The number of workers that can run at once, at least 1. ``root`` is where /proc is."""
    cpus = float(len(os.sched_getaffinity(0)))
    quota = cpu_quota(root)
    if quota is not None:
        cpus = min(cpus, quota)
    # Rounded up: a quota of 1.5 is used whole by two workers, and not by one.
    return max(1, math.ceil(cpus))


def cpu_quota(root: str = "/") -> float | None:
    """How many processors' time the cgroup allows, the tightest around it; None for no limit."""
    quotas = (
        _quota_v1(directory) if version == 1 else _quota_v2(directory)
        for version, directory in cgroup.directories("cpu", root)
    )
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_v2(directory: str) -> float | None:
    quota, _, period = cgroup.read(os.path.join(directory, "cpu.max")).partition(" ")
    return _ratio(quota, period)


def _quota_v1(directory: str) -> float | None:
    return _ratio(
        cgroup.read(os.path.join(directory, "cpu.cfs_quota_us")),
        cgroup.read(os.path.join(directory, "cpu.cfs_period_us")),
    )


def _ratio(quota: str, period: str) -> float | None:
    """None for "max", for -1, and for a file that is not there."""
    try:
        ratio = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return ratio if ratio > 0 else None
