"""Who is used up, when, and what is said about it."""

import itertools

import pytest

from forkserve.master.roster import Phase, Worker
from forkserve.master.story import Plan
from forkserve.master.wear import Wear

NOW = 1000.0
NEVER = float("inf")
MEBI = 1 << 20
PLAN = Plan(4, 60.0, 30.0, max_lifetime=3600.0, max_rss=200 * MEBI, memory=1 << 30)


def worker(serial: int, slot: int = 0, ready_at: float = NOW) -> Worker:
    return Worker(serial, slot, 1, serial, False, None, Phase.SERVING, ready_at=ready_at)


def test_workers_that_began_together_do_not_end_together() -> None:
    wear = Wear()
    for count in (2, 4, 8, 32):
        workers = [worker(serial) for serial in range(7, 7 + count)]
        for each in workers:
            wear.ready(each, PLAN, NOW)
        ends = sorted(each.due_at - NOW for each in workers)
        assert ends[0] >= 3240.0
        assert ends[-1] <= 3600.0
        apart = min(b - a for a, b in itertools.pairwise(ends))
        assert apart > 0.3 * 360.0 / count
        assert {each.why for each in workers} == {"it has served for its `max_lifetime`"}


def test_without_limits_nobody_is_due() -> None:
    wear, plan, each = Wear(), Plan(4, 60.0, 30.0), worker(1)
    wear.ready(each, plan, NOW)
    assert wear.weighed(each, 1 << 50, plan, NOW) is None
    assert (each.due_at, each.why) == (NEVER, "")


def test_the_first_limit_counts() -> None:
    wear, each = Wear(), worker(1)
    wear.ready(each, PLAN, NOW)
    wear.counted(each, 512, NOW + 60.0)
    assert (each.due_at, each.why) == (NOW + 60.0, "it has served 512 requests (`max_requests`)")
    wear.weighed(each, 300 * MEBI, PLAN, NOW + 61.0)
    assert each.due_at == NOW + 60.0


def test_memory() -> None:
    wear, each = Wear(), worker(1)
    assert wear.weighed(each, 200 * MEBI, PLAN, NOW + 60.0) is None
    assert each.due_at == NEVER
    assert wear.weighed(each, 201 * MEBI, PLAN, NOW + 61.0) is None
    assert each.due_at == NOW + 61.0
    assert each.why == "it holds 201M of memory, and `max_rss` is 200M"
    wear.weighed(each, 900 * MEBI, PLAN, NOW + 62.0)
    assert "201M" in each.why


def test_workers_that_are_too_heavy_from_birth_are_replaced_with_pauses() -> None:
    wear = Wear()
    pauses, said = [], []
    for serial in range(12):
        each = worker(serial)
        said.append(wear.weighed(each, 300 * MEBI, PLAN, NOW + 0.5))
        pauses.append(each.due_at - NOW)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0]
    first, *others = said
    assert first is not None
    assert first.level == "warning"
    assert "has just become ready, and holds 300M of memory already" in first.text
    assert others == [None] * 11, "it is said once"
    # Another slot has its own pauses; and the same words would help nobody.
    other = worker(99, slot=1)
    assert wear.weighed(other, 300 * MEBI, PLAN, NOW + 0.5) is None
    assert other.due_at == NOW + 0.5


def test_one_that_is_too_heavy_from_birth_and_grows_is_replaced_at_once() -> None:
    wear = Wear()
    for serial in range(10):
        wear.weighed(worker(serial), 300 * MEBI, PLAN, NOW)
    each = worker(11)
    wear.weighed(each, 300 * MEBI, PLAN, NOW)
    assert each.due_at == NOW + 60.0
    wear.weighed(each, 449 * MEBI, PLAN, NOW + 5.0)
    assert each.due_at == NOW + 60.0
    wear.weighed(each, 450 * MEBI, PLAN, NOW + 6.0)
    assert each.due_at == NOW + 6.0
    assert "450M" in each.why


def test_a_new_generation_may_be_lighter() -> None:
    wear = Wear()
    for serial in range(5):
        wear.weighed(worker(serial), 300 * MEBI, PLAN, NOW)
    wear.forget()
    each = worker(9)
    assert wear.weighed(each, 300 * MEBI, PLAN, NOW) is not None
    assert each.due_at == NOW


@pytest.mark.parametrize("lived", [2.0, 30.0, 86400.0])
def test_workers_that_grow_are_replaced_without_a_pause(lived: float) -> None:
    wear = Wear()
    for serial in range(5):
        each = worker(serial)
        assert wear.weighed(each, 300 * MEBI, PLAN, NOW + lived) is None
        assert each.due_at == NOW + lived


def test_one_that_grew_slowly_ends_the_pauses() -> None:
    wear = Wear()
    for serial in range(5):
        wear.weighed(worker(serial), 300 * MEBI, PLAN, NOW)
    wear.weighed(worker(6), 300 * MEBI, PLAN, NOW + 50.0)
    each = worker(7)
    wear.weighed(each, 300 * MEBI, PLAN, NOW)
    assert each.due_at == NOW
