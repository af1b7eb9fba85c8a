"""A browser, which opens several connections, and some ahead of need, before one sync worker."""

import contextlib
import json
from collections.abc import Callable

import pytest

from tests.command.harness import Server

Start = Callable[..., Server]
TIMES = 20


@pytest.mark.parametrize("silent", [0, 2])
def test_every_page_is_complete(start: Start, browse: Callable[[str], None], silent: int) -> None:
    """15 scripts, 15 images, 5 style sheets and their 5 fonts, of which one each are slow; and then
    the page of Werkzeug's debugger."""
    server = start("browser_site", "--head-timeout", "60")
    with contextlib.ExitStack() as stack:
        for _ in range(silent):
            stack.enter_context(server.connect())
        browse(f"{server.url}/?times={TIMES}")
        report = json.loads(server.wait_for("report (.*)")[0][1])
        assert report["pages"] == ["15 15 5 5"] * TIMES
        *resources, sheets, shell = report["debugger"].split(", ")
        assert sorted(set(resources)) == ["console.png true", "debugger.js true", "style.css true"]
        assert (sheets, shell) == ("1", "function")
