"""Children that code which is not ours forks: they end where they would come back."""

import os
from collections.abc import Callable

import pytest

from forkserve.proc.strays import strays_end_here


def nothing() -> None:
    pass


def leave() -> None:
    raise SystemExit(3)


def leave_quietly() -> None:
    raise SystemExit


def leave_with_a_word() -> None:
    raise SystemExit("it is no number")


def fail() -> None:
    raise LookupError("of a child")


@pytest.mark.parametrize(
    ("end", "status"),
    [(nothing, 0), (leave, 3), (leave_quietly, 0), (leave_with_a_word, 1), (fail, 1)],
)
def test_a_child_ends_where_the_block_does(
    end: Callable[[], None], status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with strays_end_here():
        pid = os.fork()
        if pid == 0:
            print("said by the child")
            end()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status
    out, err = capfd.readouterr()
    assert out == "said by the child\n"
    assert ("LookupError: of a child" in err) == (end is fail)


@pytest.mark.parametrize("end", [leave, fail])
def test_in_the_process_itself_what_is_raised_goes_on(end: Callable[[], None]) -> None:
    with pytest.raises((SystemExit, LookupError)), strays_end_here():
        end()
