"""The master looks at those that have requests, for as long as they have, and then at nobody."""

import pytest

from forkserve.master.gauge import Gauge

NEVER = float("inf")


def gauge(*, weighs: bool = False, counts: bool = False) -> Gauge:
    made = Gauge()
    made.set_up(weighs=weighs, counts=counts)
    return made


def looks(
    item: Gauge, calls: dict[int, tuple[float, float]], until: float
) -> list[tuple[float, list[int]]]:
    """(time, whom to weigh) of each look. ``calls``: serial -> when its call begins and ends."""
    found = []
    while item.next_look <= until:
        now = item.next_look
        running = [serial for serial, (begin, end) in calls.items() if begin <= now < end]
        found.append((round(now, 3), item.look(running, now)))
        assert item.next_look > now
    return found


def test_nobody_asks() -> None:
    item = gauge()
    item.busy(1, 5.0)
    assert item.next_look == NEVER


def test_a_worker_is_weighed_after_its_request_and_then_no_more() -> None:
    item = gauge(weighs=True)
    assert item.next_look == NEVER
    item.busy(7, 100.0)
    assert looks(item, {}, 1e9) == [(101.0, [7]), (102.0, [7])]
    assert item.next_look == NEVER
    item.busy(8, 500.0)
    assert looks(item, {}, 1e9) == [(501.0, [8]), (502.0, [8])]


def test_a_long_call_is_weighed_every_second() -> None:
    item = gauge(weighs=True)
    item.busy(7, 100.0)
    assert looks(item, {7: (100.0, 104.5)}, 1e9) == [
        (101.0, [7]), (102.0, [7]), (103.0, [7]), (104.0, [7]), (105.0, [7]), (106.0, [7]),
    ]  # fmt: skip


def test_requests_of_many_do_not_mean_more_looks() -> None:
    item = gauge(weighs=True)
    for serial in range(50):
        item.busy(serial, 100.0 + serial / 100)
    found = looks(item, {}, 1e9)
    assert len(found) <= 3
    assert sorted({serial for _, weighed in found for serial in weighed}) == list(range(50))


@pytest.mark.parametrize("weighs", [True, False])
def test_calls_are_counted_ten_times_a_second_and_memory_only_once(weighs: bool) -> None:
    item = gauge(weighs=weighs, counts=True)
    item.busy(7, 100.0)
    found = looks(item, {7: (100.0, 103.0)}, 1e9)
    assert [when for when, _ in found][:3] == [100.1, 100.2, 100.3]
    assert 40 <= len(found) <= 45
    assert found[-1][0] <= 104.5
    assert len([1 for _, weighed in found if weighed]) in ((4, 5) if weighs else (0,))
    assert item.next_look == NEVER


def test_between_two_words_of_a_busy_worker_nobody_falls_asleep() -> None:
    item = gauge(counts=True)
    for second in range(5):
        item.busy(7, 100.0 + second)
        assert len(looks(item, {}, 100.999 + second)) >= 9
