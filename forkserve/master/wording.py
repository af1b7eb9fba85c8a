"""The sentences of the supervisor: what happened, to what, what happens now, and what to do."""

from forkserve.master.roster import Worker
from forkserve.master.story import CallOverdue, Exited, Log, Plan
from forkserve.settings.kinds import show_duration, show_size

NOBODY_BOOTED = "no worker could boot, so there is nothing to serve: exiting"
NO_ROOM = "So many workers of earlier reloads still finish their requests"
BOOT_DEADLINE = (
    "It did not become ready within `boot_timeout`, and was killed; its stack, above, says where "
    "it was. Raise it, if the import needs so long"
)
HUP_NOTED = "HUP: noted, for when what is under way has come to its end"


def workers(count: int) -> str:
    """A number of workers."""
    return f"{count} worker" if count == 1 else f"{count} workers"


def bound(name: str, count: int) -> Log:
    """A signal that can do no more."""
    return Log("warning", f"{name}: {workers(count)} is the bound, nothing changes")


def moved(name: str, before: int, now: int, least: int, most: int) -> str:
    """A signal has moved the number of workers, or its bounds."""
    between = "" if least == most else f", from now on between {least} and {most}"
    if before == now:
        return f"{name}: still {workers(now)}{between}"
    return f"{name}: from {before} to {workers(now)}{between}"


def no_workers(before: int) -> str:
    """WINCH."""
    return (
        f"WINCH: from {before} to 0 workers; the master stays. TTIN adds one, HUP brings all back"
    )


def grown(before: int, now: int) -> str:
    """The load wants more workers."""
    return f"no worker was idle for a second: from {before} to {workers(now)}"


def shrunk(before: int, now: int, quiet: float) -> str:
    """The load can do with fewer workers."""
    return (
        f"the last of {workers(before)} was hardly needed for {show_duration(quiet)}: "
        f"from {before} to {workers(now)}"
    )


def no_memory_to_grow(count: int, most: int, plan: Plan) -> str:
    """There is no memory for as many workers as there may be."""
    return (
        "no worker was idle for a second, but there is memory "
        f"({_size(plan.memory or 0)}) for no more than {workers(plan.room)} of `max_rss` "
        f"({_size(plan.max_rss or 0)}) each: it stays at {count}, and `workers` would allow "
        f"{most}. Lower `max_rss`, or give it more memory. This is said once"
    )


OLD = "it has served for its `max_lifetime`"
ASKED = "somebody asked for it (forkservectl retire)"


def stuck(request: str) -> str:
    """Why a worker is replaced."""
    return f"the request {request!r} holds one of its threads for ever (`timeout`)"


def used_up(requests: int) -> str:
    """Why a worker is replaced."""
    return f"it has served {requests} requests (`max_requests`)"


def heavy(octets: int, limit: int) -> str:
    """Why a worker is replaced."""
    return f"it holds {_size(octets)} of memory, and `max_rss` is {_size(limit)}"


def born_heavy(worker: Worker, octets: int, limit: int) -> str:
    """To replace such workers does not help."""
    return (
        f"{worker} has just become ready, and holds {_size(octets)} of memory already: more than "
        f"`max_rss` ({_size(limit)}) allows. Such workers are replaced all the same, but with "
        "longer and longer pauses, up to a minute, unless they grow further. Raise `max_rss` "
        "above what the application needs. This is said once"
    )


def _size(octets: int) -> str:
    """With one unit, rounded: "312M"."""
    return show_size(octets if octets < 1 << 20 else octets >> 20 << 20)


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


def ended_early(how: str) -> str:
    """A worker ended before it was ready, and said nothing."""
    oom = "Was memory short? " if how == "SIGKILL" else ""
    return (
        f"It ended with {how} before it was ready, and did not say why: something that the import "
        f"of `app` runs has ended it. {oom}forkserve --check-config shows whether it does so again"
    )


def could_not_boot(worker: Worker, pause: float, reason: str) -> str:
    """A worker failed to boot while the server is up."""
    then = replacement(pause)
    if worker.successor:
        then = f"the old one goes on, and the next attempt is in {pause:g} s"
    return f"{worker} could not boot; {then}. {reason}"


def overdue(worker: Worker, event: CallOverdue) -> str:
    """A call has passed its deadline, or a worker does not answer."""
    if not event.request:
        return (
            f"{worker} is in no request, and has not answered for {event.seconds:.1f} s, longer "
            "than `timeout` allows: it is stopped, or a thread of the application in the "
            "background holds the interpreter. Its stack follows, if it can be had; it is killed "
            "and replaced"
        )
    return (
        f"{worker} has been in the request {event.request!r} for {event.seconds:.1f} s, longer "
        "than `timeout` allows. Its stack follows; it is killed and replaced. Raise `timeout` if "
        "such requests are normal"
    )


def reloading(now: float, status: str) -> tuple[str, ...]:
    """To systemd, which compares ``now`` (seconds of CLOCK_MONOTONIC) with the time of its signal
    (systemd.service(5), Type=notify-reload)."""
    return "RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}", f"STATUS={status}"


def refused(cause: str, generation: int, where: str, reason: str, plan: Plan) -> str:
    """A reload came to nothing, and ``plan`` is still in force.

    ``where``: the worker that showed it. Who saves a file again and again knows where it is.
    """
    text = f"{cause}: reload refused, generation {generation} goes on serving unchanged;"
    if plan.watched:
        return f"{text} repair it, and save it.\n{reason}"
    pause = "" if plan.preload else " Until then no worker is recycled (max_requests)."
    return f"{text} repair it and send HUP again.{pause} {where}{reason}"


def stopping(why: str, count: int, seconds: float) -> str:
    """A graceful stop begins."""
    return f"{why}, {workers(count)} may finish requests for {seconds:g} s"
