"""Servers that are stopped and checked when their test ends."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command.harness import PLAIN, Server, children, wait_for_death


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
