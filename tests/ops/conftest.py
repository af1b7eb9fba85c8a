"""What an application may do to the process that its server's lines come from."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def own_level_names() -> Iterator[None]:
    """Names of levels with colours and signs in them, as many programs set them for all loggers."""
    before = {level: logging.getLevelName(level) for level in (30, 35, 40)}
    logging.addLevelName(30, "\x1b[33mwarning\x1b[0m")
    logging.addLevelName(35, '\x1b[1m"loud\n\u26a0')
    logging.addLevelName(40, "\u26a0 error:1|c\nforged")
    yield
    for level, name in before.items():
        logging.addLevelName(level, name)
