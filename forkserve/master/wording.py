"""The sentences of the supervisor: what happened, to what, what happens now, and what to do."""

from forkserve.master.roster import Worker
from forkserve.master.story import CallOverdue, Exited, Plan

NOBODY_BOOTED = "no worker could boot, so there is nothing to serve: exiting"
NO_ROOM = "So many workers of earlier reloads still finish their requests"
BOOT_DEADLINE = (
    "It did not become ready within `boot_timeout`, and was killed; its stack, above, says where "
    "it was"
)
HUP_NOTED = "HUP: noted, for when what is under way has come to its end"


def workers(count: int) -> str:
    """A number of workers."""
    return f"{count} worker" if count == 1 else f"{count} workers"


def replacement(pause: float) -> str:
    """When a worker is replaced."""
    return f"it is replaced in {pause:g} s" if pause else "it is replaced now"


def doing(event: Exited) -> str:
    """What a worker was doing when it ended. ``repr`` keeps clients from moving a terminal."""
    return f"in the request {event.request!r}" if event.request else "between requests"


def died(worker: Worker, event: Exited, then: str) -> str:
    """A worker ended that nobody here has ended."""
    oom = " (if nobody sent it: out of memory?)" if event.how == "SIGKILL" else ""
    return f"{worker} died: {event.how}{oom}, {doing(event)}. Its connections are lost{then}"


def could_not_boot(worker: Worker, pause: float, reason: str) -> str:
    """A worker failed to boot while the server is up."""
    then = replacement(pause)
    if worker.successor:
        then = f"the old one goes on, and the next attempt is in {pause:g} s"
    return f"{worker} could not boot; {then}. {reason}"


def overdue(worker: Worker, event: CallOverdue) -> str:
    """A call has passed its deadline."""
    return (
        f"{worker} has been in the request {event.request!r} for {event.seconds:.1f} s, longer "
        "than `timeout` allows. Its stack follows; it is killed and replaced. Raise `timeout` if "
        "such requests are normal"
    )


def reloading(now: float, status: str) -> tuple[str, ...]:
    """To systemd, which compares ``now`` (seconds of CLOCK_MONOTONIC) with the time of its signal
    (systemd.service(5), Type=notify-reload)."""
    return "RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}", f"STATUS={status}"


def refused(generation: int, reason: str, plan: Plan) -> str:
    """A reload came to nothing, and ``plan`` is still in force."""
    pause = "" if plan.preload else " Until then no worker is recycled (`max_requests`)."
    return (
        f"HUP: reload refused, generation {generation} goes on serving unchanged; repair it and "
        f"send HUP again.{pause} {reason}"
    )


def stopping(why: str, count: int, seconds: float) -> str:
    """A graceful stop begins."""
    return f"{why}, {workers(count)} may finish requests for {seconds:g} s"
