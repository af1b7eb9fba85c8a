"""Values that are possible each for itself, and not together."""

import os
from collections.abc import Iterator
from ipaddress import ip_address

from forkserve.net.address import Address, InetAddress, UnixAddress
from forkserve.net.peers import NOBODY
from forkserve.settings.declared import Settings, declarations
from forkserve.settings.development import public


def conflicts(settings: Settings) -> Iterator[str]:
    """What cannot be together, each in a sentence that names the origins."""
    yield from _of_addresses(settings)
    yield from _of_proxies(settings)
    yield from _of_limits(settings)
    yield from _of_tls(settings)
    yield from _of_status(settings)
    yield from _of_debugger(settings)
    yield from _of_user(settings)


def _named(settings: Settings, *names: str) -> str:
    return ", ".join(f"{name} ({settings.origins[name]})" for name in names)


def _of_addresses(settings: Settings) -> Iterator[str]:
    if not settings.bind:
        yield f"{_named(settings, 'bind')} names no address"
    taken: dict[str, str] = {}
    for name in ("bind", "status"):
        for address in getattr(settings, name):
            key = str(address).partition(",")[0]  # without the mode and owners of a unix socket
            any_port = isinstance(address, InetAddress) and address.port == 0
            if key in taken and not any_port:
                there = f"already, in {_named(settings, taken[key])}"
                there = "twice" if taken[key] == name else there
                yield f"{_named(settings, name)}: {address} is there {there}"
            taken[key] = name


def _of_proxies(settings: Settings) -> Iterator[str]:
    for name in ("forwarded_allow_ips", "proxy_allow_from"):
        if NOBODY in getattr(settings, name) and len(getattr(settings, name)) > 1:
            yield f"{_named(settings, name)}: none stands alone"
    if settings.proxy_protocol == "on" and settings.proxy_allow_from in ((), (NOBODY,)):
        yield f"{_named(settings, 'proxy_allow_from')} names nobody, and proxy_protocol is on"


def _of_limits(settings: Settings) -> Iterator[str]:
    for name in ("limit_request_line", "limit_request_field_size"):
        if getattr(settings, name) > settings.limit_request_head:
            both = _named(settings, name, "limit_request_head")
            yield f"{both}: one line is longer than the whole head"


def _of_tls(settings: Settings) -> Iterator[str]:
    if settings.certfile is None:
        for name in ("keyfile", "ca_certs", "ciphers", "tls_min_version"):
            if getattr(settings, name) != declarations()[name][1]:
                yield f"{_named(settings, name)} has no meaning without certfile"
    elif settings.ca_certs is not None and settings.cert_reqs == "none":
        # Whoever names them wants clients to be checked, and would not notice that none is.
        yield (
            f"{_named(settings, 'ca_certs')} has no meaning while cert_reqs is none "
            f"({settings.origins['cert_reqs']}): no client is asked for a certificate"
        )
    if settings.certfile and settings.ciphers is not None and settings.tls_min_version == "1.3":
        yield (
            f"{_named(settings, 'ciphers')} has no meaning with tls_min_version 1.3 "
            f"({settings.origins['tls_min_version']}): they are those of TLS 1.2"
        )
    if settings.cert_reqs != "none" and settings.ca_certs is None:
        yield f"{_named(settings, 'cert_reqs')} needs ca_certs: whom to believe about clients"


def _of_status(settings: Settings) -> Iterator[str]:
    if settings.health_path is not None and settings.health_path == settings.metrics_path:
        yield f"{_named(settings, 'health_path', 'metrics_path')}: one path cannot answer both"
    if settings.statsd_host is None:
        for name in ("statsd_prefix", "dogstatsd_tags"):
            if getattr(settings, name) is not None:
                yield f"{_named(settings, name)} has no meaning without statsd_host"


def _of_debugger(settings: Settings) -> Iterator[str]:
    if not settings.debugger:
        return
    if settings.workers.most > 1:
        yield (
            f"{_named(settings, 'debugger')} needs one worker, because the frames of an exception "
            f"stay in its process, and workers is {settings.workers} "
            f"({settings.origins['workers']})"
        )
    for address in settings.bind:
        if _is_local(address) is False:
            yield f"{_named(settings, 'bind')}: {public(str(address))}"


def _is_local(address: Address) -> bool | None:
    """Whether only this machine can reach ``address``; None: that shows when it is bound."""
    if isinstance(address, UnixAddress):
        return True
    if not isinstance(address, InetAddress):
        return None
    try:
        return ip_address(address.host.partition("%")[0]).is_loopback
    except ValueError:
        return True if address.host == "localhost" else None


def _of_user(settings: Settings) -> Iterator[str]:
    euid = os.geteuid()
    for name, own in (("user", euid), ("group", os.getegid())):
        wanted = getattr(settings, name)
        if wanted is not None and euid != 0 and wanted != own:
            yield (
                f"{_named(settings, name)}: only root can change it; this is user {euid}. Leave it "
                "out, or start as root"
            )
