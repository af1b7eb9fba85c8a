"""Command lines and configuration files as Gunicorn's users have them: they start, unchanged but for
the word; and, so that tests listen on the loopback alone, for the addresses in them.

The lines are of public Procfiles, Dockerfiles, units and scripts; the files (tests/apps/gunicorn)
show patterns of public ones, in our own words.
"""

import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.command.harness import (
    PLAIN,
    Server,
    Tail,
    clean_environ,
    run,
    unix_client,
    wait_for_death,
)

FILES = Path(__file__).parents[1] / "apps" / "gunicorn"
Start = Callable[..., Server]

LINES = [
    "app:app",
    "app:server",
    "coffee.wsgi",
    "coffee.wsgi:application --log-file -",
    "app:app -b 0.0.0.0:$PORT --log-level=info",
    "-w 4 -b 0.0.0.0:$PORT app:app",
    "--workers=2 --threads=4 --bind=0.0.0.0:5000 run:app",
    "--bind :$PORT --workers 1 --threads 8 --timeout 0 main:app",
    "--bind :$PORT --log-file - --workers 1 --threads 8 worker.wsgi",
    "--bind 0.0.0.0 --timeout 600 --workers 2 app:app",
    'config.wsgi:application --preload --bind "0.0.0.0:${PORT:-8000}" --workers "${WEB_CONCURRENCY:-2}"',
    "'app:create_app()' -w 4 --log-level debug --timeout 5",
    "--worker-tmp-dir /dev/shm --workers=2 --threads=4 --worker-class=gthread --log-file=- --bind=0.0.0.0:8000 server:get_completion",
    "--bind 0.0.0.0:${PORT:-8000} --workers 2 --worker-class sync --worker-tmp-dir /dev/shm --max-requests 1000 "
    "--max-requests-jitter 50 --timeout 60 --access-logfile - --error-logfile - --log-level info config.wsgi:application",
    "--workers 3 --threads 3 --worker-class gthread --timeout 120 --max-requests 1000 --max-requests-jitter 50 "
    "--keep-alive 5 --bind 0.0.0.0:${PORT} --access-logfile - --error-logfile - --log-level info app:app",
    "shop.wsgi:application --bind 0.0.0.0:8000 --workers 2 --max-requests 500 --max-requests-jitter 50 "
    "--capture-output --enable-stdio-inheritance --access-logfile - --error-logfile - --log-level info",
    "-b 0.0.0.0:$PORT event.wsgi:application -w 1 -t 300 --preload --access-logfile access.log --capture-output "
    "--enable-stdio-inheritance --access-logformat '%({x-forwarded-for}i)s %(t)s %(l)s %(s)s \"%(r)s\" %(l)s %(a)s'",
    "--access-logfile - --workers 3 --bind unix:/run/gunicorn.sock shop.wsgi:application",
    "--workers 3 --bind unix:app.sock -m 007 wsgi:app",
    "config.wsgi:application --name shop --bind unix:run/shop.sock --workers ${GUNICORN_WORKERS:-2} --timeout 300 "
    "--graceful-timeout 30 --pid run.pid --access-logfile access.log --error-logfile error.log --log-level info",
    "--chdir site -w 2 -b 0.0.0.0:5000 api:app",
    "--chdir ui --worker-class gthread --workers 1 --threads 16 --timeout 120 --bind 0.0.0.0:$PORT app:app",
    "app:app -w 4 -k gthread --threads 8 -b 0.0.0.0:$PORT --timeout 0 --preload --worker-tmp-dir /dev/shm "
    "--access-logfile - --log-file - --max-requests 1000 --max-requests-jitter 50 --forwarded-allow-ips '*' "
    "--capture-output --enable-stdio-inheritance --reuse-port",
    "-w=2 -b=0.0.0.0:$PORT --threads=100 -t=90 -k=sync my-app:app",
    "shop.wsgi:application --config gunicorn.conf --log-file - --bind 0:8000",
    "\"shop:make(mode='rest', debug=False)\" -e PREFIX=/shop --max-requests-jitter 50 --limit-request-fields 32768",
    "-b 0.0.0.0:8000 --access-logfile '' --keep-alive 100000 --timeout 2592000 app:app",
    "main:app -e MODE=production -R --limit-request-line 0 --limit-request-field_size 0 --no-sendfile "
    "--max-requests 0 --max-requests-jitter 10 --log-level warn --proxy-protocol",
]  # fmt: skip
MODULES = re.compile(
    r"(?<![\w/-])([a-z][a-z-]*(?:\.wsgi|:[a-z_]+)(?::application)?(?:\([^()]*\))?)(?![\w/=.])"
)


def words(line: str) -> list[str]:
    """What a shell makes of it."""
    result = subprocess.run(
        ["sh", "-c", f"set -- {line}\nprintf '%s\\0' \"$@\""],
        env={**clean_environ(), "PORT": "0"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return result.stdout.split("\0")[:-1]


def site(place: Path, line: str) -> None:
    """The application that the line names."""
    found = MODULES.search(line)
    assert found is not None, line
    module, _, name = found[1].partition(":")
    name = name.partition("(")[0] or "application"
    chdir = re.search(r"--chdir (\w+)", line)
    file = (place / chdir[1] if chdir else place) / (module.replace(".", "/") + ".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    wanted = (
        f"def {name}(**given):\n    return application\n"
        if "(" in found[1]
        else f"{name} = application\n"
    )
    file.write_text(f"{PLAIN}\n{wanted}")
    (place / "run").mkdir(exist_ok=True)
    (place / "gunicorn.conf").write_text(
        "import os\n\nworkers = os.cpu_count() and 2\nkeepalive = 5\n"
    )


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_is_accepted_as_it_is(line: str, tmp_path: Path) -> None:
    site(tmp_path, line)
    result = run("--check-config", *words(line), cwd=tmp_path, env={"PORT": "0"})
    assert result.returncode == 0, result.stderr
    assert "the settings are sound" in result.stdout


def on_loopback(given: list[str], place: Path) -> tuple[list[str], Path | None]:
    """The words with an address on the loopback, and the socket file if it is one."""
    result, path, bound = [], None, False
    for word in given:
        before, address = "", word
        if word.startswith("--bind="):
            before, address = "--bind=", word.removeprefix("--bind=")
        if re.fullmatch(r"(0\.0\.0\.0)?(:\d+)?|:\d+", address):
            word, bound = f"{before}127.0.0.1:0", True
        elif address.startswith("unix:"):
            path = place / Path(address.removeprefix("unix:")).name
            word, bound = f"unix:{path}", True
        result.append(word)
    return (result if bound else [*result, "-b", "127.0.0.1:0"]), path


@pytest.mark.parametrize("line", LINES[:-1])
def test_a_command_line_starts(line: str, tmp_path: Path, start: Start) -> None:
    site(tmp_path, line)
    arguments, path = on_loopback(words(line), tmp_path)
    if "--error-logfile error.log" in line:
        arguments += ["--error-logfile", "-"]  # which is where the test listens
    server = start(*arguments, up=False, bind=None, cwd=tmp_path)
    found = server.wait_for(r"serves .* on (\S+)")
    if path is not None:
        with unix_client(path) as client:
            assert client.get() == (200, b"hello")
        return
    server.port = int(found[0][1].rpartition(":")[2])
    assert server.get() == (200, b"hello")


def test_each_needless_option_is_one_line(start: Start) -> None:
    server = start("-k", "sync", "--worker-tmp-dir", "/dev/shm", "--reuse-port", "-R", "plain")
    for option in (
        "--worker-class sync",
        "--worker-tmp-dir",
        "--reuse-port",
        "--enable-stdio-inheritance",
    ):
        assert (
            len(server.wait_for(f"^forkserve: {option} is not needed here, and does nothing")) == 1
        )


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["-k", "gevent"], "set --threads"),
        (["-k", "uvicorn.workers.UvicornWorker"], "serve an ASGI application with uvicorn"),
        (["--paste", "production.ini"], "paste.deploy.loadapp"),
        (["-D"], "let systemd or a container keep it"),
        (["--spew"], "python -m trace"),
        (["--protocol", "uwsgi"], "proxy_pass"),
        (["--header-map", "dangerous"], "hyphens"),
    ],
)
def test_what_is_refused_says_what_to_do(options: list[str], part: str) -> None:
    result = run(*options, "plain")
    assert result.returncode == 2
    assert part in result.stderr
    assert result.stderr.count("\n") == 2


# ---- configuration files


@pytest.fixture
def serve(start: Start, tmp_path: Path) -> Callable[..., Server]:
    """``serve("all_hooks")`` starts a server with that file."""

    def server(
        name: str, *arguments: str, env: dict[str, str] | None = None, **given: Any
    ) -> Server:
        return start(
            "-c", str(FILES / f"{name}.py"), *arguments, "plain",
            env={"STATE": str(tmp_path), **(env or {})}, bind=None, **given,
        )  # fmt: skip

    return server


Serve = Callable[..., Server]


@pytest.mark.parametrize(
    "name", ["all_hooks", "many_settings", "of_environment", "request_times", "log_filters"]
)
def test_a_configuration_file_starts(name: str, serve: Serve) -> None:
    server = serve(name)
    assert server.get() == (200, b"hello")
    server.reload(2)
    assert server.get() == (200, b"hello")
    assert server.stop() == 0


def test_hooks_are_called_in_order_with_what_they_expect(serve: Serve) -> None:
    server = serve("all_hooks", "-w", "1")
    assert server.get("/hello") == (200, b"hello")
    server.wait_for(r"hook post_request /hello 200 OK 5")
    server.reload(2)
    server.wait_for(r"hook child_exit")
    server.signal("TTIN")
    server.wait_for("hook nworkers_changed 2 1")
    server.wait_for(r"worker 1 gen 2 .*is ready")
    assert server.stop("INT") == 0
    said = [found[1] for line in server.lines if (found := re.search(r"\bhook (\w+)", line))]
    first = said.index("post_request")
    assert said[:first] == [
        "nworkers_changed", "on_starting", "when_ready", "pre_fork", "post_fork", "post_worker_init",
        "pre_request",
    ]  # fmt: skip
    assert said.index("on_reload") < said.index("pre_fork", first) < said.index("worker_exit")
    assert said.index("worker_exit") < said.index("child_exit")
    assert said.count("worker_int") == 2
    assert said[-1] == "on_exit"
    assert "hook on_exit 0" in server.log
    assert "hook pre_request GET /hello h" in server.log
    assert re.search(r"\[worker 0 gen 1 pid (\d+)\] hook post_fork \1 1\n", server.log)
    assert re.search(r"\[worker 0 gen 1 pid (\d+)\] hook worker_exit \1 1\n", server.log)


def test_the_files_of_dead_workers_are_removed(serve: Serve, tmp_path: Path) -> None:
    server = serve("dead_metrics")
    server.wait_for("is ready", count=2)
    metrics = tmp_path / "metrics"
    before = {f"counter_{pid}.db" for pid in server.workers()}
    assert {path.name for path in metrics.iterdir()} == before
    server.reload(2)
    server.wait_for("gen 1 .*has left", count=2)
    after = {path.name for path in metrics.iterdir()}
    assert after == {f"counter_{pid}.db" for pid in server.workers()}
    assert server.stop() == 0
    assert list(metrics.iterdir()) == []


def test_a_file_says_that_the_socket_listens(serve: Serve, tmp_path: Path) -> None:
    server = serve("heroku_nginx", up=False)
    server.wait_for("serves .* on unix:")
    assert (tmp_path / "app-initialized").exists()
    with unix_client(tmp_path / "nginx.socket") as client:
        assert client.get() == (200, b"hello")


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_numbers_that_are_given_before_the_fork_are_there_behind_it(
    serve: Serve, preload: tuple[str, ...]
) -> None:
    server = serve("worker_ids", *preload)
    found = server.wait_for(r"number (\d) is worker (\d+)", count=3)
    assert sorted(match[1] for match in found) == ["1", "2", "3"]
    assert {int(match[2]) for match in found} <= set(server.workers())
    server.reload(2)
    found = server.wait_for(r"number (\d) is worker (\d+)", count=6)[3:]
    assert len({match[1] for match in found}) == 3
    assert server.get("/environ?WORKER_NUMBER")[1].decode() in {match[1] for match in found}


def test_a_stuck_call_aborts(serve: Serve, start: Start, gate: Path) -> None:
    server = serve("stacks", errors=("has made no progress",))
    assert server.get(f"/wait?{gate}")[0] == 504
    server.wait_for("worker received SIGABRT signal")
    server.wait_for("thread MainThread")
    gate.write_text("")


def test_a_context_of_the_file_is_the_one_of_tls(serve: Serve, certificates: Certificates) -> None:
    env = {"CERTFILE": certificates.pem("server"), "KEYFILE": certificates.key("server")}
    server = serve("own_context", env=env)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", server.port)) as plain,
        context.wrap_socket(plain) as sock,
    ):
        assert sock.version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", server.port)) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


def test_with_preload_the_template_process_forks(serve: Serve) -> None:
    server = serve("preloaded")
    found = server.wait_for(r"forked by (\d+), which is not (\d+)", count=2)
    assert {pid for match in found for pid in match.groups()[:1]}.isdisjoint(
        match[2] for match in found
    )
    assert str(server.pid) not in {match[1] for match in found}
    assert len(server.wait_for("runs the tasks in the background")) == 1
    assert server.get() == (200, b"hello")


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_what_is_filtered_out_is_not_in_the_access_log(
    serve: Serve, preload: tuple[str, ...], tmp_path: Path
) -> None:
    server = serve("access_filters", *preload)
    server.wait_for(f"workers 2, preload {bool(preload)}")
    server.wait_for("serves application of plain", count=2)
    for path in ("/hello", "/cwd", "/environ?wsgi.url_scheme"):
        status, body = server.get(path)
    assert (status, body) == (200, b"https")
    assert server.stop() == 0
    (line,) = (tmp_path / "access.log").read_text().splitlines()
    assert re.fullmatch(r'      127.0.0.1 "GET /environ\?wsgi.url_scheme HTTP/1.1" 200 \d+', line)


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_a_table_of_the_file_is_where_lines_go(
    serve: Serve, preload: tuple[str, ...], tmp_path: Path
) -> None:
    server = serve("log_table", *preload)
    for path in ("/hello", "/cwd"):
        assert server.get(path)[0] == 200
    server.reload(2)
    assert server.get("/hello")[0] == 200
    assert server.stop() == 0
    line = 'INFO gunicorn.access 127.0.0.1 "GET /hello HTTP/1.1" 200\n'
    assert (tmp_path / "accesses").read_text() == 2 * line
    assert (tmp_path / "errors").read_text().count(" ready to serve\n") == 2


def test_a_file_that_takes_signals_for_itself_has_none(start: Start, tmp_path: Path) -> None:
    file = configured(
        tmp_path,
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: print('mine', file=sys.stderr))",
    )
    server = start("-c", str(file), "plain", bind=None)
    server.reload(2)
    assert server.get() == (200, b"hello")
    assert server.stop() == 0
    assert "mine" not in server.log


def test_filters_of_the_file_hold(serve: Serve) -> None:
    server = serve("log_filters")
    server.wait_for("filters are in place")
    server.wait_for(r"WARNING \[worker 0 gen 1 pid \d+\] said by a logger of its name")
    assert "noise" not in server.log


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_an_application_may_log_as_gunicorn_does(
    tmp_path: Path, start: Start, preload: tuple[str, ...]
) -> None:
    (tmp_path / "shop.py").write_text(
        f"{PLAIN}\nimport logging\ntheirs, own = map(logging.getLogger, ('gunicorn.error', 'shop'))\n"
        "own.handlers, own.propagate = theirs.handlers, False\nown.setLevel(theirs.level)\n"
        "def do_say(environ, start_response):\n    own.info('said')\n    return answer(start_response, b'')\n"
    )
    server = start(*preload, "shop", cwd=tmp_path)
    assert server.get("/say")[0] == 200
    server.wait_for(r"INFO \[worker 0 gen 1 pid \d+\] said$")


# ---- what breaks, and what is slow


def configured(place: Path, text: str) -> Path:
    file = place / "gunicorn.conf.py"
    file.write_text(f"bind = '127.0.0.1:0'\nboot_timeout = 1\n{text}\n")
    return file


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("raise ValueError('no database')", "ValueError: no database"),
        ("import os; os._exit(3)", "ended the process in which it was tried: exit status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "it was tried: SIGKILL"),
        ("import signal; signal.pause()", "did not come to its end within `boot_timeout` (0.5 s)"),
        ("worker_class = 'gevent'\nworkers = 'many'", "gunicorn.conf.py, workers: workers: 'many'"),
    ],
)
def test_a_broken_file_starts_nothing(tmp_path: Path, text: str, part: str) -> None:
    file = configured(tmp_path, text)
    result = run("-c", str(file), "plain", "--boot-timeout", "0.5")
    assert result.returncode in (1, 2)
    assert part in result.stderr, result.stderr
    assert "forkserve/" not in result.stderr


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("raise ValueError('no database')", "ValueError: no database"),
        ("import os; os._exit(3)", "ended the process in which it was tried"),
        (
            "import signal; signal.pause()",
            "did not come to its end within `boot_timeout` from --boot-timeout (5 s)",
        ),
        ("daemon = True", "it runs in the foreground"),
        ("def pre_fork(: pass", "SyntaxError"),
    ],
)
def test_a_file_that_breaks_is_a_refused_reload(
    tmp_path: Path, start: Start, text: str, part: str
) -> None:
    file = configured(tmp_path, "")
    server = start("-c", str(file), "--boot-timeout", "5", "plain", bind=None, errors=("HUP",))
    configured(tmp_path, text)
    server.signal("HUP")
    server.signal("USR1")
    server.wait_for("USR1: the log files are open anew")  # nothing waits for the child
    server.wait_for(re.escape(part))
    assert server.get("/generation") == (200, b"1")
    configured(tmp_path, "threads = 2")
    server.reload(2)
    assert server.stop() == 0


def test_a_process_that_the_file_leaves_behind_ends_nobody(
    tmp_path: Path, start: Start, gate: Path
) -> None:
    """It holds what the child would have said something on, and the child is gone."""
    file = configured(tmp_path, "")
    server = start("-c", str(file), "--boot-timeout", "5", "plain", bind=None, errors=("HUP",))
    behind = f"import os\nif os.fork(): os._exit(3)\nopen({str(gate)!r}).read()\nos._exit(0)"
    configured(tmp_path, behind)
    server.signal("HUP")
    server.wait_for("ended the process in which it was tried")
    gate.write_text("")
    assert server.get("/generation") == (200, b"1")
    configured(tmp_path, "threads = 2")
    server.reload(2)
    assert server.stop() == 0


def test_a_stop_does_not_wait_for_the_file(tmp_path: Path, start: Start) -> None:
    file = configured(tmp_path, "")
    server = start("-c", str(file), "plain", bind=None)
    configured(tmp_path, "import signal; signal.pause()")
    server.signal("HUP")
    server.wait_for("HUP: loading generation 2")
    assert server.stop() == 0


_FORKING = """
import os, sys
def fork():
    pid = os.fork()
    if pid == 0:
        {end}
    os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("end", ["sys.exit(0)", "return", "raise KeyError('of a child')"])
def test_a_child_that_a_hook_forks_is_no_second_server(
    tmp_path: Path, start: Start, end: str
) -> None:
    hooks = "".join(
        f"def {name}(*arguments): fork()\n"
        for name in ("on_starting", "on_reload", "pre_fork", "post_fork", "pre_request")
    )
    file = configured(tmp_path, _FORKING.format(end=end) + hooks)
    server = start("-c", str(file), "plain", bind=None)
    server.reload(2)
    assert server.get() == (200, b"hello")
    assert server.stop() == 0
    assert set(re.findall(r"\[master pid (\d+)\]", server.log)) == {str(server.pid)}


def test_a_child_that_the_file_forks_is_no_second_server(tmp_path: Path, start: Start) -> None:
    file = configured(tmp_path, "")
    server = start("-c", str(file), "plain", bind=None)
    configured(tmp_path, _FORKING.format(end="sys.exit(0)") + "fork()")
    server.reload(2)
    assert server.stop() == 0
    assert set(re.findall(r"\[master pid (\d+)\]", server.log)) == {str(server.pid)}


@pytest.mark.parametrize("error", ["SystemExit(0)", "KeyboardInterrupt"])
def test_a_hook_of_tls_that_ends_the_process_is_a_refused_reload(
    tmp_path: Path, start: Start, certificates: Certificates, error: str
) -> None:
    tls = f"certfile = {certificates.pem('server')!r}\nkeyfile = {certificates.key('server')!r}\n"
    file = configured(tmp_path, tls)
    server = start("-c", str(file), "plain", up=False, bind=None, errors=("HUP",))
    server.wait_for("is ready")
    configured(tmp_path, f"{tls}def ssl_context(config, make): raise {error}")
    server.signal("HUP")
    server.wait_for(f"HUP: .*{error.partition('(')[0]}")
    configured(tmp_path, tls)
    server.signal("HUP")
    server.wait_for("reloaded, generation")
    assert server.stop() == 0


def test_what_hooks_raise_is_logged_and_nothing_ends(tmp_path: Path, start: Start) -> None:
    names = (
        "when_ready(server)", "on_reload(server)", "pre_fork(server, worker)", "post_fork(server, worker)",
        "post_worker_init(worker)", "pre_request(worker, req)", "post_request(worker, req, environ, resp)",
        "child_exit(server, worker)", "worker_exit(server, worker)", "on_exit(server)", "worker_int(worker)",
        "nworkers_changed(server, new_value, old_value)",
    )  # fmt: skip
    file = configured(
        tmp_path, "".join(f"def {name}: raise KeyError('of a hook')\n" for name in names)
    )
    server = start("-c", str(file), "plain", bind=None, errors=("the hook",))
    assert server.get() == (200, b"hello")
    server.reload(2)
    assert server.get() == (200, b"hello")
    server.wait_for("has left")
    assert server.stop("INT") == 0
    for name in names:
        hook = name.partition("(")[0]
        assert (
            f"the hook {hook} (gunicorn.conf.py:{hook}) raised KeyError: 'of a hook'" in server.log
        )
    assert "forkserve/" not in server.log


def test_a_hook_can_refuse_the_start(tmp_path: Path) -> None:
    path, status = tmp_path / "socket", tmp_path / "status"
    file = configured(tmp_path, "def on_starting(server): raise OSError('the disk is not there')")
    result = run("-c", str(file), "-b", f"unix:{path}", "--status", f"unix:{status}", "plain")
    assert result.returncode == 1
    assert "OSError: the disk is not there" in result.stderr
    assert "(gunicorn.conf.py:on_starting) raised, and the log says what" in result.stderr
    assert not path.exists() and not status.exists()


def test_a_slow_hook_of_the_master_is_named(tmp_path: Path, start: Start) -> None:
    text = "import select\ndef when_ready(server): select.select([], [], [], 0.3)"
    server = start("-c", str(configured(tmp_path, text)), "plain", bind=None)
    server.wait_for(r"WARNING .*the hook when_ready .* took 0\.3\d s")


def test_hooks_of_toml_are_read_anew(tmp_path: Path, start: Start) -> None:
    (tmp_path / "shop.py").write_text(PLAIN)
    hooks, file = tmp_path / "hooks.py", tmp_path / "f.toml"
    hooks.write_text("def when_ready(server):\n    server.log.info('the first')\n")
    file.write_text('bind = "127.0.0.1:0"\nwhen_ready = "hooks:when_ready"\n')
    server = start("-c", str(file), "shop", bind=None, cwd=tmp_path, errors=("HUP",))
    server.wait_for("the first")
    hooks.write_text(
        "def on_reload(server):\n    server.log.info('the second')\ndef early(server, worker): pass\n"
        "def when_ready(server): pass\ndef begun(worker):\n    worker.log.info('begun')\n"
    )
    with file.open("a") as more:
        more.write(
            'on_reload = "hooks:on_reload"\npost_fork = "hooks:early"\npost_worker_init = "hooks:begun"\n'
        )
    server.reload(2)
    server.wait_for("the second")
    server.wait_for("worker 0 gen 2 .*begun")
    hooks.write_text("")
    server.signal("HUP")
    server.wait_for("the hook on_reload: there is no function 'on_reload' in the module hooks")
    assert server.get("/generation") == (200, b"2")


def test_what_the_application_prints_goes_to_the_log(tmp_path: Path, start: Start) -> None:
    (tmp_path / "shop.py").write_text(f"print('imported')\n{PLAIN}\ndef do_say(environ, start_response):\n"
                                      "    print('said')\n    return answer(start_response, b'')\n")  # fmt: skip
    log, moved = tmp_path / "log", tmp_path / "log.1"
    options = ("--capture-output", "--error-logfile", str(log), "--access-logfile", "-")
    with (tmp_path / "out").open("w") as out:
        server = Server("-b", f"unix:{tmp_path}/s", *options, "shop", cwd=tmp_path, stdout=out)
        with Tail(log) as lines:
            lines.wait_for("is ready")
            log.rename(moved)
            server.signal("USR1")
        with Tail(log) as lines:
            lines.wait_for("USR1: the log files are open anew")
            with unix_client(tmp_path / "s") as client:
                assert client.get("/pid")[0] == 200
                assert client.get("/say")[0] == 200
            lines.wait_for("^said$")
            assert server.stop() == 0
    assert "imported\n" in moved.read_text()
    assert '"GET /say HTTP/1.1" 200' in (tmp_path / "out").read_text()


def test_what_the_template_process_prints_goes_to_the_log_that_was_opened_anew(
    tmp_path: Path, start: Start
) -> None:
    log = tmp_path / "log"
    file = configured(tmp_path, f"def pre_fork(server, worker): print('a worker')\n"
                                f"errorlog = {str(log)!r}\ncapture_output = preload_app = True")  # fmt: skip
    server = start("-c", str(file), "plain", bind=None, up=False)
    with Tail(log) as lines:
        lines.wait_for("worker 0 .*is ready")
        log.rename(tmp_path / "log.1")
        server.signal("USR1")
    with Tail(log) as lines:
        lines.wait_for("USR1: the log files are open anew")
        server.signal("TTIN")
        lines.wait_for("^a worker$")
    assert server.stop() == 0


def test_gunicorns_surroundings_are_read_if_asked_for(tmp_path: Path, start: Start) -> None:
    (tmp_path / "shop.py").write_text(PLAIN)
    configured(tmp_path, "threads = 2\nwsgi_app = 'shop'")
    variables = {"GUNICORN_CMD_ARGS": "--workers 2 -n shop --worker-tmp-dir /dev/shm"}
    server = start("--gunicorn-env", bind=None, cwd=tmp_path, env=variables)
    assert server.get() == (200, b"hello")
    server.wait_for("serves shop on .* with 2 workers")
    server.wait_for("forkserve: GUNICORN_CMD_ARGS --worker-tmp-dir is not needed here")
    result = run("--check-config", "shop", cwd=tmp_path, env=variables)
    assert "GUNICORN_CMD_ARGS is set, and is not read" in result.stderr
    assert "gunicorn.conf.py is here, and is not read" in result.stderr


def test_an_upgrade_is_told_to_the_hook_first(serve: Serve) -> None:
    server = serve("all_hooks", "-w", "1")
    server.signal("USR2")
    server.wait_for(f"hook pre_exec {server.pid}")
    server.wait_for("USR2: process .* serves now")
    new = int(server.wait_for(r"USR2: process (\d+) serves now")[0][1])
    assert server.wait() == 0
    assert server.get() == (200, b"hello")
    os.kill(new, signal.SIGTERM)
    assert wait_for_death(new)


def test_the_status_process_is_no_worker_of_the_hooks(serve: Serve) -> None:
    server = serve("all_hooks", "-w", "1", "--status", "127.0.0.1:0")
    server.wait_for("the status page is on")
    assert server.get() == (200, b"hello")
    assert server.stop() == 0
    assert len(re.findall(r"hook post_fork", server.log)) == 1
    assert len(re.findall(r"hook worker_exit", server.log)) == 1
    assert len(re.findall(r"hook pre_request", server.log)) == 1
