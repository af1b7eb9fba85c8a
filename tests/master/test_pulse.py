"""Who does not answer is found, and nobody is asked for nothing."""

import pytest

from forkserve.master.pulse import GRACE, Pulse
from forkserve.master.story import CallOverdue
from forkserve.ops.scoreboard import Call

NEVER = float("inf")
PATIENCE = 30.0 + GRACE
CALL = Call(0.0, "GET /slow HTTP/1.1", 1000.0)


class Asked:
    """Whoever is asked is noted."""

    def __init__(self) -> None:
        self.pulse = Pulse(lambda serial: self._asked.append(serial))
        self._asked: list[int] = []

    def look(
        self, *serving: int, now: float, timeout: float | None = 30.0, running: int = 0
    ) -> tuple[list[int], list[CallOverdue]]:
        """(who is asked, who is silent)"""
        self._asked = []
        calls = {serial: [CALL] if serial == running else [] for serial in serving}
        silent = self.pulse.look(calls, timeout, now)
        return self._asked, silent


def test_who_answers_is_asked_again_after_the_timeout() -> None:
    world = Asked()
    assert world.pulse.due <= 0.0
    for now in (100.0, 100.0 + PATIENCE, 100.0 + 2 * PATIENCE):
        assert world.look(1, 2, now=now) == ([1, 2], [])
        assert world.pulse.due == now + PATIENCE
        world.pulse.heard(1)
        world.pulse.heard(2)


def test_who_does_not_answer_is_silent_after_the_timeout() -> None:
    world = Asked()
    assert world.look(1, 2, now=100.0) == ([1, 2], [])
    world.pulse.heard(2)
    world.pulse.settings_changed()
    assert world.pulse.due == 0.0
    assert world.look(1, 2, 3, now=110.0) == ([2, 3], [])  # it has time yet
    world.pulse.heard(2)
    world.pulse.heard(3)
    silent = CallOverdue(1, 10.0 + PATIENCE, "")
    assert world.look(1, 2, 3, now=110.0 + PATIENCE) == ([2, 3], [silent])
    # It is being killed, and does not serve any more.
    assert world.look(2, 3, 4, now=110.0 + PATIENCE) == ([4], [])


def test_a_call_has_its_own_deadline() -> None:
    world = Asked()
    world.look(1, now=0.0)
    assert world.look(1, now=PATIENCE, running=1) == ([], [])
    assert world.look(1, now=PATIENCE + 1.0) == ([], [])  # it is over, and could not answer yet
    assert world.look(1, now=2 * PATIENCE) == ([], [CallOverdue(1, PATIENCE, "")])


def test_without_a_timeout_nobody_is_asked() -> None:
    world = Asked()
    world.look(1, now=0.0)
    assert world.look(1, now=100.0, timeout=None) == ([], [])
    assert world.pulse.due == NEVER
    assert world.look(1, now=200.0) == ([1], [])


@pytest.mark.parametrize("seconds", [1.5, 3600.0])
def test_the_time_in_which_the_master_stood_still_does_not_count(seconds: float) -> None:
    world = Asked()
    world.look(1, now=0.0)
    world.pulse.forgive(seconds)
    assert world.pulse.due == PATIENCE + seconds
    assert world.look(1, now=seconds + 30.0) == ([], [])
