"""USR2, as the running master sees it: a pure automaton, and what it hands to its successor.

    NONE ──USR2──> BOOTING ──ready──> SUCCEEDED: the new master serves, this one retires its workers
                     │ fails, is called off, or misses its deadline
                     └──> ENDING ──gone──> NONE: this one has not changed
    BOOTING, ENDING ──TERM, INT, QUIT──> STOPPING ──gone──> NONE: both end

The successor adopts every listener and binds none, so both accept until this one retires. It says
that it is ready when *each* worker that its settings want is: with the first alone, what the old
ones carry would queue for that one. TERM, INT and QUIT end both.
"""

import json
import signal
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, NamedTuple

from forkserve.errors import ForkserveError
from forkserve.master import story
from forkserve.proc.signals import ENDING

VARIABLE = "FORKSERVE_UPGRADE"

# Beyond `boot_timeout`, which its workers have too: it is the new master, by its own deadline, that
# knows which worker hangs, and where.
_HEAD_START = 5.0

_QUICK = 3.0  # seconds for a quick stop, before SIGKILL

UNDER_WAY = "USR2: ignored, because an upgrade is under way already, by process {}"
HUP_REFUSED = (
    "HUP: refused, because an upgrade (process {}) is under way, which reads everything anew. "
    "Send it again if that fails"
)
IS_PROCESS_1 = (
    "this is process 1, and its end would be that of the container. HUP reloads settings and "
    "application; for another forkserve or Python, start a new container and stop this one"
)
TOO_SLOW = (
    "It was not ready within `boot_timeout`, and is ended. If it only needs longer: raise that, "
    "and HUP, first"
)
ENDING_ALREADY = "TERM: this process is ending already, and goes on; once more cuts off what runs"
ENDS_TOO = (
    "USR2: process {}, which serves now, is told to end too. Nobody takes what this one's workers "
    "would hand off: their connections end after what is under way"
)
CALLED_OFF = "It was told to end before it took over, which calls the upgrade off"
DONE = "USR2: process {} has ended, the upgrade is done"
STARTED = "USR2: process {} boots beside this one, and takes its place when all of it is ready"


@dataclass(frozen=True, slots=True)
class Bequest:
    """What a master hands to its successor. Descriptors keep their numbers.

    ``listeners``  (descriptor, address, whether it has a file that is to be removed with it)
    ``activated``  descriptors from the service manager, which take the place of `bind`
    ``control``    the descriptor and the path of the control socket, None if there is none
    ``queue``      the receiving and the sending end of the hand-off queue, None if there is none
    ``takers``     the descriptor of ``ops.takers``, -1 if there is none, and the place there
    ``graceful``   seconds that requests of the old master may take to finish
    ``pid_file``   "" if there is none
    ``notify``     NOTIFY_SOCKET, as ``watchdog`` is WATCHDOG_USEC; "" if nobody asked
    """

    master: int  # pid
    channel: int
    listeners: tuple[tuple[int, str, bool], ...]
    activated: tuple[int, ...] = ()
    queue: tuple[int, int] | None = None
    takers: tuple[int, int] = (-1, 0)
    graceful: float = 0.0
    pid_file: str = ""
    notify: str = ""
    watchdog: str = ""
    control: tuple[int, str] | None = None

    def encode(self) -> str:
        return json.dumps(asdict(self))

    def descriptors(self) -> list[int]:
        """All that the successor inherits."""
        control = () if self.control is None else self.control[:1]
        takers = self.takers[:1] if self.takers[0] >= 0 else ()
        listeners = (fd for fd, _, _ in self.listeners)
        return [self.channel, *listeners, *(self.queue or ()), *takers, *control]


def take_bequest(environ: MutableMapping[str, str]) -> Bequest | None:
    """What the master before this one left, None if there was none. Removes the variable.

    Raises ForkserveError if somebody else has set it.
    """
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        members = json.loads(text)
        takers = members.get("takers", (-1, 0))  # an earlier version hands down none
        return Bequest(
            master=int(members["master"]),
            channel=int(members["channel"]),
            listeners=tuple(
                (int(fd), str(address), bool(has_file))
                for fd, address, has_file in members["listeners"]
            ),
            activated=tuple(int(fd) for fd in members["activated"]),
            queue=None if members["queue"] is None else (members["queue"][0], members["queue"][1]),
            takers=(int(takers[0]), int(takers[1])),
            graceful=float(members.get("graceful", 0.0)),
            pid_file=str(members["pid_file"]),
            notify=str(members["notify"]),
            watchdog=str(members["watchdog"]),
            control=_control_of(members.get("control")),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise ForkserveError(
            f"{VARIABLE} is not what a forkserve hands to the one that takes its place. It is for "
            "nobody else to set: remove it"
        ) from None


def _control_of(member: Any) -> tuple[int, str] | None:
    return None if member is None else (int(member[0]), str(member[1]))


# ---- events, beside story.SignalCame and story.Tick


class Launched(NamedTuple):
    pid: int


class LaunchFailed(NamedTuple):
    reason: str


class SaidReady(NamedTuple):
    """Each of its workers is."""


class SaidFailed(NamedTuple):
    reason: str


class SaidStop(NamedTuple):
    """It is to end, although it serves. ``quick``: and this process at once, too."""

    quick: bool


class Gone(NamedTuple):
    """Its process has ended. ``how``: "exit status 1", "SIGKILL"."""

    how: str


Event = (
    story.SignalCame | story.Tick | Launched | LaunchFailed
    | SaidReady | SaidFailed | SaidStop | Gone
)  # fmt: skip


# ---- actions, beside story.Log


class Launch(NamedTuple):
    """Start the successor. Answered by Launched or LaunchFailed."""


class Send(NamedTuple):
    """Signal the successor."""

    signal: signal.Signals


class Order(NamedTuple):
    """Tell the successor to stop, like a signal that came to this process. It may have come to both
    of them, so it is said on the channel: a second TERM would be a quick stop."""

    signal: signal.Signals


class Dismiss(NamedTuple):
    """Have the successor retire: what it serves already ends there, or goes to our workers."""


class HandOver(NamedTuple):
    """Everything that only one can have is the successor's from now on."""


class CleanUp(NamedTuple):
    """Remove what a successor left that is gone."""


class HeedReload(NamedTuple):
    """The service manager waits to hear of a reload, and there will be none."""

    status: str


class Pass(NamedTuple):
    """The signal is for the supervisor."""

    signal: signal.Signals


Action = story.Log | Launch | Send | Order | Dismiss | HandOver | CleanUp | HeedReload | Pass


class Step(Enum):
    NONE = "there is no upgrade"
    BOOTING = "the successor boots"
    ENDING = "the successor has failed, or was called off, and is about to be gone"
    STOPPING = "both end"
    SUCCEEDED = "the successor serves"


class Upgrade:
    """The state of the upgrade. Used by the master's only thread.

    ``alive``:   there is a successor that is to be gone before this process is
    ``refusal``: why the last upgrade that was asked for came to nothing, "" if it has not
    """

    def __init__(self) -> None:
        self.step = Step.NONE
        self.deadline: float | None = None
        self.pid = 0
        self.refusal = ""
        self._reason = ""
        self._was_told = False  # of a TERM
        self._ends_too = False  # the successor, and in order

    @property
    def alive(self) -> bool:
        return self.step in (Step.BOOTING, Step.ENDING, Step.STOPPING)

    def handle(
        self,
        event: Event,
        now: float,
        *,
        obstacle: str = "",
        boot_timeout: float = 0.0,
        graceful_timeout: float = 0.0,
    ) -> list[Action]:
        """Take one event, and say what to do.

        ``obstacle``: why there can be no upgrade now. The timeouts are those of the settings.
        """
        match event:
            case story.SignalCame(signal=number):
                return self._on_signal(number, now, obstacle, graceful_timeout)
            case Launched(pid=pid):
                self.step, self.pid, self.refusal = Step.BOOTING, pid, ""
                self.deadline = now + boot_timeout + _HEAD_START
                return [story.Log("info", STARTED.format(pid))]
            case LaunchFailed(reason=reason):
                self.refusal = reason
                return [story.Log("error", refused(reason))]
            case SaidReady() if self.step is Step.BOOTING:
                self.step, self.deadline = Step.SUCCEEDED, None
                return [HandOver()]
            case SaidFailed(reason=reason) if self.step is Step.BOOTING:
                # Called off, it has workers that finish their requests; failed, it has nobody.
                self._end(reason, now + (graceful_timeout if reason == CALLED_OFF else 0.0))
            case SaidStop(quick=quick) if self.step is Step.SUCCEEDED and not self._ends_too:
                self._ends_too = True
                return [] if quick else [story.Log("info", ENDS_TOO.format(self.pid))]
            case Gone(how=how):
                return self._on_gone(how)
            case story.Tick() if self.deadline is not None and self.deadline <= now:
                return self._on_deadline(now, graceful_timeout)
        return []

    def forgive(self, seconds: float) -> None:
        """This process did not run for so long."""
        if self.deadline is not None:
            self.deadline += seconds

    def _on_signal(
        self, number: signal.Signals, now: float, obstacle: str, graceful_timeout: float
    ) -> list[Action]:
        if number == signal.SIGUSR2:
            if self.alive:
                return [story.Log("warning", UNDER_WAY.format(self.pid))]
            if obstacle:
                self.refusal = obstacle
                return [story.Log("warning", f"USR2: there is no upgrade now: {obstacle}")]
            return [Launch()]
        if not self.alive:
            # A whole group of processes may be signalled: that is the first TERM for each of them.
            if self.step is Step.SUCCEEDED and number == signal.SIGTERM and not self._was_told:
                self._was_told = True
                return [story.Log("info", ENDING_ALREADY)]
            return [Pass(number)]
        if number == signal.SIGHUP and self.step is Step.BOOTING:
            text = HUP_REFUSED.format(self.pid)
            return [story.Log("warning", text), HeedReload(text)]
        if number in ENDING:
            self.step, self.deadline = Step.STOPPING, now + graceful_timeout + _QUICK
            return [Order(number), Pass(number)]
        if number != signal.SIGUSR1:  # both have log files
            return [Pass(number)]
        return [Send(number), Pass(number)]

    def _on_gone(self, how: str) -> list[Action]:
        step, self.step, self.deadline = self.step, Step.NONE, None
        if step is Step.NONE:
            return []
        if step is Step.STOPPING:
            return [CleanUp()]
        if step is Step.SUCCEEDED:
            self.step = step
            if self._ends_too and how == "exit status 0":
                return []
            text = f"the new master (pid {self.pid}) is gone already: {how}. See its log"
            return [story.Log("error", text)]
        if step is Step.ENDING and not self._reason:  # it was told before
            return [CleanUp()]
        reason = self._reason or (
            f"It ended with {how} before it was ready; its log, or what it wrote to the standard "
            "error stream, says more"
        )
        self._reason, self.refusal = "", reason
        return [CleanUp(), story.Log("error", refused(reason, self.pid))]

    def _on_deadline(self, now: float, graceful_timeout: float) -> list[Action]:
        if self.step is not Step.BOOTING:
            self.deadline = None
            return [Send(signal.SIGKILL)]
        self._end("", now + graceful_timeout)
        self.refusal = TOO_SLOW
        return [story.Log("error", refused(TOO_SLOW, self.pid)), Dismiss()]

    def _end(self, reason: str, now: float) -> None:
        self.step, self.deadline, self._reason = Step.ENDING, now + _QUICK, reason


def refused(reason: str, pid: int = 0) -> str:
    """An upgrade came to nothing."""
    who = f" (pid {pid})" if pid else ""
    return (
        f"USR2: upgrade refused, this process goes on unchanged; repair the new one{who}, and send "
        f"USR2 again. {reason}"
    )
