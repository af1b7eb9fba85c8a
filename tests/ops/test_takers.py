"""What two masters and their workers know of each other's workers."""

import os

import pytest

from forkserve.ops.scoreboard import Scoreboard
from forkserve.ops.takers import Takers
from tests.descriptors import in_a_child


def test_each_has_its_own_place_and_sees_that_of_the_other() -> None:
    first = Takers.make()
    second = Takers(os.dup(first.fd), first.next_place)
    assert (first.others_take(), second.others_take()) == (False, True)
    second.take(True)
    assert first.others_take()
    first.take(False)
    assert (first.others_take(), second.others_take()) == (True, False)
    # The third one takes the place of the first.
    third = Takers(os.dup(second.fd), second.next_place)
    third.take(True)
    assert (second.others_take(), third.others_take()) == (True, True)


def test_one_that_is_gone_takes_nothing() -> None:
    first = Takers.make()
    second = Takers(os.dup(first.fd), first.next_place)
    second.take(True)
    first.forget()
    assert not first.others_take()
    assert second.others_take()  # of itself the first still says so


def test_workers_see_it() -> None:
    first = Takers.make()
    second = Takers(os.dup(first.fd), first.next_place)
    board = Scoreboard(2, first.others_take)
    board.row(0).set_serving(True)
    assert not board.row(0).has_siblings()
    os.close(first.fd)
    second.take(True)

    def work() -> None:
        assert board.row(0).has_siblings()

    in_a_child(work)
    second.take(False)
    assert not board.row(0).has_siblings()
    board.row(1).set_serving(True)
    assert board.row(0).has_siblings()


def test_a_system_without_such_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    only = Takers.make()
    assert (only.fd, only.others_take()) == (-1, False)


@pytest.mark.parametrize("fd", [1 << 20, -2])
def test_what_is_no_such_file_is_refused(fd: int) -> None:
    with pytest.raises((OSError, ValueError)):
        Takers(fd, 1)
