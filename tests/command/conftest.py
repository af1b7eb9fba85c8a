"""Servers that are stopped and checked when their test ends."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command.harness import PLAIN, Server, children, clean_environ, wait_for_death
from tests.conftest import need


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A directory with an application, shop.py, that a test can change."""
    (tmp_path / "shop.py").write_text(PLAIN)
    return tmp_path


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What /wait waits for: until ``write_text`` opens it, and no longer."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """``start("app", ...)`` starts a server on a free port and waits until it serves.

    ``errors``: words of the lines at ERROR that the test provokes. Afterwards nothing may be left:
    no process, and no other line at ERROR.
    """
    servers: list[tuple[Server, tuple[str, ...]]] = []

    def starter(
        *arguments: str, errors: tuple[str, ...] = (), up: bool = True, **popen: Any
    ) -> Server:
        if not any(word in ("-b", "--bind") for word in arguments) and "bind" not in popen:
            arguments = ("-b", "127.0.0.1:0", *arguments)
        popen.pop("bind", None)
        server = Server(*arguments, **popen)
        servers.append((server, errors))
        return server.up() if up else server

    yield starter
    for server, errors in servers:
        pids = children(server.pid)
        try:
            server.stop("QUIT")
        except Exception:
            server.process.kill()
            raise
        finally:
            left = [pid for pid in pids if not wait_for_death(pid, 5.0)]
        assert not left, "workers outlived their master"
        for line in server.lines:
            if " ERROR " in line or " CRITICAL " in line:
                assert any(word in line for word in errors), f"unexpected: {line}\n{server.log}"


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
