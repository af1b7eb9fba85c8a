"""The board: what one process posts, others read whole."""

import os
import select
from contextlib import closing

import pytest

from forkserve.develop.board import Board, Notice
from forkserve.proc.channel import LARGEST


def test_a_notice_is_up_until_it_is_taken_down() -> None:
    with closing(Board(5)) as board:
        check_notices(board)


def check_notices(board: Board) -> None:
    assert board.read() is None
    board.post("eins\nzwei \N{SNOWMAN}")
    first = board.read()
    assert first == Notice(6, "eins\nzwei \N{SNOWMAN}")
    board.post("two")
    assert board.read() == Notice(7, "two")
    board.post("")
    assert board.read() is None


def test_what_is_too_long_is_cut(board: Board) -> None:
    board.post("x" * (LARGEST + 1))
    notice = board.read()
    assert notice is not None and len(notice.text) == LARGEST
    board.post("short")
    assert board.read() == Notice(2, "short")


def test_a_reader_never_sees_half_of_a_notice(board: Board) -> None:
    """Another process writes all the time."""
    board.post("0" * 1000)
    pid = os.fork()
    if pid == 0:
        for number in range(20_000):
            board.post(str(number % 10) * (1000 + number % 500))
        os._exit(0)
    seen = 0
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        notice = board.read()
        assert notice is not None and len(set(notice.text)) == 1
        seen += 1
    assert seen


def test_loaded_is_told_by_any_process(board: Board) -> None:
    assert not board.loaded
    pid = os.fork()
    if pid == 0:
        board.note_loaded()
        os._exit(0)
    os.waitpid(pid, 0)
    board.post("does not touch it")
    assert board.loaded


def test_what_is_told_comes_in_lines(board: Board) -> None:
    board.tell(["/a.py", "/with\nnewline.py", "/" + "x" * select.PIPE_BUF, "/b.py"])
    assert os.read(board.told, 65536) == b"/a.py\n/b.py\n"
    with pytest.raises(BlockingIOError):
        os.read(board.told, 1)


def test_a_pipe_that_nobody_reads_stops_nobody(board: Board) -> None:
    board.tell(["/" + "x" * 1000] * 200)
    assert 50_000 < len(os.read(board.told, 1 << 20)) < 200_200
