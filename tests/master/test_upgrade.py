"""USR2, told as stories to the pure automaton; and what a master hands to the next."""

import signal

import pytest

from forkserve.errors import ForkserveError
from forkserve.master import story, upgrade
from forkserve.master.upgrade import (
    VARIABLE,
    Action,
    Bequest,
    CleanUp,
    Dismiss,
    Event,
    Gone,
    HandOver,
    HeedReload,
    Launch,
    Launched,
    LaunchFailed,
    Order,
    Pass,
    SaidFailed,
    SaidReady,
    SaidStop,
    Send,
    Step,
    Upgrade,
    refused,
    take_bequest,
)

USR1, USR2, HUP, TERM, INT, QUIT, KILL, TTIN = (
    getattr(signal, f"SIG{name}")
    for name in ("USR1", "USR2", "HUP", "TERM", "INT", "QUIT", "KILL", "TTIN")
)


class Master:
    """An automaton, and what it said last."""

    def __init__(self, *events: Event) -> None:
        self.upgrade = Upgrade()
        self.now = 100.0
        for event in events:
            self.tell(event)

    def tell(self, event: Event, after: float = 0.0, obstacle: str = "") -> list[Action]:
        self.now += after
        return self.upgrade.handle(
            event, self.now, obstacle=obstacle, boot_timeout=60.0, graceful_timeout=30.0
        )

    def signal(self, number: signal.Signals, obstacle: str = "") -> list[Action]:
        return self.tell(story.SignalCame(number), obstacle=obstacle)


def logs(actions: list[Action]) -> list[tuple[str, str]]:
    return [(action.level, action.text) for action in actions if isinstance(action, story.Log)]


def booting() -> Master:
    return Master(story.SignalCame(USR2), Launched(7))


def test_an_upgrade() -> None:
    master = Master()
    assert master.signal(USR2) == [Launch()]
    assert logs(master.tell(Launched(7)))[0][0] == "info"
    assert (master.upgrade.step, master.upgrade.alive) == (Step.BOOTING, True)
    assert master.tell(SaidReady()) == [HandOver()]
    assert (master.upgrade.step, master.upgrade.alive) == (Step.SUCCEEDED, False)
    assert master.upgrade.deadline is None
    assert master.tell(SaidReady()) == []
    # What comes now is for the supervisor, which is stopping.
    assert master.signal(QUIT) == [Pass(QUIT)]
    assert logs(master.signal(TERM)) == [("info", upgrade.ENDING_ALREADY)]
    assert master.signal(TERM) == [Pass(TERM)]
    assert [level for level, _ in logs(master.tell(Gone("SIGKILL")))] == ["error"]
    assert master.upgrade.step is Step.SUCCEEDED


def test_other_signals_are_the_supervisors() -> None:
    for number in (HUP, TERM, INT, QUIT, USR1, TTIN):
        assert Master().signal(number) == [Pass(number)]


def test_an_obstacle_is_told() -> None:
    master = Master()
    assert logs(master.signal(USR2, "it rains")) == [
        ("warning", "USR2: there is no upgrade now: it rains")
    ]
    assert master.upgrade.step is Step.NONE


def test_signals_meanwhile() -> None:
    master = booting()
    assert logs(master.signal(USR2)) == [("warning", upgrade.UNDER_WAY.format(7))]
    said = master.signal(HUP)
    assert logs(said) == [("warning", upgrade.HUP_REFUSED.format(7))]
    assert isinstance(said[1], HeedReload)
    assert master.signal(TTIN) == [Pass(TTIN)]
    assert master.signal(USR1) == [Send(USR1), Pass(USR1)]
    assert master.upgrade.step is Step.BOOTING


@pytest.mark.parametrize("number", [TERM, INT, QUIT])
def test_a_stop_ends_both(number: signal.Signals) -> None:
    master = booting()
    assert master.signal(number) == [Order(number), Pass(number)]
    assert master.tell(SaidReady()) == []  # too late
    assert master.upgrade.alive
    assert master.tell(Gone("exit status 0")) == [CleanUp()]
    assert not master.upgrade.alive


def test_a_stop_is_not_held_up_for_ever() -> None:
    master = booting()
    master.signal(TERM)
    assert master.tell(story.Tick(), 32.9) == []
    assert master.tell(story.Tick(), 0.1) == [Send(KILL)]
    assert master.upgrade.deadline is None
    assert master.upgrade.alive  # until it is collected


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([LaunchFailed("no fork")], refused("no fork")),
        ([Launched(7), Gone("SIGSEGV")], "It ended with SIGSEGV before it was ready"),
        ([Launched(7), SaidFailed("why"), Gone("exit status 3")], refused("why", 7)),
    ],
)
def test_failures(events: list[Event], reason: str) -> None:
    master = Master(story.SignalCame(USR2), *events[:-1])
    said = logs(master.tell(events[-1]))
    assert [level for level, _ in said] == ["error"]
    assert reason in said[0][1]
    assert (master.upgrade.step, master.upgrade.deadline) == (Step.NONE, None)
    assert master.signal(USR2) == [Launch()]


def test_what_failed_before_is_no_reason_later() -> None:
    master = Master(Launched(7), SaidFailed("why"), Gone("exit status 3"), Launched(8))
    assert "exit status 9" in logs(master.tell(Gone("exit status 9")))[0][1]


def test_the_boot_deadline() -> None:
    """Later than that of its workers, so that it can say itself which of them hangs."""
    master = booting()
    assert master.tell(story.Tick(), 64.9) == []
    said = master.tell(story.Tick(), 0.1)
    assert "boot_timeout" in logs(said)[0][1]
    assert said[1:] == [Dismiss()]
    assert master.tell(SaidReady()) == []
    assert master.tell(story.Tick(), 32.9) == []  # what it serves already may come to its end
    assert master.tell(story.Tick(), 0.1) == [Send(KILL)]
    assert master.tell(Gone("SIGKILL")) == [CleanUp()]
    assert master.signal(USR2) == [Launch()]


def test_a_stranger_with_the_same_pid_means_nothing() -> None:
    master = booting()
    master.tell(Gone("SIGKILL"))
    assert master.tell(Gone("exit status 1")) == []


def test_a_suspended_machine_is_forgiven() -> None:
    master = booting()
    master.upgrade.forgive(1000.0)
    assert master.tell(story.Tick(), 1000.0) == []


def test_one_that_fails_and_does_not_end_is_killed() -> None:
    master = booting()
    assert master.tell(SaidFailed("why")) == []
    assert master.tell(story.Tick(), 3.0) == [Send(KILL)]
    assert logs(master.tell(Gone("SIGKILL"))) == [("error", refused("why", 7))]


def test_one_that_is_called_off_may_finish_what_it_serves() -> None:
    master = booting()
    assert master.tell(SaidFailed(upgrade.CALLED_OFF)) == []
    assert master.tell(story.Tick(), 32.9) == []
    assert master.tell(story.Tick(), 0.1) == [Send(KILL)]


@pytest.mark.parametrize("how", ["exit status 0", "SIGKILL"])
def test_the_end_of_one_that_was_told_to_end_is_no_error(how: str) -> None:
    master = booting()
    assert master.tell(SaidReady()) == [HandOver()]
    assert logs(master.tell(SaidStop(quick=False))) == [("info", upgrade.ENDS_TOO.format(7))]
    assert master.tell(SaidStop(quick=False)) == []
    levels = [level for level, _ in logs(master.tell(Gone(how)))]
    assert levels == ([] if how == "exit status 0" else ["error"])


def test_of_a_quick_stop_nothing_is_promised() -> None:
    master = booting()
    master.tell(SaidReady())
    assert master.tell(SaidStop(quick=True)) == []


BEQUEST = Bequest(
    master=1,
    channel=9,
    listeners=((5, "127.0.0.1:8000", False), (6, "unix:/caf\udce9,mode=660", True)),
    activated=(3, 4),
    queue=(7, 8),
    takers=(11, 1),
    graceful=30.0,
    pid_file="/run/pid",
    notify="@socket",
    watchdog="1000000",
)


@pytest.mark.parametrize("bequest", [BEQUEST, Bequest(1, 9, ())])
def test_what_is_handed_down(bequest: Bequest) -> None:
    environ = {"X": "y", VARIABLE: bequest.encode()}
    assert environ[VARIABLE].isascii()
    assert take_bequest(environ) == bequest
    assert environ == {"X": "y"}
    assert take_bequest(environ) is None


def test_every_descriptor_is_handed_down() -> None:
    assert BEQUEST.descriptors() == [9, 5, 6, 7, 8, 11]


@pytest.mark.parametrize("text", ["", "1", "{}", "[]", '{"master": 1}', "null",
                                  BEQUEST.encode().replace("[7, 8]", "[7]")])  # fmt: skip
def test_what_somebody_else_has_set_is_refused(text: str) -> None:
    with pytest.raises(ForkserveError, match="for nobody else to set"):
        take_bequest({VARIABLE: text})
