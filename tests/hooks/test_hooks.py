"""Hooks: how they are called, and what they are given."""

import logging
import os
import sys
from asyncio import CancelledError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkserve.errors import ForkserveError
from forkserve.hooks.calling import call, call_timed, looked_up
from forkserve.hooks.requests import Request, Response
from forkserve.hooks.views import Configuration, Server, Worker
from forkserve.http.head import Limits, parse_head
from forkserve.http.response import ResponseEncoder
from forkserve.net.address import parse_address
from forkserve.settings import Settings, load_settings
from forkserve.settings.gunicorn import ENTRIES
from forkserve.settings.hooks import MASTER_HOOKS, WORKER_HOOKS, Hook


class Log(logging.Logger):
    """Remembers what is said."""

    def __init__(self) -> None:
        super().__init__("test")
        self.said: list[str] = []
        self.addHandler(self._Remember(self.said))

    class _Remember(logging.Handler):
        def __init__(self, said: list[str]) -> None:
            super().__init__()
            self._said = said

        def emit(self, record: logging.LogRecord) -> None:
            self._said.append(f"{record.levelname} {record.getMessage()}")


def settings(**given: Any) -> Settings:
    given.setdefault("app", "m:a")
    return load_settings(None, {}, {name: (it, "x") for name, it in given.items()}, {}).settings


def test_without_a_hook_nothing_happens() -> None:
    log = Log()
    assert call(None, log, "post_fork", 1)
    assert call_timed(None, log, "pre_fork", 1)
    assert log.said == []


@pytest.mark.parametrize(
    "error", [KeyError("x"), SystemExit(3), RecursionError(), CancelledError(), KeyboardInterrupt()]
)
def test_what_a_hook_raises_is_in_the_log_with_its_place(error: BaseException) -> None:
    def post_fork(server: object, worker: object) -> None:
        raise error

    log = Log()
    assert not call(Hook("conf.py:post_fork", post_fork), log, "post_fork", 1, 2)
    (line,) = log.said
    assert line.startswith("ERROR the hook post_fork (conf.py:post_fork) raised ")
    assert type(error).__name__ in line.splitlines()[0]
    assert "in post_fork" in line and "calling.py" not in line


def test_wrong_arguments_are_an_error_like_others() -> None:
    log = Log()
    assert not call(Hook("conf.py:pre_fork", lambda: None), log, "pre_fork", 1, 2)
    assert "TypeError" in log.said[0]


@pytest.mark.parametrize("count", [2, 3, 4, None])
def test_post_request_may_have_fewer_arguments(count: int | None) -> None:
    got: list[Any] = []
    functions: dict[int | None, Callable[..., None]] = {
        2: lambda worker, req: got.extend((worker, req)),
        3: lambda worker, req, environ: got.extend((worker, req, environ)),
        4: lambda worker, req, environ, resp: got.extend((worker, req, environ, resp)),
        None: lambda worker, *rest: got.extend((worker, *rest)),
    }
    hook = Hook("conf.py:post_request", functions[count])
    found = looked_up(settings(post_request=hook), WORKER_HOOKS).post_request
    log = Log()
    assert call(found, log, "post_request", 1, 2, 3, 4), log.said
    assert got == [1, 2, 3, 4][:count]


def test_hooks_that_are_named_are_looked_up_where_the_application_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    module = tmp_path / "own_hooks.py"
    module.write_text("def begin(server): return 1\n")
    given = settings(chdir=str(tmp_path), on_starting="own_hooks:begin", post_fork="not_there:x")
    found = looked_up(given, MASTER_HOOKS)
    assert found.on_starting is not None and found.on_starting.function is not None
    assert found.on_starting == given.on_starting
    module.write_text("def begun(server): return 2\n")
    with pytest.raises(ForkserveError, match="no function 'begin' in the module own_hooks"):
        looked_up(given, MASTER_HOOKS, anew=True)
    with pytest.raises(
        ForkserveError, match=r"hook post_fork \(not_there:x\): ModuleNotFoundError"
    ):
        looked_up(given, WORKER_HOOKS)


def test_the_configuration_has_gunicorns_names() -> None:
    cfg = Configuration(
        settings(
            bind=["127.0.0.1:80", "unix:/a"], workers="2:4", timeout="0", keep_alive="5", threads="2",
            name="shop", env=["A=b=c"], access_logfile="-", pid="p", log_level="debug",
        )
    )  # fmt: skip
    assert cfg.bind == ["127.0.0.1:80", str(parse_address("unix:/a"))]
    assert (cfg.workers, cfg.threads, cfg.timeout, cfg.keepalive) == (2, 2, 0, 5.0)
    assert cfg.control_socket_disable is False
    assert (cfg.proc_name, cfg.accesslog, cfg.errorlog, cfg.pidfile) == ("shop", "-", "-", "p")
    assert (cfg.loglevel, cfg.max_requests, cfg.preload_app) == ("debug", 0, False)
    assert (cfg.cert_reqs, cfg.is_ssl, cfg.worker_class_str) == (0, False, "gthread")
    assert cfg.env == {"A": "b=c"}
    assert cfg.worker_tmp_dir is None and cfg.reuse_port is None
    assert cfg.wsgi_app == "m:a"
    assert cfg.queue_timeout == 60.0  # ours
    with pytest.raises(AttributeError):
        cfg.no_such_setting  # noqa: B018


def test_the_configuration_has_its_settings_as_there_too() -> None:
    given = Configuration(settings(workers="3", preload=True)).settings
    assert (given["workers"].value, given["preload_app"].get(), given["spew"].value) == (
        3,
        True,
        None,
    )
    assert {*given} == {*ENTRIES}


def test_the_logs_are_attributes_of_the_log() -> None:
    log = Log()
    server = Server(log, settings())
    worker = Worker(server, 0, 1, settings())
    assert server.log is worker.log is log
    assert server.log.error_log is log
    assert worker.log.access_log is logging.getLogger("gunicorn.access")
    server.adopt(other := Log(), settings())
    assert server.log.error_log is other


def test_the_application_is_there_when_it_is_loaded() -> None:
    server = Server(Log(), settings(workers="3"))
    worker = Worker(server, 0, 1, settings(max_requests="7"))
    assert worker.app.callable is None and worker.max_requests == 7
    with pytest.raises(RuntimeError, match="not loaded yet: it is in post_worker_init"):
        worker.app.wsgi()
    worker.wsgi = print
    assert worker.app.callable is worker.app.wsgi() is print
    assert (worker.app.app_uri, server.app.app_uri, server.app.cfg.workers) == ("m:a", "m:a", 3)
    worker.notify()


def test_workers_have_an_age_and_an_end() -> None:
    server = Server(Log(), settings())
    first, second = (Worker(server, slot, 1, settings()) for slot in (0, 1))
    assert (first.age, second.age, server.worker_age) == (1, 2, 2)
    assert first.pid == "[booting]" and str(first) == "<Worker [booting]>"
    first.pid, second.pid = os.getpid(), 2**22 + 1  # which no process can have
    server.WORKERS = {first.pid: first, second.pid: second}
    server.forget_the_dead()
    assert [*server.WORKERS] == [os.getpid()]
    assert first.alive and not second.alive


def request(octets: bytes) -> tuple[Request, dict[str, Any]]:
    head = parse_head(octets, 0, Limits())
    assert head is not None
    environ: dict[str, Any] = {
        **head.fields, "wsgi.url_scheme": "http", "wsgi.input": None, "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "4711", "PATH_INFO": "x",
    }  # fmt: skip
    return Request(head, environ), environ


def test_a_request_as_hooks_know_it() -> None:
    req, _ = request(
        b"POST /a%20b?c=d HTTP/1.1\r\nHost: h\r\nX-Two-Words: 1\r\nContent-Type: t\r\n\r\n"
    )
    assert (req.method, req.uri, req.path, req.query) == ("POST", "/a%20b?c=d", "/a%20b", "c=d")
    assert (req.version, req.scheme, req.remote_addr) == ((1, 1), "http", ("192.0.2.1", "4711"))
    assert req.headers == [("HOST", "h"), ("X-TWO-WORDS", "1"), ("CONTENT-TYPE", "t")]
    assert req.changed() == {}
    req.began = 1  # type: ignore[attr-defined]


def test_fields_that_a_hook_appends_reach_the_application() -> None:
    req, _ = request(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert req.changed() == {}
    req.headers.append(("X-Added", "1"))
    assert req.changed() == {"HTTP_X_ADDED": "1"}


def test_a_scheme_that_a_hook_sets_is_the_applications() -> None:
    req, _ = request(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    req.scheme = "https"
    assert req.changed() == {"wsgi.url_scheme": "https", "HTTPS": "on"}


def test_a_response_as_hooks_know_it() -> None:
    encoder = ResponseEncoder("GET", 1, True)
    assert (Response(encoder).status, Response(encoder).status_code) == ("", 0)
    encoder.start("404 Not Here", [("A", "b")])
    encoder.only((b"", b"", b"", b""), b"12345")
    resp = Response(encoder)
    assert (resp.status, resp.status_code, resp.sent) == ("404 Not Here", 404, 5)
    assert (resp.headers, resp.response_length) == ([("A", "b")], None)
    encoder = ResponseEncoder("GET", 1, True)
    encoder.start("200 OK", [("Content-Length", "5")])
    assert Response(encoder).response_length == 5
