"""The life of the status process, as a table."""

from forkserve.master.attendant import Action, Attendant, Dismiss, End, Start
from forkserve.master.story import Log


def do(attendant: Attendant, now: float, *, quick: bool = False) -> list[Action]:
    return list(attendant.balance(now, quick=quick))


def serving(now: float = 0.0) -> Attendant:
    attendant = Attendant()
    attendant.want(True)
    assert do(attendant, now) == [Start(1)]
    attendant.started(1, 101)
    attendant.ready(1)
    assert do(attendant, now) == []
    return attendant


def text(said: Log | None) -> str:
    assert said is not None and said.level == "error"
    return said.text


def test_there_is_none_unless_it_is_wanted() -> None:
    attendant = Attendant()
    assert do(attendant, 0.0) == []
    assert attendant.due == float("inf")
    assert attendant.alive == 0


def test_one_serves_and_nothing_more_is_due() -> None:
    attendant = serving()
    assert attendant.due == float("inf")
    assert attendant.alive == 1


def test_one_that_dies_is_replaced_and_after_a_pause_if_it_dies_young() -> None:
    attendant = serving()
    assert "died: SIGKILL. The server goes on, and another is started at once" in text(
        attendant.died(1, "SIGKILL", 10.0)
    )
    assert attendant.due <= 10.0
    assert do(attendant, 10.0) == [Start(2)]
    attendant.failed(2, "cannot boot\nTraceback")
    said = text(attendant.died(2, "exit status 1", 10.1))
    assert said.splitlines()[1] == "Traceback"
    assert "could not boot: cannot boot. The server goes on" in said
    assert do(attendant, 10.2) == []
    assert 10.5 < attendant.due < 11.0
    assert do(attendant, attendant.due) == [Start(3)]


def test_one_that_cannot_be_forked_is_tried_again() -> None:
    attendant = Attendant()
    attendant.want(True)
    assert do(attendant, 5.0) == [Start(1)]
    assert "cannot be started: No more" in text(attendant.not_started(1, "No more", 5.0))
    assert do(attendant, 5.1) == []
    assert do(attendant, 5.6) == [Start(2)]


def test_one_that_does_not_boot_in_time_is_killed_and_replaced() -> None:
    attendant = Attendant()
    attendant.want(True)
    do(attendant, 0.0)
    attendant.started(1, 101)
    assert attendant.due == 30.0
    assert do(attendant, 30.0) == [End(1)]
    assert do(attendant, 31.0) == []
    assert "did not boot in time" in text(attendant.died(1, "SIGKILL", 31.0))
    assert do(attendant, 32.0) == [Start(2)]


def test_new_settings_bring_a_successor_before_the_old_one_retires() -> None:
    attendant = serving()
    attendant.want(True)
    assert do(attendant, 10.0) == [Start(2)]
    attendant.started(2, 102)
    assert do(attendant, 10.1) == []
    attendant.ready(2)
    assert do(attendant, 10.2) == [Dismiss(1, False)]
    assert attendant.died(1, "exit status 0", 10.3) is None
    assert do(attendant, 10.3) == []
    assert attendant.alive == 1


def test_a_successor_that_fails_leaves_the_old_one_in_place() -> None:
    attendant = serving()
    attendant.want(True)
    do(attendant, 10.0)
    attendant.died(2, "exit status 1", 10.1)
    assert do(attendant, 10.2) == []
    assert do(attendant, 10.7) == [Start(3)]
    attendant.ready(3)
    assert do(attendant, 10.8) == [Dismiss(1, False)]


def test_one_that_is_not_wanted_any_more_leaves_or_is_killed() -> None:
    attendant = serving()
    attendant.want(False)
    assert do(attendant, 10.0, quick=True) == [Dismiss(1, True)]
    assert attendant.due == 15.0
    assert do(attendant, 15.0) == [End(1)]
    assert attendant.died(1, "SIGKILL", 15.1) is None
    assert attendant.alive == 0
    assert attendant.due == float("inf")


def test_one_that_boots_and_is_not_wanted_any_more_is_killed() -> None:
    attendant = Attendant()
    attendant.want(True)
    do(attendant, 0.0)
    attendant.want(False)
    assert do(attendant, 1.0) == [End(1)]
    assert attendant.died(1, "SIGKILL", 1.1) is None


def test_one_that_somebody_else_tells_to_end_is_replaced() -> None:
    attendant = serving()
    said = attendant.leaving(1)
    assert said is not None and said.level == "info"
    assert do(attendant, 10.0) == [Start(2)]
    assert attendant.died(1, "exit status 0", 10.1) is None
    assert attendant.leaving(2) is None  # which boots, and will say it again


def test_a_master_that_did_not_run_kills_nobody_for_it() -> None:
    attendant = serving()
    attendant.want(False)
    do(attendant, 10.0)
    attendant.forgive(60.0)
    assert do(attendant, 70.0) == []
