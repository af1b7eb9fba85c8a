"""A queue between workers."""

from collections.abc import Iterator

import pytest

from forkserve.worker.handoff import HandoffQueue


@pytest.fixture
def queue(nothing_leaks: None) -> Iterator[HandoffQueue]:
    made = HandoffQueue.make()
    assert made is not None
    yield made
    made.close()
