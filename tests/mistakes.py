"""The most common mistakes at a start: how each is made, what is said, and the way out.

``python -m tests.mistakes`` prints them as the table of the README; tests/command/test_mistakes.py
makes each of them. In both, /srv/shop stands for the directory of the application, and 8000 for a
port.
"""

import textwrap
from dataclasses import dataclass, field

SOUND = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"
FLASK = "from flask import Flask\napp = Flask(__name__)\napp.debug = True\n"
DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
settings.configure(DEBUG=True, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x")
urlpatterns = []
application = get_wsgi_application()
"""
THREADED = f"import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n{SOUND}"


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """``status``: the one it exits with; None if it serves, with a warning. ``says``: the essential
    words. ``surroundings``: what the test has to bring about, by the name of its function."""

    title: str
    command: str
    says: tuple[str, ...]
    way: str
    status: int | None = None
    files: dict[str, str] = field(default_factory=lambda: {"shop.py": SOUND})
    surroundings: str = ""


MISTAKES = [
    Mistake(
        title="The module is in another directory",
        command="forkserve wsgi",
        files={"shop/wsgi.py": SOUND},
        says=(
            "cannot load 'wsgi' (`app` from the command line): there is no module 'wsgi'",
            "looked for in the working directory (/srv/shop)",
            "There is one in /srv/shop/shop: start forkserve there, or set --chdir",
        ),
        way="Start it in the directory that the module is in, set ``chdir``, or write the package too: ``shop.wsgi``.",
        status=3,
    ),
    Mistake(
        title="The module has no such name",
        command="forkserve shop:aplication",
        says=(
            "cannot load 'shop:aplication' (`app` from the command line)",
            "there is no 'aplication'. Did you mean 'application'?",
        ),
        way="Name what the module has: ``MODULE:NAME``.",
        status=3,
    ),
    Mistake(
        title="A factory is not called",
        command="forkserve shop:create_app",
        files={"shop.py": f"def create_app():\n{textwrap.indent(SOUND, '    ')}    return application\n"},
        says=("it is a factory", "was not called: write 'shop:create_app()'"),
        way="Write the call: ``'shop:create_app()'``, quoted for the shell.",
        status=3,
    ),
    Mistake(
        title="The application is one of ASGI",
        command="forkserve shop",
        files={"shop.py": "async def app(scope, receive, send): pass\n"},
        says=("it is an ASGI application, and forkserve serves WSGI", "mysite.wsgi, not mysite.asgi"),
        way="Name the WSGI application, or take another server: FastAPI and Starlette need one for ASGI.",
        status=3,
    ),
    Mistake(
        title="The port is in use",
        command="forkserve -b 127.0.0.1:8000 shop",
        surroundings="a_port_in_use",
        says=(
            "cannot listen on 127.0.0.1:8000 (`bind` from --bind)",
            "another program is listening there. Stop it (`ss -lntxp` shows which one",
        ),
        way="Stop the other program, or choose another port.",
        status=1,
    ),
    Mistake(
        title="No permission for the socket's directory",
        command="forkserve -b unix:/srv/shop/closed/app.sock shop",
        surroundings="no_permissions",
        says=(
            "cannot listen on unix:/srv/shop/closed/app.sock (`bind` from --bind): Permission denied",
            "must be able to write it",
        ),
        way="Let the user that starts it write the directory (``RuntimeDirectory=`` in a unit makes one), or choose another.",
        status=1,
    ),
    Mistake(
        title="No permission for the port",
        command="FORKSERVE_BIND=127.0.0.1:80 forkserve shop",
        surroundings="no_low_ports",
        says=(
            "cannot listen on 127.0.0.1:80 (`bind` from FORKSERVE_BIND): ports below 1024 need root",
            "Choose a higher port, or let systemd open the socket",
        ),
        way="A port above 1023 behind a proxy; or the socket of systemd, or ``AmbientCapabilities=CAP_NET_BIND_SERVICE``.",
        status=1,
    ),
    Mistake(
        title="There is no such option",
        command="forkserve --wrokers 4 shop",
        says=("--wrokers: there is no such option; did you mean --workers?", "nothing was started"),
        way="``forkserve --help`` has all of them.",
        status=2,
    ),
    Mistake(
        title="A size that is none",
        command="forkserve -c forkserve.toml shop",
        files={"shop.py": SOUND, "forkserve.toml": 'max_body = "10 megabytes"\n'},
        says=("forkserve.toml: max_body: '10 megabytes' is not a size like 8190, 64K or 1M, nor none",),
        way="Octets, or a number with K, M, G or T behind it.",
        status=2,
    ),
    Mistake(
        title="There is no certificate",
        command="forkserve --certfile /srv/shop/cert.pem shop",
        says=(
            "/srv/shop/cert.pem (`certfile` from --certfile) cannot be read by the master: No such file",
            "be able to read it",
        ),
        way="Put it there; it is the user that starts forkserve who must be able to read it, not the workers.",
        status=1,
    ),
    Mistake(
        title="Key and certificate do not match",
        command="forkserve --certfile server.pem --keyfile other.key shop",
        surroundings="certificates",
        says=(
            "the key in other.key (`keyfile` from --keyfile) is not that of the first certificate in server.pem (`certfile` from --certfile)",
            "name the two that were made together",
        ),
        way="Name the key that the certificate was made for; in ``certfile`` the server's own comes first.",
        status=1,
    ),
    Mistake(
        title="The configuration file cannot be read",
        command="forkserve -c forkserve.toml",
        files={"shop.py": SOUND, "forkserve.toml": 'app = "shop"\n'},
        surroundings="no_permissions",
        says=(
            "forkserve.toml: the configuration file (--config) cannot be read: Permission denied",
            "seen from /srv/shop, and user",
        ),
        way="Let the user that starts it read the file; a relative path begins in the directory of the start.",
        status=2,
    ),
    Mistake(
        title="There is no such user",
        command="forkserve --user wwwdata shop",
        says=("--user: user: 'wwwdata' is no user of this machine (`getent passwd` shows them)",),
        way="Name one that there is, or a number: images of containers often have no names.",
        status=2,
    ),
    Mistake(
        title="Another one has the pid file",
        command="forkserve --pid /srv/shop/pid shop",
        surroundings="a_live_pid_file",
        says=(
            "another forkserve (pid 4711) holds the pid file /srv/shop/pid (`pid` from --pid)",
            "Stop it (kill 4711), let it take up what is new (kill -HUP 4711), or choose another file",
        ),
        way="It runs already: stop it, or reload it. A file that a dead one has left is in nobody's way.",
        status=1,
    ),
    Mistake(
        title="The path of a unix socket is too long",
        command=f"forkserve -b unix:/srv/{'long/' * 25}app.sock shop",
        says=("--bind: bind: 'unix:/srv/long/", "a unix socket can have 107 octets: choose a shorter one"),
        way="``/run/NAME.sock``, say: the kernel has room for no more.",
        status=2,
    ),
    Mistake(
        title="Too few descriptors for ``worker_connections``",
        command="forkserve --worker-connections 5000 shop",
        surroundings="few_descriptors",
        says=(
            "512 descriptors are allowed",
            "not the 5000 of `worker_connections` from --worker-connections: raise the limit (ulimit -n, LimitNOFILE=",
        ),
        way="It serves, with fewer connections. Raise the limit of open files, or lower the setting.",
    ),
    Mistake(
        title="The kernel clips the backlog",
        command="forkserve --backlog 65535 shop",
        surroundings="a_small_somaxconn",
        says=(
            "`backlog` from --backlog is 65535, but the kernel allows",
            "raise net.core.somaxconn (sysctl), or lower it",
        ),
        way="It serves, and a burst finds a shorter queue. ``sysctl net.core.somaxconn`` is the kernel's bound.",
    ),
    Mistake(
        title="Less than one processor in the cgroup",
        command="forkserve --workers 2 shop",
        surroundings="half_a_processor",
        says=(
            "the cgroup allows 0.5 of one processor, and `workers` from --workers is 2",
            "Allow one processor or more (CPUQuota= of systemd, --cpus of Docker, limits.cpu of Kubernetes)",
        ),
        way="It serves, in jerks: the kernel stops all workers when the share of a tenth of a second is used up.",
    ),
    Mistake(
        title="Threads that live when ``preload`` forks",
        command="forkserve --preload shop",
        files={"shop.py": THREADED},
        says=(
            "`preload` from --preload: the import of shop has left behind what does not go well with a fork",
            "Make them when the first request needs them",
        ),
        way="Start threads when the first request needs them, or in ``os.register_at_fork(after_in_child=...)``.",
    ),
    Mistake(
        title="root, and no ``user``",
        command="forkserve shop",
        surroundings="as_root",
        says=(
            "the workers run as root (`user` by default)",
            "Set --user www-data, say, or User= in the unit, or USER in the Dockerfile",
        ),
        way="Name a user without rights. ``--user root`` says that it is meant, and the warning stays away.",
    ),
    Mistake(
        title="Flask in debug mode",
        command="forkserve shop",
        files={"shop.py": FLASK},
        says=(
            "the application runs in debug mode: its attribute `debug` is True (Flask)",
            "leave out FLASK_DEBUG, DEBUG in its configuration and debug=True",
        ),
        way="Without ``FLASK_DEBUG`` and ``debug=True`` in production: error pages show the source.",
    ),
    Mistake(
        title="Django in debug mode",
        command="forkserve shop",
        files={"shop.py": DJANGO},
        says=("the application runs in debug mode: `DEBUG` is True", "set it to False there, with ALLOWED_HOSTS"),
        way="``DEBUG = False`` and ``ALLOWED_HOSTS`` in the settings of production.",
    ),
]  # fmt: skip


def rst() -> str:
    """The table of the README."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 20 46 34", ""]
    lines += ["   * - Mistake", "     - What it says", "     - The way out"]
    for mistake in MISTAKES:
        ends = "it serves" if mistake.status is None else f"exit status {mistake.status}"
        said = " ... ".join(mistake.says).replace("`", "")
        lines.append(f"   * - {mistake.title} ({ends})")
        lines.append(f"     - {said}")
        lines.append(f"     - {mistake.way}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(rst(), end="")
