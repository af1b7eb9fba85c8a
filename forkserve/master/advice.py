"""What is worth a warning when a generation comes into force: it serves, but not as was meant.

Reads files of the kernel at most, so it never blocks.
"""

import os
from collections.abc import Iterator

from forkserve.net.listeners import clipped_backlog
from forkserve.ops import metrics
from forkserve.proc.cpus import cpu_quota
from forkserve.settings import Settings


def advice(settings: Settings, unfit: str | None) -> Iterator[str]:
    """The warnings, each for one line. ``unfit``: why clients will refuse the certificate."""
    clipped = clipped_backlog(settings.backlog)
    if clipped is not None:
        yield (
            f"`backlog` is {settings.backlog}, but the kernel allows {clipped}, and {clipped} it "
            "is: raise net.core.somaxconn (sysctl), or lower it"
        )
    quota = cpu_quota()
    if quota is not None and quota < 1:
        workers = settings.workers
        yield (
            f"the cgroup allows {quota:.2g} of one processor, and `workers` is {workers}: whatever "
            f"computes takes {1 / quota:.2g} times as long, and all workers stand still together "
            "when the share of a period is used up. Allow one processor or more (CPUQuota= of "
            "systemd, --cpus of Docker, limits.cpu of Kubernetes)"
            + (", or set it to 1" if workers.most > 1 else "")
        )
    if settings.user is None and os.geteuid() == 0:
        yield (
            "the workers run as root (`user`): whoever breaks into the application has all of this "
            "machine, or of its container. Set --user www-data, say, or User= in the unit, or USER "
            "in the Dockerfile; --user root, if it must be root"
        )
    if (settings.status or settings.metrics_path) and not metrics.available():
        which = "status" if settings.status else "metrics_path"
        yield f"there are no metrics (`{which}`): {metrics.MISSING}"
    if unfit is not None:
        yield unfit
