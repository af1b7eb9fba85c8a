"""The settings for development: a reload when a file is saved, and the debugger."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from forkserve.net.address import Address, InetAddress, UnixAddress
from forkserve.net.peers import NOBODY
from forkserve.settings import kinds
from forkserve.settings.declaration import declare as _declare
from forkserve.settings.logs import LogSettings

if TYPE_CHECKING:
    from forkserve.settings.declared import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class DevelopmentSettings(LogSettings):
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


def is_local(address: Address) -> bool | None:
    """Whether only this machine can reach ``address``; None: that shows when it is bound."""
    if isinstance(address, UnixAddress):
        return True
    if not isinstance(address, InetAddress):
        return None
    try:
        return ip_address(address.host.partition("%")[0]).is_loopback
    except ValueError:
        return True if address.host == "localhost" else None


def public(where: str) -> str:
    """Why the debugger does not start; ``where``: the address."""
    return (
        f"the debugger runs whatever it is told, and {where} can be reached from other machines: "
        "bind 127.0.0.1, [::1] or a unix socket only, or leave out --debugger"
    )


def conflicts(settings: "Settings", origins: Mapping[str, str]) -> Iterator[str]:
    """What cannot be together."""
    if not settings.debugger:
        return
    if settings.workers.most > 1:
        yield (
            f"debugger ({origins['debugger']}) needs one worker, because the frames of an "
            f"exception stay in its process, and workers is {settings.workers} "
            f"({origins['workers']})"
        )
    for address in settings.bind:
        if is_local(address) is False:
            yield f"bind ({origins['bind']}): {public(str(address))}"


def adapt(settings: "Settings", origins: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Defaults that are others in development: name -> (value, where it comes from).

    Who stops at a breakpoint, or looks at a frame, is not stuck. The debugger answers only who asks
    for a host that is this machine. A page of another site whose name has come to point here (DNS
    rebinding) cannot, unless it may say so itself, as a proxy; and its browser is on this machine.
    """
    adapted: dict[str, tuple[Any, str]] = {}
    for name in ("debugger", "reload"):
        if getattr(settings, name) and origins["timeout"] == "default":
            adapted["timeout"] = (None, f"default with {name}")
    if settings.debugger and origins["forwarded_allow_ips"] == "default":
        adapted["forwarded_allow_ips"] = ((NOBODY,), "default with debugger")
    return adapted
