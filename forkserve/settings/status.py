"""The settings of what operators and their machines see: status, health, metrics, StatsD."""

import re
from dataclasses import dataclass

from forkserve.net.address import Address
from forkserve.settings import kinds
from forkserve.settings.declaration import declare as _declare


def _check_path(text: str) -> None:
    if not text.startswith("/") or set(text) & set("?#"):
        raise ValueError("is not a path like /health")


def _check_statsd_host(text: str) -> None:
    if text.startswith("unix://"):
        if not text.removeprefix("unix://").startswith("/"):
            raise ValueError("is not like unix:///run/statsd.sock")
    elif not re.fullmatch(r"(\[[^\]]+\]|[^\[\]:/]+):[0-9]{1,5}", text):
        raise ValueError("is not like localhost:8125 or unix:///run/statsd.sock")
    elif not 1 <= int(text.rpartition(":")[2]) <= 65535:
        raise ValueError("has a port that is not from 1 to 65535")


def _check_word(text: str) -> None:
    """Of the lines of StatsD: what ends a name, or a line, cannot be in one."""
    if not text.isascii() or not text.isprintable() or set(text) & set(" |@#"):
        raise ValueError("holds a character that ends a name in StatsD")


def _check_prefix(text: str) -> None:
    _check_word(text)
    if ":" in text:
        raise ValueError("holds a colon, which ends a name in StatsD")


_PATH = kinds.text("PATH", none=True, check=_check_path)


@dataclass(frozen=True, kw_only=True)
class StatusSettings:
    """A part of ``Settings``."""

    # fmt: off
    status: tuple[Address, ...] = _declare(
        "Status", (), kinds.BINDS,
        "Address of the status process, which serves /healthz, /readyz, /metrics and a page for "
        "people; an address like those of `bind`; repeatable. Without one there is no such "
        "process.",
        "It shows what runs, request lines included, to everybody who can connect: loopback, a "
        "private network or a unix socket.",
        "--status",
    )
    drain_delay: float | None = _declare(
        "Status", None, kinds.duration(0.1, 3600.0, none=True, zero_is_none=True),
        "How long, after a TERM, the server goes on as before while it already says that it is "
        "not ready. Then it begins to stop. A second TERM ends the wait.",
        "For load balancers that ask for /readyz: a little more than they take to notice, and with "
        "`graceful_timeout` less than the stop timeout of the service manager.",
        "--drain-delay",
    )
    health_path: str | None = _declare(
        "Status", None, _PATH,
        "Path at which the main addresses too say whether the server is ready, in place of the "
        "application.",
        "For load balancers that can ask only where they send requests. Everybody can ask there.",
        "--health-path",
    )
    metrics_path: str | None = _declare(
        "Status", None, _PATH,
        "Path at which the main addresses too answer with the metrics, in place of the "
        "application.",
        "Everybody who can send requests can read them: better give `status` an address.",
        "--metrics-path",
    )
    statsd_host: str | None = _declare(
        "Status", None, kinds.text("HOST:PORT", none=True, check=_check_statsd_host),
        "StatsD to which each request, and each line of the error log above info, is told, under "
        "Gunicorn's names: HOST:PORT (UDP) or unix:///path.",
        "What it does not take is lost, and holds up nothing.",
        "--statsd-host",
    )
    statsd_prefix: str | None = _declare(
        "Status", None, kinds.text("PREFIX", none=True, check=_check_prefix),
        "What the names at StatsD begin with; a dot is put behind it.",
        "Leave it, unless several servers share a StatsD.",
        "--statsd-prefix",
    )
    dogstatsd_tags: str | None = _declare(
        "Status", None, kinds.text("TAGS", none=True, check=_check_word),
        "Tags for DogStatsD on each of them: env:production,region:eu.",
        "Only Datadog's agent, and what understands its dialect, reads tags.",
        "--dogstatsd-tags",
    )
    # fmt: on
