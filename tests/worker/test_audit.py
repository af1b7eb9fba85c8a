"""What an import leaves behind, and what the operator is told of it."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from forkserve.worker.audit import Audit


def told(leave: Callable[[], object]) -> str | None:
    """The warning after an import that does what ``leave`` does; what that returns lives on."""
    audit = Audit()
    kept = leave()
    warning = audit.warning("shop")
    del kept
    return warning


def test_an_import_that_leaves_nothing() -> None:
    assert told(lambda: None) is None


def test_descriptors_that_do_no_harm(tmp_path: Path) -> None:
    kept: list[int] = []
    with open(tmp_path / "log", "a") as log, open(os.devnull, "r+") as null:
        assert told(lambda: kept.extend(map(os.dup, (log.fileno(), null.fileno())))) is None
    for fd in kept:
        os.close(fd)


def test_what_was_there_before_is_not_the_import_s() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert told(lambda: None) is None


def test_a_thread_is_named_with_its_function() -> None:
    end = threading.Event()

    def report_metrics() -> None:
        end.wait()

    def leave() -> None:
        threading.Thread(target=report_metrics, name="metrics").start()

    warning = told(leave)
    end.set()
    assert warning is not None
    assert "the import of shop has left behind" in warning
    assert f"thread 'metrics', in {__name__}:" in warning
    assert "report_metrics\n" in warning
    assert "os.register_at_fork(after_in_child=...)" in warning


def test_sockets_are_named_with_their_addresses(tmp_path: Path) -> None:
    kept: list[socket.socket] = []

    def leave() -> None:
        server = socket.create_server(("127.0.0.1", 0))
        local = socket.socket(socket.AF_UNIX)
        local.bind(str(tmp_path / "local"))
        kept.extend((server, local, socket.create_connection(server.getsockname())))
        kept.extend((socket.socket(socket.AF_INET6), *socket.socketpair()))

    warning = told(leave)
    server, local, connection, *_ = kept
    assert warning is not None
    port = server.getsockname()[1]
    for line in (
        f"listening socket 127.0.0.1:{port} (descriptor {server.fileno()})",
        f"connection to 127.0.0.1:{port} (descriptor {connection.fileno()})",
        f"socket unix:{tmp_path}/local (descriptor {local.fileno()})",
        "socket [::]:0 (descriptor ",
        "connection to a socket without a name (descriptor ",
    ):
        assert line in warning
    for sock in kept:
        sock.close()


def test_files_that_are_read_and_written(tmp_path: Path) -> None:
    """An SQLite database, say, which forbids it."""
    path = tmp_path / "shop.sqlite3"
    path.touch()
    audit = Audit()
    with open(path, "r+"):
        warning = audit.warning("shop")
    assert warning is not None
    assert f"file that is open for reading and writing: {path}" in warning


def test_event_loops() -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    warning = told(lambda: loops.append(asyncio.new_event_loop()))
    loop = loops[0]
    assert warning is not None
    assert "event loop of asyncio.unix_events that is open" in warning
    running = threading.Event()
    loop.call_soon(running.set)
    thread = threading.Thread(target=loop.run_forever)

    def leave() -> None:
        thread.start()
        running.wait()

    warning = told(leave)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    assert warning is not None
    assert "event loop of asyncio.unix_events that runs" in warning
    assert told(lambda: None) is None


def test_objects_that_stand_for_others_are_left_alone() -> None:
    class Stand:
        @property
        def __class__(self) -> type:  # type: ignore[override]
            raise AssertionError("somebody asked what it is")

    kept = Stand()
    assert told(lambda: None) is None
    del kept
