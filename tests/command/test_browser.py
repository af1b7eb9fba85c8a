"""A browser, which opens several connections, and some ahead of need, before one sync worker."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command.harness import Server, clean_environ
from tests.conftest import need

Start = Callable[..., Server]
TIMES = 20


@pytest.fixture
def browse(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """``browse(url)`` opens a page in a headless Chromium of its own."""
    browsers: list[subprocess.Popen[bytes]] = []

    def browser(url: str) -> None:
        options = [
            "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-extensions", "--no-proxy-server", f"--user-data-dir={tmp_path}/profile",
        ]  # fmt: skip
        if os.geteuid() == 0:
            options.append("--no-sandbox")  # Chromium refuses to run as root with it
        browsers.append(
            subprocess.Popen(
                [need("chromium"), *options, url],
                env={**clean_environ(), "HOME": str(tmp_path)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    yield browser
    for process in browsers:
        # All of its processes, which are in the session that it was started in.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


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
