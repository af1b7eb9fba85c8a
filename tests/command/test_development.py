"""--reload and --debugger: what a developer sees who saves a file."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkserve.net.listeners import clipped_backlog
from tests.command import harness
from tests.command.harness import Client, Lines, Server, children, clean_environ, descriptors, run
from tests.conftest import need_module

Start = Callable[..., Server]

HTML = "Accept: text/html,*/*;q=0.8\r\n"
SHOP = """
import {imports}

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    return [{answer}]
"""
REFUSED = ("reload refused",)


def save(app: Path, answer: str = 'b"one"', imports: str = "os") -> None:
    """As an editor does it that replaces the file."""
    (app / "new").write_text(SHOP.format(answer=answer, imports=imports))
    (app / "new").rename(app / "shop.py")


@pytest.fixture(params=["poll", "inotify"])
def engine(request: pytest.FixtureRequest) -> str:
    if request.param == "inotify":
        need_module("watchfiles")
    return str(request.param)


def develop(
    start: Start, app: Path, *options: str, errors: tuple[str, ...] = (), **popen: Any
) -> Server:
    """A server with --reload, whose watcher has begun."""
    server = start("--reload", *options, "shop", cwd=app, errors=errors, **popen)
    server.wait_for(r"\[watcher pid \d+\] watching \d+ files in")
    return server


def html(server: Server) -> str:
    with server.connect() as client:
        status, body = client.get("/", HTML)
    assert status == 500
    return body.decode()


def poll_for(path: Path) -> None:
    """Wait for a file."""
    subprocess.run(["sh", "-c", 'until [ -e "$0" ]; do sleep 0.02; done', path], check=True)


def reloaded(server: Server, count: int = 1) -> None:
    server.wait_for(r"has changed: reloaded, generation \d+ serves", count=count)


# ---- sound code


def test_a_warning_is_not_repeated_at_each_save(start: Start, app: Path) -> None:
    if clipped_backlog(65535) is None:
        pytest.skip("the kernel of this machine allows the longest backlog")
    save(app)
    server = develop(start, app, "--backlog", "65535")
    for number in (1, 2):
        save(app, f'b"{number}"')
        reloaded(server, count=number)
    server.stop()
    assert server.log.count("net.core.somaxconn") == 1


@pytest.mark.parametrize("options", [(), ("-w", "3"), ("--preload",)], ids=" ".join)
def test_what_is_saved_is_served(
    start: Start, app: Path, engine: str, options: tuple[str, ...]
) -> None:
    save(app)
    server = develop(start, app, "--reload-engine", engine, *options)
    server.wait_for(rf"watching \d+ files in {re.escape(str(app))} .*\({engine}\)$")
    assert server.get() == (200, b"one")
    save(app, 'b"two"')
    server.wait_for("INFO .* shop.py has changed: loading generation 2$")
    reloaded(server)
    assert server.get() == (200, b"two")


def test_a_repair_is_served_within_a_second(start: Start, app: Path, engine: str) -> None:
    """The best of a few: the machine may do something else, too."""
    save(app)
    server = develop(start, app, "--reload-engine", engine, errors=REFUSED)
    seconds = []
    for number in range(4):
        save(app, "oops(")
        server.wait_for("reload refused", count=number + 1)
        save(app, f'b"{number}"')
        began = time.monotonic()
        server.wait_for(r"has changed: reloaded, generation \d+ serves", count=number + 1)
        seconds.append(time.monotonic() - began)
        assert server.get() == (200, b"%d" % number)
    assert min(seconds) < 1.0, seconds


def test_a_package_that_is_new_is_watched(start: Start, app: Path, engine: str) -> None:
    save(app)
    server = develop(start, app, "--reload-engine", engine)
    (app / "goods").mkdir()
    (app / "goods" / "__init__.py").write_text("name = b'apple'\n")
    reloaded(server)
    save(app, "goods.name", "goods")
    reloaded(server, 2)
    assert server.get() == (200, b"apple")
    (app / "goods" / "__init__.py").write_text("name = b'pear'\n")
    server.wait_for(r"goods/__init__.py has changed: reloaded")
    reloaded(
        server, 4 if len(server.wait_for("goods/__init__.py has changed: reloaded")) > 1 else 3
    )
    assert server.get() == (200, b"pear")


def test_templates_and_env_are_watched_on_request(start: Start, app: Path, engine: str) -> None:
    (app / "templates" / "mail").mkdir(parents=True)
    (app / "templates" / "page.html").write_text("a")
    (app / ".env").write_text("A=1")
    save(app, "open('templates/page.html', 'rb').read() + open('.env', 'rb').read()")
    server = develop(
        start, app, "--reload-engine", engine, "--reload-extra", "templates/**/*.html",
        "--reload-extra-file", ".env", "--reload-extra", "made_later/*.yaml",
    )  # fmt: skip
    (app / "templates" / "ignored.txt").write_text("nobody asked")
    (app / "templates" / "page.html").write_text("b")
    server.wait_for("templates/page.html has changed: reloaded, generation 2")
    (app / ".env").write_text("A=22")
    server.wait_for(" .env has changed: reloaded, generation 3")
    assert server.get() == (200, b"bA=22")
    (app / "templates" / "mail" / "new.html").write_text("c")
    server.wait_for("templates/mail/new.html has changed: reloaded, generation 4")
    (app / "made_later").mkdir()
    (app / "made_later" / "x.yaml").write_text("c")
    server.wait_for("made_later/x.yaml has changed: reloaded, generation 5")
    assert "ignored.txt" not in server.log


def test_modules_from_elsewhere_are_watched(
    start: Start, app: Path, tmp_path: Path, engine: str
) -> None:
    """Found by a path that only the application knows."""
    elsewhere = tmp_path / ".elsewhere"
    elsewhere.mkdir()
    (elsewhere / "prices.py").write_text("price = b'1'\n")
    save(app, "prices.price", f"sys; sys.path.append({str(elsewhere)!r}); import prices")
    server = develop(start, app, "--reload-engine", engine)
    server.wait_for("heard of \\d+ modules")
    assert server.get() == (200, b"1")
    for generation, price in enumerate((b"20", b"300"), 2):
        (elsewhere / "prices.py").write_text(f"price = {price!r}\n")
        server.wait_for(rf"\.elsewhere/prices.py has changed: reloaded, generation {generation} ")
        assert server.get() == (200, price)


def test_a_save_in_the_same_second_and_of_the_same_length(start: Start, app: Path) -> None:
    """Python would take the bytecode of the first for that of the second."""
    save(app)
    server = start("--reload", "shop", cwd=app, env={"PYTHONDONTWRITEBYTECODE": ""})
    server.wait_for(r"watching \d+ files in")
    now = os.stat(app / "shop.py").st_mtime
    for number, answer in enumerate(("two", "six", "ten"), 2):
        (app / "new").write_text(SHOP.format(answer=f'b"{answer}"', imports="os"))
        os.utime(app / "new", (now, now))
        (app / "new").rename(app / "shop.py")
        server.wait_for(f"reloaded, generation {number} ")
        assert server.get() == (200, answer.encode())
        assert list((app / "__pycache__").glob("shop.*.pyc"))


def test_the_configuration_file_is_watched_too(start: Start, app: Path) -> None:
    config = app / "f.toml"
    config.write_text('app = "shop"\nreload = true\n')
    save(app)
    server = start("-c", str(config), cwd=app)
    server.wait_for(r"watching \d+ files in")
    config.write_text('app = "shop"\nreload = true\nreload_extra = ["*.html"]\n')
    server.wait_for("f.toml has changed: reloaded, generation 2")
    server.wait_for(r"watching \d+ files in", count=2)
    (app / "a.html").write_text("x")
    server.wait_for("a.html has changed: reloaded, generation 3")


# ---- code that does not load


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
@pytest.mark.parametrize(
    ("answer", "imports", "what", "line"),
    [
        ('b"<two>', "os", "SyntaxError: unterminated string literal", '> 6 |     return [b"<two>]'),
        ('b"two"', "nowhere", "ModuleNotFoundError: No module named 'nowhere'", "> 2 | import nowhere"),
        ('b"two"', "os; 1 / 0", "ZeroDivisionError", "> 2 | import os; 1 / 0"),
        ('b"two"', "os; raise SystemExit('no')", "SystemExit: no", "> 2 | import os; raise SystemExit('no')"),
    ],
    ids=["syntax", "import", "exception", "exit"],
)  # fmt: skip
def test_broken_code_is_shown_and_the_old_code_serves(
    start: Start,
    app: Path,
    preload: tuple[str, ...],
    answer: str,
    imports: str,
    what: str,
    line: str,
) -> None:
    save(app)
    server = develop(start, app, *preload, errors=REFUSED)
    save(app, answer, imports)
    server.wait_for(
        "ERROR .* shop.py has changed: reload refused, generation 1 goes on serving unchanged; repair it, and save it.$"
    )
    server.wait_for(f"    cannot load 'shop' .*: importing 'shop' failed: {re.escape(what)}")
    server.wait_for(r"    shop.py, line \d+:$")
    server.wait_for(re.escape(line))
    page = html(server)
    assert what.split("'")[0] in page
    assert '<span class="mark">' in page
    assert "Show what the old code answers" in page
    assert "<two>" not in page  # it is escaped
    assert server.get() == (200, b"one")
    save(app, 'b"three"')
    reloaded(server)
    with server.connect() as client:
        assert client.get("/", HTML) == (200, b"three")


def test_settings_that_are_broken_are_shown_too(start: Start, app: Path) -> None:
    config = app / "f.toml"
    config.write_text('app = "shop"\nreload = true\n')
    save(app)
    server = start("-c", str(config), cwd=app, errors=REFUSED)
    server.wait_for(r"watching \d+ files in")
    config.write_text('app = "shop"\nreload = true\nworkers = "many"\n')
    server.wait_for("f.toml has changed: reload refused")
    assert "workers" in html(server)
    config.write_text('app = "shop"\nreload = true\n')
    reloaded(server)
    with server.connect() as client:
        assert client.get("/", HTML) == (200, b"one")


@pytest.mark.parametrize("options", [(), ("-w", "3"), ("--preload", "-w", "2")], ids=" ".join)
def test_broken_code_at_the_start_is_waited_for(
    start: Start, app: Path, options: tuple[str, ...]
) -> None:
    save(app, "oops(")
    server = develop(start, app, *options, errors=("does not load", *REFUSED))
    server.wait_for("ERROR .* the application does not load, and every request is told why")
    assert len(server.wait_for("shop.py, line 6:")) == 1
    status, body = server.get()
    assert status == 500
    assert body.startswith(b"The code does not load.\n\ncannot load 'shop' (`app`")
    assert b"importing 'shop' failed: SyntaxError" in body
    page = html(server)
    assert "oops(" in page and "old code" not in page
    save(app, "oops")
    reloaded(server)  # it loads, and fails when it is called
    save(app, "oops(", "nowhere")
    server.wait_for("generation 2 goes on serving unchanged")
    save(app, 'b"good"')
    reloaded(server, 2)
    assert server.get() == (200, b"good")


@pytest.mark.parametrize("options", [(), ("-w", "2"), ("--preload",)], ids=" ".join)
@pytest.mark.parametrize("end", ["os._exit(5)", "os.kill(os.getpid(), 9)"])
def test_code_that_ends_its_process_at_the_start_is_waited_for(
    start: Start, app: Path, options: tuple[str, ...], end: str
) -> None:
    save(app, 'b"one"', f"os; {end}")
    server = develop(start, app, *options, errors=("could not boot", *REFUSED))
    status, body = server.get()
    assert status == 500
    assert re.search(b"It ended with (exit status 5|SIGKILL) before it was ready", body)
    save(app, 'b"two"', f"sys, os; {end}")
    server.wait_for("reload refused, generation 1 goes on")
    save(app, 'b"three"')
    reloaded(server)
    assert server.get() == (200, b"three")


def test_what_is_broken_otherwise_at_the_start(start: Start, app: Path) -> None:
    save(app, "oops(")
    server = develop(start, app, errors=("does not load", *REFUSED))
    save(app, "oops(", "nowhere")
    server.wait_for("reload refused, generation 1 goes on serving")
    status, body = server.get()
    assert status == 500
    assert b"oops(" in body  # the file is parsed before anything in it is imported
    save(app, 'b"good"', "nowhere")
    server.wait_for("No module named 'nowhere'")
    assert b"nowhere" in server.get()[1]
    save(app, 'b"good"')
    reloaded(server)
    assert server.get() == (200, b"good")


def test_a_dead_worker_is_no_reason_to_forget_the_old_code(start: Start, app: Path) -> None:
    """Of two workers one dies while the code is broken: it cannot boot, and the other serves."""
    save(app)
    server = develop(start, app, "-w", "2", errors=("could not boot", "died", *REFUSED))
    server.wait_for("is ready", count=2)
    save(app, "oops(")
    server.wait_for("reload refused")
    os.kill(int(server.wait_for(r"worker 1 gen 1 \(pid (\d+)\) is ready")[0][1]), signal.SIGKILL)
    server.wait_for("worker 1 gen 1 .* could not boot")
    assert {server.get() for _ in range(5)} == {(200, b"one")}
    save(app, 'b"two"')
    reloaded(server)
    assert {server.get() for _ in range(5)} == {(200, b"two")}


@pytest.mark.parametrize("options", [(), ("-w", "2", "--preload")], ids=" ".join)
def test_code_that_hangs_is_not_waited_for_when_the_repair_is_saved(
    start: Start, app: Path, options: tuple[str, ...]
) -> None:
    save(app)
    server = develop(start, app, *options)
    save(app, 'b"two"', "os; open('begun', 'w').close(); import time; time.sleep(600)")
    server.wait_for("shop.py has changed: loading generation 2")
    poll_for(app / "begun")
    save(app, 'b"three"')
    reloaded(server)
    assert server.get() == (200, b"three")


def test_the_person_can_go_on_with_the_old_code(start: Start, app: Path) -> None:
    save(app)
    server = develop(start, app, errors=REFUSED)

    def ask(number: str, headers: str) -> tuple[int, bytes]:
        with server.connect() as client:
            return client.get("/", f"{HTML}{headers.format(number)}\r\n")

    save(app, "oops(")
    server.wait_for("reload refused")
    first = re.search('data-notice="([0-9]+)"', html(server))
    assert first is not None
    assert ask(first[1], "Cookie: a=b; forkserve_notice={}") == (200, b"one")
    assert ask(first[1], "Sec-Fetch-Dest: empty") == (200, b"one")
    assert ask(first[1], "Sec-Fetch-Dest: document")[0] == 500
    assert ask(first[1], "X-Forkserve-Notice: {}") == (204, b"")
    save(app, "oops((")
    server.wait_for("reload refused", count=2)
    assert ask(first[1], "Cookie: a=b; forkserve_notice={}")[0] == 500
    assert ask(first[1], "X-Forkserve-Notice: {}") == (200, b"")
    save(app)
    reloaded(server)
    assert ask(first[1], "X-Forkserve-Notice: {}") == (200, b"")


def test_the_page_in_a_browser(start: Start, app: Path, browse: Callable[[str], None]) -> None:
    """It shows the error, then the next one, and then, by itself, the application."""
    save(app, "b'<script>fetch(\"/loaded\")</script>'")
    server = develop(start, app, "--access-logfile", str(app / "access"), errors=REFUSED)
    save(app, "oops(")
    server.wait_for("reload refused")
    with harness.Tail(app / "access") as access:
        browse(f"{server.url}/page")
        access.wait_for('"GET /page HTTP/1.1" 500')
        access.wait_for('"GET /page HTTP/1.1" 204', count=2)
        save(app, "oops((")
        access.wait_for('"GET /page HTTP/1.1" 500', count=2)
        save(app, "b'<script>fetch(\"/loaded\")</script>'")
        access.wait_for('"GET /loaded HTTP/1.1" 200')


# ---- processes


def test_ctrl_c_ends_everything_without_a_word_of_python(app: Path) -> None:
    """In a terminal of its own, with requests in it."""
    save(app, "__import__('time').sleep(60)")
    terminal = subprocess.Popen(
        [sys.executable, "-c", f"import pty; pty.spawn({[harness.COMMAND, '-b', '127.0.0.1:0', '--reload', '-w', '2', 'shop']!r})"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=app, env=clean_environ(), text=True,
    )  # fmt: skip
    assert terminal.stdin is not None and terminal.stdout is not None
    lines = Lines(terminal.stdout)
    port = int(lines.wait_for(r"serves shop on http://127.0.0.1:(\d+) ")[0][1])
    lines.wait_for(r"watching \d+ files in")
    master = children(terminal.pid)[0]
    pids = [master, *children(master)]
    assert len(pids) == 4
    with socket.create_connection(("127.0.0.1", port)) as sock:
        Client(sock).send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        terminal.stdin.write("\x03")
        terminal.stdin.flush()
        assert all(harness.wait_for_death(pid) for pid in pids)
    terminal.stdin.close()
    assert terminal.wait(harness.WAIT) == 0
    lines.wait_for("stopped")
    assert "Traceback" not in lines.log and "KeyboardInterrupt" not in lines.log


def test_the_watcher_dies_with_the_master(app: Path) -> None:
    save(app)
    server = Server("-b", "127.0.0.1:0", "--reload", "shop", cwd=app).up()
    server.wait_for(r"watching \d+ files in")
    pids = children(server.pid)
    server.process.kill()
    server.wait()
    assert all(harness.wait_for_death(pid) for pid in pids)


def test_a_watcher_that_dies_is_replaced(start: Start, app: Path) -> None:
    save(app)
    server = develop(start, app)
    pid = int(server.wait_for(r"\[watcher pid (\d+)\]")[0][1])
    assert not [name for name in descriptors(pid) if name == "socket:[N]"][1:]  # but its channel
    os.kill(pid, signal.SIGKILL)
    server.wait_for(
        rf"WARNING .* the watcher \(pid {pid}\) died: SIGKILL. A new one takes its place"
    )
    server.wait_for(r"watching \d+ files in", count=2)
    save(app, 'b"two"')
    reloaded(server)
    assert server.get() == (200, b"two")


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ("sys.modules['watchfiles'] = None", "watchfiles, which `reload_engine` inotify needs, is not installed"),
        ("os.environ['INOTIFY'] = 'none'", "the kernel cannot tell of changes (OSError: limit)"),
    ],
)  # fmt: skip
def test_without_the_kernel_it_looks(start: Start, app: Path, body: str, warning: str) -> None:
    need_module("watchfiles")
    save(app)
    (app / "lib").mkdir()
    (app / "lib" / "sitecustomize.py").write_text(f"import os, sys\n{body}\n")
    (app / "lib" / "watchfiles.py").write_text(
        "def watch(*paths, **options):\n    raise OSError('limit')\n    yield\n"
    )
    server = develop(
        start, app, "--reload-engine", "inotify", env={"PYTHONPATH": str(app / "lib")}
    )  # fmt: skip
    server.wait_for("WARNING .*" + re.escape(warning))
    save(app, 'b"two"')
    reloaded(server)
    assert server.get() == (200, b"two")


def test_after_an_upgrade_the_new_server_watches(start: Start, app: Path) -> None:
    save(app)
    server = develop(start, app, "--pid", str(app / "pid"))
    server.signal("USR2")
    server.wait_for(r"watching \d+ files in", count=2)
    server.wait_for(r"\[master pid \d+\] stopped")
    try:
        save(app, 'b"two"')
        server.wait_for("shop.py has changed: reloaded, generation 2 serves")
        assert len(server.wait_for("has changed: loading")) == 1
        assert server.get() == (200, b"two")
    finally:
        new = int((app / "pid").read_text())
        os.kill(new, signal.SIGINT)
        assert harness.wait_for_death(new)


def test_a_watcher_that_cannot_begin_says_so(start: Start, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    save(place)
    server = develop(start, place, errors=("nothing is watched", *REFUSED))
    shutil.rmtree(place)
    os.kill(int(server.wait_for(r"\[watcher pid (\d+)\]")[0][1]), signal.SIGKILL)
    server.wait_for(
        "ERROR .* nothing is watched: FileNotFoundError.* Saving a file does nothing now"
    )
    assert server.get() == (200, b"one")


def test_a_hup_reloads_as_ever(start: Start, app: Path) -> None:
    save(app)
    server = develop(start, app)
    server.reload(2)
    server.wait_for("HUP: reloaded, generation 2")


def test_a_server_without_reload_has_no_watcher(start: Start, app: Path) -> None:
    save(app)
    server = start("shop", cwd=app)
    assert len(server.workers()) == 1
    save(app, "oops(")
    assert server.get() == (200, b"one")


def test_reload_on_a_public_address_warns(start: Start, app: Path) -> None:
    save(app)
    server = start("-b", "0.0.0.0:0", "--reload", "shop", cwd=app)
    server.wait_for(
        "WARNING .* `reload` .*is on, and http://0.0.0.0:.* can be reached from other machines"
    )


# ---- the debugger


def test_the_debugger_shows_frames(start: Start, app: Path) -> None:
    need_module("werkzeug")
    save(app, "1 / 0")
    server = start("--debugger", "shop", cwd=app, env={"WERKZEUG_DEBUG_PIN": "123-456-789"})
    server.wait_for("INFO .* the debugger's PIN is 123-456-789")
    with server.connect() as client:
        client.send(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        response = client.response()
        page = response.content.decode()  # type: ignore[attr-defined]
        assert response.status == 500
        assert "ZeroDivisionError" in page
        secret = re.search('SECRET = "(.+)"', page)
        frame = re.findall(r'id="frame-(\d+)"', page)[-1]
        assert secret is not None
        query = f"?__debugger__=yes&s={secret[1]}"
        client.send(
            f"GET /{query}&cmd=pinauth&pin=123-456-789 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n".encode()
        )
        response = client.response()
        assert b'"auth": true' in response.content  # type: ignore[attr-defined]
        cookie = (response.getheader("Set-Cookie") or "").partition(";")[0]
        client.send(
            f"GET /{query}&cmd=7*6&frm={frame} HTTP/1.1\r\nHost: 127.0.0.1:1\r\nCookie: {cookie}\r\n\r\n".encode()
        )
        assert b"42" in client.response().content  # type: ignore[attr-defined]


def test_the_debugger_is_not_for_a_name_that_has_come_to_point_here(
    start: Start, app: Path
) -> None:
    """A page of evil.example, whose name is 127.0.0.1 by now, is of one origin with this server for
    the browser, and may send any field."""
    need_module("werkzeug")
    save(app, "1 / 0")
    server = start("--debugger", "shop", cwd=app, env={"WERKZEUG_DEBUG_PIN": "off"})
    with server.connect() as client:
        said = b"Host: evil.example\r\nX-Forwarded-Host: localhost\r\n"
        client.send(b"GET / HTTP/1.1\r\n" + said + b"\r\n")
        page = client.response().content.decode()  # type: ignore[attr-defined]
        secret = re.search('SECRET = "(.+)"', page)
        frame = re.findall(r'id="frame-(\d+)"', page)[-1]
        assert secret is not None
        query = f"?__debugger__=yes&s={secret[1]}&cmd=7*6&frm={frame}"
        client.send(f"GET /{query} HTTP/1.1\r\n".encode() + said + b"\r\n")
        response = client.response()
        assert response.status == 400
        assert b"42" not in response.content  # type: ignore[attr-defined]


def test_the_debugger_and_flask(start: Start, app: Path) -> None:
    need_module("flask")
    (app / "shop.py").write_text(
        "from flask import Flask\napp = Flask(__name__)\n"
        "@app.get('/')\ndef home():\n    secret = 6 * 7\n    return 1 / 0\n"
    )
    server = start("--debugger", "-e", "FLASK_DEBUG=1", "shop", cwd=app)
    page = html(server)
    assert "ZeroDivisionError" in page and "in home" in page.replace("<", " ").replace("\n", " ")
    server.wait_for("ZeroDivisionError: division by zero")  # and the log has it


def test_the_debugger_goes_with_reload(start: Start, app: Path) -> None:
    need_module("werkzeug")
    save(app, "1 / 0")
    server = develop(start, app, "--debugger", errors=REFUSED)
    assert "ZeroDivisionError" in html(server)
    save(app, "oops(")
    server.wait_for("reload refused")
    assert "The code does not load" in html(server)


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0"])
def test_the_debugger_refuses_a_public_address(app: Path, bind: str) -> None:
    result = run("-b", "127.0.0.1:0", "-b", bind, "--debugger", "shop", cwd=app)
    assert result.returncode == 2
    assert "the debugger runs whatever it is told, and " in result.stderr
    assert "can be reached from other machines: bind 127.0.0.1" in result.stderr


def test_the_debugger_refuses_a_public_socket_that_it_is_given(app: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as sock:
        fd = sock.fileno()
        result = run("-b", f"fd://{fd}", "--debugger", "shop", cwd=app, pass_fds=[fd])
    assert result.returncode == 1
    assert "can be reached from other machines" in result.stderr


def test_the_debugger_needs_one_worker(app: Path) -> None:
    result = run("-w", "2", "--debugger", "shop", cwd=app)
    assert result.returncode == 2
    assert "debugger (--debugger) needs one worker" in result.stderr


def test_the_debugger_on_a_unix_socket(start: Start, app: Path) -> None:
    need_module("werkzeug")
    save(app)
    server = start("-b", f"unix:{app}/socket", "--debugger", "shop", cwd=app)
    server.wait_for("PIN is")


def test_a_debugger_that_answers_to_any_name_is_refused(app: Path) -> None:
    """CVE-2024-34069; the extra asks for a later one, but does not see to it."""
    (app / "werkzeug").mkdir()
    (app / "werkzeug" / "__init__.py").touch()
    (app / "werkzeug" / "debug.py").write_text(
        "class DebuggedApplication:\n    def __init__(self, app, evalex): self.pin = 'x'\n"
    )
    result = run("-b", "127.0.0.1:0", "--debugger", "shop", cwd=app)
    assert result.returncode != 0
    assert "--debugger needs Werkzeug 3.0.3 or later" in result.stderr


def test_a_debugger_that_is_not_installed(app: Path) -> None:
    """Something that stands in its place cannot be imported."""
    save(app)
    (app / "werkzeug").mkdir()
    (app / "werkzeug" / "__init__.py").write_text("raise ImportError('not here')")
    result = run("-b", "127.0.0.1:0", "--debugger", "shop", cwd=app)
    assert result.returncode == 1
    assert "--debugger needs Werkzeug (ImportError: not here): pip install" in result.stderr
    assert run("--check-config", "--debugger", "shop", cwd=app).returncode == 1
