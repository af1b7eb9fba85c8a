"""What happens to a master (events), what it can do (actions), and what it is in the middle of: the
supervisor's alphabets.

A worker is named by its ``serial``, which is never used twice. Pids are for logs: the kernel gives
them out again. (Named tuples, because two dozen dataclasses would delay each start noticeably.)
"""

import signal
from enum import Enum
from typing import NamedTuple

from forkserve.proc.channel import Message
from forkserve.settings.kinds import MOST_WORKERS


class Plan(NamedTuple):
    """What the supervisor needs of a generation's settings. Times are in seconds."""

    workers: int
    boot_timeout: float
    graceful_timeout: float
    most: int = 0  # workers, if there may be more than ``workers``
    quiet: float = 30.0  # before one of those retires
    max_lifetime: float | None = None
    max_rss: int | None = None  # octets
    memory: int | None = None  # octets that all may use together
    preload: bool = False  # a fresh worker has the code of its generation, not that on the disk
    watched: bool = False  # a repair need only be saved

    @property
    def room(self) -> int:
        """The number of workers for which there is memory."""
        if self.max_rss is None or self.memory is None:
            return MOST_WORKERS
        return self.memory // self.max_rss


# ---- states


class Life(Enum):
    """Of the server."""

    STARTING = "nobody has been ready yet"
    UP = "it serves"
    STOPPING = "requests are being finished"
    QUITTING = "requests are being cut off"

    @property
    def ends(self) -> bool:
        """It is the end, gently or not."""
        return self in (Life.STOPPING, Life.QUITTING)


class Reload(Enum):
    """How far a reload is."""

    NONE = "there is none"
    LOADING = "the settings are read"
    CANARY = "one worker has to prove the new generation"
    ROLLING = "the others follow"


# ---- events


class Started(NamedTuple):
    """The sockets are bound: begin."""


class SignalCame(NamedTuple):
    signal: signal.Signals


class Scale(NamedTuple):
    """There are to be so many workers."""

    workers: int


class Replace(NamedTuple):
    """The worker is to be succeeded by a fresh one."""

    serial: int


class Forked(NamedTuple):
    """The worker is the process ``pid``; or that one, a template process, is to fork it. Then this
    comes again."""

    serial: int
    pid: int


class ForkFailed(NamedTuple):
    serial: int
    reason: str


class Ready(NamedTuple):
    """The worker has loaded the application and accepts connections."""

    serial: int


class BootFailed(NamedTuple):
    """The worker says why it cannot load the application; it will exit by itself."""

    serial: int
    reason: str


class Due(NamedTuple):
    """The worker has served as many requests as it may, and goes on until it is told to retire."""

    serial: int
    requests: int


class Stuck(NamedTuple):
    """A call holds a thread of the worker for ever. It has given the call up, and goes on until it
    is told to retire."""

    serial: int
    request: str


class Weighed(NamedTuple):
    """The worker holds so much memory."""

    serial: int
    octets: int


class Looked(NamedTuple):
    """Which workers run a call, and how many connections wait to be accepted."""

    running: frozenset[int]
    waiting: int


class Leaving(NamedTuple):
    """The worker was signalled to end by somebody else, and finishes its requests."""

    serial: int


class Exited(NamedTuple):
    """The worker is gone. ``status``: its exit status, or minus the signal; ``how``: that in words,
    "exit status 1", "SIGKILL". ``request``: the one it was in."""

    serial: int
    status: int
    how: str
    request: str | None


class CallOverdue(NamedTuple):
    """The call that the worker runs has passed its deadline; "", if it runs none, and does not
    answer."""

    serial: int
    seconds: float
    request: str


class Changed(NamedTuple):
    """Files of the application have changed: "shop.py has changed"."""

    what: str


class SettingsLoaded(NamedTuple):
    """The settings of the next generation are sound, and its sockets are bound."""

    plan: Plan


class SettingsRefused(NamedTuple):
    reason: str


class Succeeded(NamedTuple):
    """Another master has taken this one's place: finish what was begun, and end."""

    pid: int


class Overslept(NamedTuple):
    """The master itself did not run for so long (stopped, suspended): nobody is to blame."""

    seconds: float


class Tick(NamedTuple):
    """Time has passed."""


Event = (
    Started | SignalCame | Forked | ForkFailed | Ready | BootFailed | Due | Leaving | Exited
    | Stuck | Weighed | Looked | Changed | CallOverdue | SettingsLoaded | SettingsRefused
    | Succeeded | Overslept | Scale | Replace | Tick
)  # fmt: skip


# ---- actions


class Spawn(NamedTuple):
    """Fork a worker. Answered by Forked or ForkFailed. ``row``: its row of the scoreboard."""

    serial: int
    slot: int
    generation: int
    row: int


class Tell(NamedTuple):
    serial: int
    message: Message


class Kill(NamedTuple):
    serial: int
    pid: int
    signal: signal.Signals


class LoadSettings(NamedTuple):
    """Read the settings anew, as ``generation``. Answered by SettingsLoaded or SettingsRefused."""

    generation: int


class Commit(NamedTuple):
    """``generation`` is in force; what only the one before it used can go."""

    generation: int


class Discard(NamedTuple):
    """``generation`` will not be; what only it used can go."""

    generation: int


class StopListening(NamedTuple):
    """Close the master's listening sockets; the workers close theirs."""


class ReopenLogs(NamedTuple):
    pass


class Notify(NamedTuple):
    """Tell the service manager."""

    lines: tuple[str, ...]


class Announce(NamedTuple):
    """Say where the server serves, and with how many workers, behind ``text``."""

    text: str
    workers: int


class Log(NamedTuple):
    level: str
    text: str


class Explain(NamedTuple):
    """Let developers see why the newest code does not serve; "": it does."""

    reason: str


class Exit(NamedTuple):
    status: int


Action = (
    Spawn | Tell | Kill | LoadSettings | Commit | Discard | StopListening | ReopenLogs | Notify
    | Announce | Log | Explain | Exit
)  # fmt: skip
