"""What the tests of the development mode share."""

from collections.abc import Iterator

import pytest

from forkserve.develop.board import Board


@pytest.fixture
def board() -> Iterator[Board]:
    """One that leaves no descriptor behind."""
    board = Board()
    yield board
    board.close()
