"""--preload: a template process for each generation, and workers that are forked by it."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.harness import (
    APPS,
    COMMAND,
    PLAIN,
    Server,
    Tail,
    children,
    clean_environ,
    descriptors,
    wait_for_death,
)
from tests.command.load import Load

Start = Callable[..., Server]

OLD = PLAIN
NEW = PLAIN.replace('b"hello"', 'b"world"')


def template(server: Server, generation: int = 1) -> int:
    """The pid of the newest template process."""
    pattern = rf"template process of generation {generation} \(pid (\d+)\) has loaded"
    return int(server.wait_for(pattern)[-1][1])


def ready(server: Server, count: int) -> list[int]:
    """The pids of all workers that became ready, once there are ``count``."""
    return [int(found[1]) for found in server.wait_for(r"\(pid (\d+)\) is ready", count=count)]


def kill(server: Server, worker: int) -> int:
    """Kill a worker, wait until another is in its place, and return the pid of that."""
    before = len(ready(server, 1))
    os.kill(worker, signal.SIGKILL)
    return ready(server, before + 1)[-1]


# ---- who is what


def test_the_application_is_imported_once_and_the_workers_are_the_master_s(
    start: Start, app: Path
) -> None:
    (app / "shop.py").write_text(f"import os\nopen('imports', 'a').write('.')\n{PLAIN}")
    server = start("--preload", "-w", "4", "shop", cwd=app)
    workers = ready(server, 4)
    assert (app / "imports").read_text() == "."
    assert sorted(server.workers()) == sorted([*workers, template(server)])
    assert children(template(server)) == []
    title = Path(f"/proc/{template(server)}/cmdline").read_text().rstrip("\0")
    assert title == "forkserve: template gen 1 [shop]"
    assert server.get("/generation") == (200, b"1")


def test_every_descriptor_of_a_worker_is_what_it_is_without_preload(start: Start) -> None:
    """The channels of the template process, and of the siblings, are not among them."""
    found = []
    for flag in ("--no-preload", "--preload"):
        server = start(flag, "-w", "3", "plain")
        found.append([descriptors(pid) for pid in ready(server, 3)])
    assert found[0] == found[1]


def test_user_group_and_umask(start: Start, app: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    place = Path("/tmp") / f"preload-{os.getpid()}"
    place.mkdir(mode=0o777)
    try:
        (place / "bare.py").write_text((APPS / "bare.py").read_text())
        server = start(
            "--preload", "-u", "nobody", "-g", "nogroup", "-m", "077", "bare", cwd=place,
            errors=("died: SIGKILL",),
        )  # fmt: skip
        identity = b"(65534, 65534, 65534) (65534, 65534, 65534) [65534] 077"
        assert server.get() == (200, identity)
        kill(server, ready(server, 1)[0])
        assert server.get() == (200, identity)
        status = Path(f"/proc/{template(server)}/status").read_text()
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        server.process.kill()  # the kernel must still know, after the change of user
        assert all(wait_for_death(pid, 1.0) for pid in (*ready(server, 2), template(server)))
        server.wait()
    finally:
        for path in place.iterdir():
            path.unlink()
        place.rmdir()


# ---- reloads and replacements


@pytest.mark.parametrize("boot", [0.0, 0.3])
def test_hup_under_load_loses_nothing_and_brings_new_code(
    start: Start, app: Path, boot: float
) -> None:
    (app / "shop.py").write_text(f"import time\ntime.sleep({boot})\n{OLD}")
    server = start("--preload", "-w", "2", "shop", cwd=app)
    ready(server, 2)
    with Load(server.port) as load:
        for generation in range(2, 6):
            load.wait_for(20)
            server.reload(generation)
        load.wait_for(20)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes
    assert server.get("/generation") == (200, b"5")
    (app / "shop.py").write_text(NEW)
    server.reload(6)
    assert server.get() == (200, b"world")
    server.wait_for("has left", count=10)
    assert sorted(server.workers()) == sorted([*ready(server, 12)[-2:], template(server, 6)])


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("def application(:\n", "SyntaxError"),
        ("application = 5\n", "must be callable"),
        ("import os\nos._exit(9)\n", "ended with exit status 9"),
        ("import os\nos.kill(os.getpid(), 11)\n", "ended with SIGSEGV"),
    ],
)
def test_a_worker_that_dies_after_a_refused_reload_is_replaced_by_the_old_code(
    start: Start, app: Path, code: str, part: str
) -> None:
    server = start(
        "--preload", "-w", "2", "shop", cwd=app, errors=("reload refused", "died: SIGKILL")
    )
    workers = ready(server, 2)
    (app / "shop.py").write_text(code)
    before = sorted(server.workers())
    with Load(server.port) as load:
        for count in range(1, 4):
            server.signal("HUP")
            server.wait_for("reload refused", count=count)
            load.wait_for(20)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes
    assert part in server.log
    assert sorted(server.workers()) == before
    for worker in workers:
        kill(server, worker)
    assert {server.get() for _ in range(10)} == {(200, b"hello")}
    assert "could not boot; it is replaced" not in server.log
    (app / "shop.py").write_text(NEW)
    server.reload(2)
    assert server.get() == (200, b"world")


def test_recycling_goes_on_with_the_old_code_after_a_refused_reload(
    start: Start, app: Path
) -> None:
    server = start(
        "--preload", "-w", "2", "--max-requests", "20", "shop", cwd=app, errors=("reload refused",)
    )
    (app / "shop.py").write_text("broken(")
    server.signal("HUP")
    line = server.wait_for("reload refused")[0].string
    assert "recycled" not in line
    with Load(server.port) as load:
        server.wait_for("has left", count=6)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes


def test_without_preload_recycling_pauses_after_a_refused_reload(start: Start, app: Path) -> None:
    server = start("-w", "2", "--max-requests", "20", "shop", cwd=app, errors=("reload refused",))
    before = sorted(ready(server, 2))
    (app / "shop.py").write_text("broken(")
    server.signal("HUP")
    line = server.wait_for("reload refused")[0].string
    assert "Until then no worker is recycled (max_requests)" in line
    with Load(server.port) as load:
        load.wait_for(200)
        assert sorted(server.workers()) == before
        (app / "shop.py").write_text(NEW)
        server.reload(2)
        load.stop()
    with Load(server.port, body=b"world") as load:
        server.wait_for("gen 2 .* has left", count=2)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes


def test_an_import_that_hangs_is_ended_at_the_boot_deadline_with_its_stack(
    start: Start, app: Path
) -> None:
    server = start(
        "--preload", "--boot-timeout", "1", "-w", "2", "shop", cwd=app, errors=("reload refused",)
    )
    ready(server, 2)
    before = sorted(server.workers())
    (app / "shop.py").write_text(
        "import time\n\ndef wait_for_ever():\n    time.sleep(600)\n\nwait_for_ever()\n"
    )
    server.signal("HUP")
    assert "`boot_timeout`" in server.wait_for("reload refused")[0].string
    server.wait_for("shop.py.* in wait_for_ever")
    assert sorted(server.workers()) == before
    assert server.get() == (200, b"hello")


def test_a_first_import_that_fails_ends_the_server_and_is_told_once(app: Path) -> None:
    (app / "shop.py").write_text("raise RuntimeError('broken from the start')\n")
    server = Server("--preload", "-w", "4", "-b", "127.0.0.1:0", "shop", cwd=app)
    assert server.wait() == 3
    assert server.log.count("Traceback") == 1
    assert "no worker could boot" in server.log


def test_a_replacement_does_not_wait_for_the_import(start: Start, app: Path) -> None:
    (app / "shop.py").write_text(f"import time\ntime.sleep(2)\n{PLAIN}")
    server = start("--preload", "-w", "2", "shop", cwd=app, errors=("died: SIGKILL",))
    worker = ready(server, 2)[0]
    began = time.monotonic()
    kill(server, worker)
    assert time.monotonic() - began < 0.5


def test_preload_can_be_switched_by_a_reload(start: Start, app: Path) -> None:
    config = app / "f.toml"
    config.write_text('app = "shop"\nworkers = 2\n')
    server = start("-c", str(config), cwd=app, errors=("died: SIGKILL",))
    config.write_text('app = "shop"\nworkers = 2\npreload = true\n')
    server.reload(2)
    kill(server, ready(server, 4)[-1])
    assert template(server, 2) in server.workers()
    config.write_text('app = "shop"\nworkers = 2\n')
    server.reload(3)
    server.wait_for("gen 2 .*has left", count=2)
    assert wait_for_death(template(server, 2), 5.0)
    assert len(server.workers()) == 2


def test_reloads_leak_no_descriptor(start: Start, app: Path) -> None:
    server = start("--preload", "-w", "2", "shop", cwd=app, errors=("reload refused",))
    ready(server, 2)
    before = descriptors(server.pid)
    for generation in range(2, 8):
        server.reload(generation)
    server.wait_for("has left", count=12)
    assert descriptors(server.pid) == before
    (app / "shop.py").write_text("broken(")
    server.signal("HUP")
    server.wait_for("reload refused")
    assert wait_until(lambda: descriptors(server.pid) == before)


def wait_until(holds: Callable[[], bool]) -> bool:
    """For what no line in the log tells."""
    end = time.monotonic() + 5.0
    while not holds():
        if time.monotonic() > end:
            return False
        select_nothing(0.01)
    return True


def select_nothing(seconds: float) -> None:
    import select

    select.select([], [], [], seconds)


# ---- deaths


def test_a_template_process_that_dies_is_missed_by_nobody_and_made_anew(
    start: Start, app: Path
) -> None:
    server = start("--preload", "-w", "2", "shop", cwd=app, errors=("died: SIGKILL",))
    workers = ready(server, 2)
    with Load(server.port) as load:
        load.wait_for(20)
        os.kill(template(server), signal.SIGKILL)
        line = server.wait_for("WARNING .*template process of generation 1 .* died: SIGKILL")[0]
        assert "loads the application as it is on the disk then" in line.string
        load.wait_for(20)
        outcomes = load.stop()
    assert set(outcomes) == {200}, outcomes
    assert sorted(server.workers()) == sorted(workers)
    (app / "shop.py").write_text(NEW)
    replacements = [kill(server, worker) for worker in workers]
    server.wait_for("WARNING .* takes the place of one that died. .* may be newer")
    assert server.get() == (200, b"world")
    # And that one is a template process like any other.
    (app / "shop.py").write_text("broken(")
    for worker in replacements:
        kill(server, worker)
    assert server.get() == (200, b"world")
    assert len(server.workers()) == 3


def test_without_a_template_process_broken_code_is_tried_again_with_pauses(
    start: Start, app: Path
) -> None:
    server = start("--preload", "-w", "2", "shop", cwd=app, errors=("died:", "could not boot"))
    workers = ready(server, 2)
    os.kill(template(server), signal.SIGKILL)
    server.wait_for("template process .* died")
    (app / "shop.py").write_text("broken(")
    os.kill(workers[0], signal.SIGKILL)
    server.wait_for("could not boot; it is replaced in", count=2)
    assert server.get() == (200, b"hello")
    (app / "shop.py").write_text(NEW)
    ready(server, 3)


def test_a_template_process_that_stands_still_is_replaced(start: Start, app: Path) -> None:
    """An order that it does not hear is a boot that takes too long."""
    server = start(
        "--preload",
        "--boot-timeout",
        "1",
        "-w",
        "2",
        "shop",
        cwd=app,
        errors=("died:", "could not boot"),
    )
    workers = ready(server, 2)
    os.kill(template(server), signal.SIGSTOP)
    os.kill(workers[0], signal.SIGKILL)
    server.wait_for("could not boot; it is replaced in .* `boot_timeout`")
    ready(server, 3)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_signals_to_a_template_process(start: Start, how: signal.Signals) -> None:
    server = start("--preload", "plain")
    pid = template(server)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGWINCH):
        os.kill(pid, number)
    assert server.get() == (200, b"hello")
    assert pid in server.workers()
    os.kill(pid, how)
    server.wait_for("WARNING .* template process .* died: exit status 0")
    assert server.get() == (200, b"hello")


def test_all_die_with_the_master_also_stopped_and_hung_ones() -> None:
    server = Server("--preload", "-w", "4", "-b", "127.0.0.1:0", "plain").up()
    workers = ready(server, 4)
    with server.connect() as client:
        client.send(b"GET /spin HTTP/1.1\r\nHost: h\r\n\r\n")
        server.wait_for("^spinning")
        os.kill(workers[1], signal.SIGSTOP)
        os.kill(template(server), signal.SIGSTOP)
        pids = server.workers()
        assert len(pids) == 5
        server.process.kill()
        assert all(wait_for_death(pid, 1.0) for pid in pids)
    server.wait()


def test_a_template_process_dies_with_the_master_also_while_it_imports(app: Path) -> None:
    (app / "shop.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(600)\n")
    server = Server(
        "--preload", "-b", "127.0.0.1:0", "shop", cwd=app, stdout=subprocess.PIPE
    )  # fmt: skip
    assert server.process.stdout is not None
    assert server.process.stdout.readline() == "importing\n"
    (pid,) = server.workers()
    server.process.kill()
    assert wait_for_death(pid, 1.0)
    server.wait()
    server.process.stdout.close()


@pytest.mark.parametrize("name", ["TERM", "KILL"])
def test_the_end_at_any_moment_of_the_start_leaves_nothing(name: str) -> None:
    marker = f"preload-{os.getpid()}-{name}"
    for milliseconds in range(0, 250, 10):
        process = subprocess.Popen(
            [COMMAND, "--preload", "-w", "3", "-b", "127.0.0.1:0", "-n", marker, "plain"],
            cwd=APPS, env={**clean_environ(), "PRELOAD_TEST": marker}, stderr=subprocess.PIPE,
        )  # fmt: skip
        select_nothing(milliseconds / 1000)
        process.send_signal(getattr(signal, f"SIG{name}"))
        _, errors = process.communicate(timeout=30)
        assert b"Traceback" not in errors
        assert wait_until(lambda: not with_variable(f"PRELOAD_TEST={marker}")), milliseconds


def with_variable(assignment: str) -> list[int]:
    """Processes that were started with this in their environment, children included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if assignment.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_reload_that_is_stopped_leaves_nothing(start: Start, app: Path) -> None:
    server = start("--preload", "-w", "2", "shop", cwd=app)
    ready(server, 2)
    (app / "shop.py").write_text("import time\ntime.sleep(600)\n")
    server.signal("HUP")
    assert wait_until(lambda: len(server.workers()) == 4)
    pids = server.workers()
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 5.0
    assert all(wait_for_death(pid, 1.0) for pid in pids)


def test_a_fork_hook_that_hangs_is_a_boot_that_takes_too_long(start: Start, app: Path) -> None:
    """Nothing is left of the worker, which never ran a line of ours."""
    server = start(
        "--preload", "--boot-timeout", "1", "shop", cwd=app, errors=("reload refused",)
    )  # fmt: skip
    before = sorted(server.workers())
    (app / "shop.py").write_text(
        "import os, time\n"
        "def hang():\n"
        "    open('hung', 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "os.register_at_fork(after_in_child=hang)\n"
        f"{PLAIN}"
    )
    server.signal("HUP")
    assert "`boot_timeout`" in server.wait_for("reload refused")[0].string
    assert wait_for_death(int((app / "hung").read_text()), 2.0)
    assert wait_until(lambda: sorted(server.workers()) == before)
    assert server.get() == (200, b"hello")


# ---- what a fork copies


def test_random_numbers_differ_between_workers(start: Start, app: Path) -> None:
    (app / "numpy").mkdir()
    (app / "numpy" / "__init__.py").write_text("")
    (app / "numpy" / "random.py").write_text(
        "import os\nstate = 'copied'\ndef seed():\n    global state\n    state = str(os.getpid())\n"
    )
    (app / "shop.py").write_text(
        "import os, random, uuid, numpy.random\n"
        "random.random()\n"
        "first = []\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    first.append(f'{os.getpid()} {random.random()} {uuid.uuid4()} {uuid.uuid1()} {numpy.random.state}')\n"
        "    return [first[0].encode()]\n"
    )
    server = start("--preload", "-w", "4", "shop", cwd=app, errors=("died: SIGKILL",))
    kill(server, ready(server, 4)[0])
    answers: set[bytes] = set()

    def ask_all() -> bool:
        clients = [server.connect() for _ in range(8)]
        for client in clients:
            with client:
                answers.add(client.get()[1])
        return len(answers) >= 3

    assert wait_until(ask_all)
    columns = list(zip(*(answer.decode().split() for answer in answers), strict=True))
    for column in columns:
        assert len(set(column)) == len(answers), column
    assert columns[0] == columns[4]  # seeded in the worker


def test_hooks_and_exit_functions_run_once_in_each_worker_and_nowhere_else(
    start: Start, app: Path
) -> None:
    (app / "shop.py").write_text(
        "import atexit, os, sys\n"
        "def note(what):\n"
        "    with open('notes', 'a') as file:\n"
        "        file.write(f'{what} {os.getpid()}\\n')\n"
        "atexit.register(note, 'exit')\n"
        "os.register_at_fork(after_in_child=lambda: note('child'))\n"
        "os.register_at_fork(after_in_parent=lambda: note('parent'))\n"
        "sys.stdout.write('imported\\n')\n"  # stays in the buffer
        f"{PLAIN}"
    )
    with open(app / "stdout", "w") as stdout:
        server = start("--preload", "-w", "3", "shop", cwd=app, stdout=stdout)
        workers = ready(server, 3)
        pid = template(server)
        assert server.stop() == 0
    notes = (app / "notes").read_text().splitlines()
    assert sorted(note for note in notes if "parent" not in note) == sorted(
        f"{what} {worker}" for worker in workers for what in ("exit", "child")
    )
    assert [note for note in notes if "parent" in note] == [f"parent {pid}"] * 3
    assert (app / "stdout").read_text() == "imported\n"


def test_what_an_import_leaves_behind_is_one_warning(start: Start, app: Path) -> None:
    (app / "shop.py").write_text(
        "import asyncio, os, socket, threading\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "open('port', 'w').write(str(server.getsockname()[1]))\n"
        "client = socket.create_connection(server.getsockname())\n"
        "loop = asyncio.new_event_loop()\n"
        "def report():\n"
        "    while True:\n"
        "        threading.Event().wait(0.001)\n"
        "threading.Thread(target=report, name='metrics', daemon=True).start()\n"
        f"{PLAIN}"
    )
    user = ("--user", str(os.geteuid()))  # or there is a warning of root
    server = start("--preload", *user, "-w", "4", "shop", cwd=app, errors=("died: SIGKILL",))
    kill(server, ready(server, 4)[0])
    assert len(server.wait_for(" WARNING ")) == 1
    port = (app / "port").read_text()
    server.wait_for("thread 'metrics', in shop:report$")
    server.wait_for(rf"listening socket 127.0.0.1:{port} \(descriptor \d+\)$")
    server.wait_for(rf"connection to 127.0.0.1:{port} \(descriptor \d+\)$")
    server.wait_for("event loop of asyncio.unix_events that is open$")
    assert server.get() == (200, b"hello")


def test_an_ordinary_application_is_not_warned_of(start: Start) -> None:
    server = start("--preload", "--user", str(os.geteuid()), "flask_site", cwd=APPS)
    assert " WARNING " not in server.log


def test_children_of_the_application_hold_no_listener(start: Start, app: Path) -> None:
    """Neither those that the import forks, nor those of a request."""
    (app / "shop.py").write_text(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    open('child', 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        f"{PLAIN}"
    )
    server = start("--preload", "shop", cwd=app)
    assert "socket:[N]" in descriptors(server.pid)
    assert wait_until(lambda: (app / "child").exists() and (app / "child").read_text() != "")
    pids = [int((app / "child").read_text()), int(server.get("/fork")[1])]
    try:
        for pid in pids:
            assert wait_until(lambda pid=pid: "socket:[N]" not in descriptors(pid))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_a_child_of_the_import_that_comes_back_to_us_is_no_template(
    start: Start, app: Path
) -> None:
    (app / "shop.py").write_text(f"import os\nos.fork()\n{PLAIN}")
    server = start("--preload", "shop", cwd=app)
    assert server.get() == (200, b"hello")
    server.reload(2)
    assert server.stop() == 0
    assert "Traceback" not in server.log


# ---- logs


def test_usr1_reaches_workers_that_are_forked_later(start: Start, tmp_path: Path) -> None:
    access, error = tmp_path / "access", tmp_path / "error"
    server = start(
        "--preload", "--access-logfile", str(access), "--error-logfile", str(error), "plain",
        up=False,
    )  # fmt: skip
    with Tail(error) as log:
        server.port = int(log.wait_for(r"http://127.0.0.1:(\d+)")[0][1])
        worker = int(log.wait_for(r"\(pid (\d+)\) is ready")[0][1])
        access.rename(tmp_path / "access.1")
        error.rename(tmp_path / "error.1")
        server.signal("USR1")
        log.wait_for("open anew")
        os.kill(worker, signal.SIGKILL)
        log.wait_for("is ready", count=2)
        assert server.get("/print") == (200, b"printed")
        log.wait_for("to wsgi.errors")
        assert server.stop() == 0
    assert "GET /print" in access.read_text()
    assert "to wsgi.errors" in error.read_text()
    assert "GET" not in (tmp_path / "access.1").read_text()
    assert "wsgi.errors" not in (tmp_path / "error.1").read_text()


# ---- memory


def pss(pids: list[int]) -> int:
    """Proportional set size of the processes together, in KiB."""
    return sum(
        int(found[1])
        for pid in pids
        if (
            found := re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
        )
    )


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="there is no smaps_rollup")
def test_four_workers_take_at_most_1_3_times_the_memory_of_one(start: Start, app: Path) -> None:
    """All processes of the server counted, and after requests. 50 MiB of octets, and as much in
    objects that the collector knows."""
    (app / "shop.py").write_text(
        "octets = bytes(range(256)) * (50 * 4096)\n"
        "objects = [{'key': str(number), 'row': [number, None]} for number in range(120_000)]\n"
        f"{PLAIN}"
    )
    sizes = []
    for options, count in (((), 1), (("--preload", "-w", "4"), 4)):
        server = start(*options, "shop", cwd=app)
        ready(server, count)
        with Load(server.port, clients=8) as load:
            load.wait_for(2000)
            load.stop()
        sizes.append(pss([server.pid, *server.workers()]))
        assert server.stop() == 0
    assert sizes[0] > 100 * 1024
    print(f"one worker: {sizes[0]} KiB; a template process and four workers: {sizes[1]} KiB")
    assert sizes[1] <= 1.3 * sizes[0], sizes
