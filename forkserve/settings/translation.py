"""From what was written for Gunicorn to settings of ours.

Values are translated and not judged: what our kinds refuse is refused there. What has no
counterpart becomes a note or a problem, in the words of the table in ``gunicorn``.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forkserve.settings.declared import declarations
from forkserve.settings.gunicorn import ASGI, ATOMS, TABLE, Entry, Verdict

_DAY = 86400
_SYSLOG = "udp://localhost:514"
_HEAD = "64K"  # the default of limit_request_head
_FIELDS = 32768  # the most that can be set, there and here
_BACKLOG = 65535

# Worker classes that need no word but one, by the last part of their name.
_OWN_CLASSES = {"sync", "gthread", "SyncWorker", "ThreadWorker", "SyncWorkerThread"}
_NO_GREENLETS = (
    "there are no greenlets here, and none are needed to hold connections open: leave it out, and "
    "set --threads to the number of calls that wait for others at the same time"
)
_UNKNOWN_CLASS = "there is one kind of worker, and another's class is not used: leave it out"


@dataclass(slots=True)
class Translated:
    """``values``: name of ours -> (raw, origin); ``notes`` are told once, ``problems`` refuse the
    start."""

    values: dict[str, tuple[Any, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def translate(given: Mapping[str, tuple[Any, str]]) -> Translated:
    """``given``: name of Gunicorn's -> (raw, origin)."""
    result = Translated()
    for entry in TABLE:
        if entry.name in given:
            _take(entry, *given[entry.name], result)
    _take_syslog(given, result)
    return result


def _take(entry: Entry, raw: Any, origin: str, result: Translated) -> None:
    raw = _plain(entry, raw)
    if entry.name == "worker_class":
        _take_class(raw, origin, result)
    elif raw is None or raw in entry.off:
        return
    elif entry.verdict is Verdict.SUPPORTED:
        if entry.name == "access_log_format" and (unknown := _known_atoms(raw)[1]):
            result.notes.append(
                f"{origin} has {', '.join(unknown)}, which is no atom: it is written as -, as there"
            )
        if entry.here:
            result.values[entry.here] = (in_our_form(entry.here, raw, python=True), origin)
    elif entry.verdict is Verdict.NEEDLESS:
        if raw not in (False, "", [], {}):
            result.notes.append(f"{origin} is not needed here, and does nothing: {entry.says}")
    else:
        result.problems.append(f"{origin}: {entry.name} has no counterpart here: {entry.says}")


def _plain(entry: Entry, raw: Any) -> Any:
    """A file may have a switch as a text, and a class itself in place of its name."""
    if entry.flag and isinstance(raw, str):
        return {"true": True, "false": False}.get(raw.strip().lower(), raw)
    if isinstance(raw, type) and entry.name != "worker_class":
        return f"{raw.__module__}.{raw.__qualname__}"
    return raw


def _take_syslog(given: Mapping[str, tuple[Any, str]], result: Translated) -> None:
    """Four settings there are two addresses here."""
    address, where = given.get("syslog_addr") or (None, "")
    wanted, origin = given.get("syslog") or (False, "")
    if not wanted:
        if address:
            result.notes.append(f"{where} does nothing without --log-syslog")
        return
    match = re.fullmatch(r"(udp|unix)://([^#?]+)(?:#\w+)?", str(address or _SYSLOG))
    if match is None:
        result.problems.append(
            f"{where}: {address!r}: only udp://HOST:PORT and unix://PATH are here"
        )
        return
    facility = str((given.get("syslog_facility") or ("user",))[0] or "user").removeprefix("log_")
    target = f"syslog+{match[1]}://{match[2]}?facility={facility}"
    result.values["error_logfile"] = (target, origin)
    if not (given.get("disable_redirect_access_to_syslog") or (False,))[0]:
        result.values["access_logfile"] = (target, origin)


def _take_class(raw: Any, origin: str, result: Translated) -> None:
    name = raw if isinstance(raw, str) else getattr(raw, "__name__", str(raw))
    last = re.split("[.:]", name)[-1]
    if not name or last in _OWN_CLASSES:
        if name:
            entry = next(it for it in TABLE if it.name == "worker_class")
            result.notes.append(
                f"{origin} {name} is not needed here, and does nothing: {entry.says}"
            )
        return
    lower = name.lower()
    if "gevent" in lower or "eventlet" in lower or "tornado" in lower:
        why = _NO_GREENLETS
    elif "uvicorn" in lower or "asgi" in lower or "aiohttp" in lower or "hypercorn" in lower:
        why = ASGI
    else:
        why = _UNKNOWN_CLASS
    result.problems.append(f"{origin} {name}: {why}")


# ---- the forms of values


def in_our_form(name: str, raw: Any, *, python: bool = False) -> Any:
    """``raw`` as our setting ``name`` is written. ``python``: it is a value of a Python file, with
    the meaning that it has there."""
    if isinstance(raw, float) and name in _WHOLE:
        raw = int(raw)
    if python and name in _PYTHON_FORMS:
        raw = _PYTHON_FORMS[name](raw)
    form = _FORMS.get(name)
    return raw if form is None else form(raw)


_WHOLE = {
    "workers", "threads", "backlog", "worker_connections", "max_requests", "max_requests_jitter",
    "limit_request_line", "limit_request_fields", "limit_request_field_size",
}  # fmt: skip


def _instead_of_zero(value: Any) -> Callable[[Any], Any]:
    return lambda raw: value if str(raw) == "0" else raw


def _timeout(raw: Any) -> Any:
    """Longer than a day is written to mean none."""
    return "none" if _is_above(raw, _DAY) else raw


def _is_above(raw: Any, most: int) -> bool:
    return re.fullmatch("[0-9]{1,9}", str(raw)) is not None and int(raw) > most


def _statsd_host(raw: Any) -> Any:
    """An address may lack its port."""
    lacks = raw != "none" and re.fullmatch(r"[\w-]+(\.[\w-]+)*", str(raw))
    return f"{raw}:8125" if lacks else raw


def _wait(raw: Any) -> Any:
    """No time is a moment, and more than the most is the most."""
    return "100ms" if str(raw) == "0" else _DAY if _is_above(raw, _DAY) else raw


def _unless_empty(raw: Any) -> Any:
    """What a variable that is not set leaves is nothing."""
    return "none" if raw == "" else raw


def _bind(raw: Any) -> Any:
    return [_address(item) for item in (raw if isinstance(raw, list | tuple) else [raw])]


def _address(raw: Any) -> Any:
    """An address may lack its port (8000 then), and a unix socket its directory."""
    if not isinstance(raw, str):
        return raw
    text = raw.strip().removeprefix("tcp://")
    if text.startswith("unix:"):
        path = re.sub("^/{2,}", "/", text.removeprefix("unix:"))
        return f"unix:{path if path.startswith('/') else os.path.abspath(path)}" if path else text
    try:
        host = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return (
            f"{text}:8000"
            if text == "localhost" or re.fullmatch(r"[\w-]+(\.[\w-]+)+", text)
            else text
        )
    return f"[{host}]:8000" if host.version == 6 else f"{host}:8000"


def _items(raw: Any) -> Any:
    """A list may be one text with commas; those in front of an option of a unix socket are ours."""
    if not isinstance(raw, str):
        return list(raw) if isinstance(raw, tuple) else raw
    return [item.strip() for item in re.split(",(?!mode=|user=|group=)", raw) if item.strip()]


def _proxies(raw: Any) -> Any:
    """Gunicorn trusts who comes by a unix socket in any case, and nobody if none is named."""
    items = _items(raw)
    if not isinstance(items, list):
        return raw
    return ["none"] if not items else items if "*" in items else [*items, "unix"]


def _known_atoms(raw: Any) -> tuple[Any, list[str]]:
    """A format as it is written there, and those atoms in it that it does not have: each is a -."""
    if not isinstance(raw, str):
        return raw, []
    unknown = [found[0] for found in _ATOM.finditer(raw) if not _is_atom(found[1])]
    return _ATOM.sub(lambda found: found[0] if _is_atom(found[1]) else "-", raw), unknown


_ATOM = re.compile(r"%\(([^()]+)\)[-#0 +]*[0-9]*(?:\.[0-9]+)?s")


def _is_atom(name: str) -> bool:
    return name in ATOMS or re.fullmatch(r"\{.+\}[ioe]", name) is not None


_VERIFY = {"0": "none", "1": "optional", "2": "required"}
_VERSIONS = {"5": "1.2", "tlsv1_2": "1.2", "tlsv1.2": "1.2", "tlsv1_3": "1.3", "tlsv1.3": "1.3"}
_ANY_VERSION = {"2", "16", "17", "sslv23", "tls", "tls_server"}
_LEVELS = {"warn": "warning", "fatal": "critical"}


def _version(raw: Any) -> Any:
    text = str(int(raw) if isinstance(raw, int) else raw).lower().removeprefix("protocol_")
    return "1.2" if text in _ANY_VERSION else _VERSIONS.get(text, raw)


def _proxy_protocol(raw: Any) -> Any:
    text = str(raw).lower()
    on, off = ("true", "auto", "v1", "v2"), ("false", "none")
    return "on" if text in on else "off" if text in off else raw


_FORMS: dict[str, Callable[[Any], Any]] = {
    "bind": _bind,
    "control_socket": lambda raw: "none" if raw is True else raw,  # of control_socket_disable
    "cert_reqs": lambda raw: _VERIFY.get(str(int(raw) if isinstance(raw, int) else raw), raw),
    "access_logfile": _unless_empty,
    "backlog": lambda raw: _BACKLOG if _is_above(raw, _BACKLOG) else raw,
    "ca_certs": _unless_empty,
    "certfile": _unless_empty,
    "graceful_timeout": _wait,
    "keep_alive": _wait,
    "keyfile": _unless_empty,
    "limit_request_field_size": _instead_of_zero(_HEAD),
    "limit_request_fields": _instead_of_zero(_FIELDS),
    "limit_request_line": _instead_of_zero(_HEAD),
    "log_level": lambda raw: _LEVELS.get(str(raw).lower(), raw),
    "max_requests": _instead_of_zero("none"),
    "proxy_protocol": _proxy_protocol,
    "statsd_host": _statsd_host,
    "timeout": _timeout,
    "tls_min_version": _version,
}
_PYTHON_FORMS: dict[str, Callable[[Any], Any]] = {
    "access_log_format": lambda raw: _known_atoms(raw)[0],
    "bind": _items,
    "env": lambda raw: list(raw) if isinstance(raw, tuple) else raw,
    "forwarded_allow_ips": _proxies,
    "proxy_allow_from": _proxies,
    "pythonpath": lambda raw: raw or [],
    "umask": lambda raw: f"{raw:04o}" if isinstance(raw, int) else raw,
}


def spelled() -> dict[str, Entry]:
    """Options of Gunicorn that are none of ours under that name."""
    ours = {option for declaration, _ in declarations().values() for option in declaration.options}
    ours |= {"-c", "--config", "--check-config", "--print-config"}
    return {option: entry for entry in TABLE for option in entry.options if option not in ours}
