"""The pauses before a slot is filled again, and the rows."""

import pytest

from forkserve.master.roster import ROWS, Phase, Roster, Worker

NOW = 1000.0


def worker(roster: Roster, slot: int = 0) -> Worker:
    added = roster.add(slot, 1, NOW + 60.0, successor=False)
    assert added is not None
    return added


def pauses(*deaths: tuple[Phase, float, bool]) -> list[float]:
    """The pauses after such (phase, seconds since it was ready, blameless) deaths of one slot."""
    roster = Roster()
    found = []
    for phase, lived, blameless in deaths:
        dead = roster.pop(worker(roster).serial)
        dead.phase, dead.ready_at = phase, NOW
        found.append(roster.died(dead, NOW + lived, blameless=blameless))
        assert roster.not_before(0) == NOW + lived + found[-1]
    return found


BOOT = (Phase.BOOTING, 0.0, False)
YOUNG = (Phase.SERVING, 1.0, False)
HEALTHY = (Phase.SERVING, 1.5, False)
POISONED = (Phase.SERVING, 1.0, True)


@pytest.mark.parametrize(
    ("deaths", "expected"),
    [
        ([BOOT] * 8, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]),
        ([YOUNG] * 9, [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]),
        ([POISONED] * 6, [0.0, 0.5, 1.0, 2.0, 2.0, 2.0]),
        ([HEALTHY] * 3, [0.0, 0.0, 0.0]),
        ([YOUNG, YOUNG, YOUNG, HEALTHY, YOUNG, YOUNG], [0.0, 0.5, 1.0, 0.0, 0.0, 0.5]),
        # A crash loop of the application's own is not made short by a request in between.
        ([YOUNG] * 5 + [POISONED, YOUNG], [0.0, 0.5, 1.0, 2.0, 4.0, 2.0, 16.0]),
    ],
)
def test_pauses(deaths: list[tuple[Phase, float, bool]], expected: list[float]) -> None:
    assert pauses(*deaths) == expected


def test_a_crash_loop_of_hours_does_not_overflow() -> None:
    assert pauses(*[BOOT] * 1100)[-1] == 30.0
    assert pauses(*[POISONED] * 1100)[-1] == 2.0


def test_slots_do_not_pay_for_each_other_and_a_new_generation_for_none() -> None:
    roster = Roster()
    dead = roster.pop(worker(roster).serial)
    roster.died(dead, NOW)
    assert (roster.not_before(0), roster.not_before(1)) == (NOW + 0.5, 0.0)
    roster.forget_deaths()
    assert roster.not_before(0) == 0.0


def test_the_lowest_free_row_is_given_until_there_is_none() -> None:
    roster = Roster()
    assert [worker(roster).row for _ in range(ROWS)] == list(range(ROWS))
    assert roster.add(0, 1, NOW, successor=False) is None
    roster.pop(6)
    roster.pop(3)
    assert [worker(roster).row, worker(roster).row] == [2, 5]
    assert roster.add(0, 1, NOW, successor=False) is None
    assert max(roster.workers) == ROWS + 2  # no serial was used for nothing


def test_who_has_no_pid_is_not_named_by_it() -> None:
    unforked = worker(Roster(), 7)
    assert str(unforked) == "worker 7 gen 1"
    unforked.pid = 42
    assert str(unforked) == "worker 7 gen 1 (pid 42)"
