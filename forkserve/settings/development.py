"""The settings for development: a reload when a file is saved, and the debugger."""

from dataclasses import dataclass

from forkserve.settings import kinds
from forkserve.settings.declaration import declare as _declare


@dataclass(frozen=True, kw_only=True)
class DevelopmentSettings:
    """What nobody needs in production, where a deploy ends with a HUP."""

    # fmt: off
    reload: bool = _declare(
        "Development", False, kinds.FLAG,
        "Reload when a file of the application is saved, and show in the browser why new code does "
        "not load; the code before it goes on serving. Then `timeout` is none, unless it is set.",
        "Not for production: it watches every Python file of the application, and tells clients "
        "where the code fails. A new value is used after a restart.",
        "--reload",
    )
    reload_extra: tuple[str, ...] = _declare(
        "Development", (), kinds.GLOBS,
        "With `reload`: more files to watch. A file, a directory and all in it, or a pattern: "
        "templates/*.html, .env, 'conf/**/*.yaml'; repeatable.",
        "Only for what the application reads when it is loaded; a template that is read for each "
        "request needs no reload.",
        "--reload-extra-file", "--reload-extra",
    )
    reload_engine: str = _declare(
        "Development", "auto", kinds.choice("auto", "poll", "inotify"),
        "With `reload`: how changes are noticed. inotify: the kernel tells, which needs watchfiles "
        "(pip install 'forkserve[reload]'). poll: every file is looked at twice a second. auto: "
        "inotify, if it is there.",
        "poll for directories of another machine or of a virtual one's host, of whose changes the "
        "kernel does not know.",
        "--reload-engine",
    )
    debugger: bool = _declare(
        "Development", False, kinds.FLAG,
        "Show an exception of the application in the browser, with a console in each of its frames "
        "(Werkzeug's debugger: pip install 'forkserve[debugger]'). The log has its PIN. It needs "
        "one worker.",
        "Whoever has the PIN can do what this user can, so it only starts where every address is "
        "a loopback one or a unix socket. Put no proxy in front: `forwarded_allow_ips` is none, "
        "unless it is set.",
        "--debugger",
    )
    # fmt: on


def public(where: str) -> str:
    """Why the debugger does not start; ``where``: the address."""
    return (
        f"the debugger runs whatever it is told, and {where} can be reached from other machines: "
        "bind 127.0.0.1, [::1] or a unix socket only, or leave out --debugger"
    )
