"""The settings of the server itself: the application, where it listens, and its processes."""

from dataclasses import dataclass

from forkserve.net.address import Address, InetAddress
from forkserve.net.peers import Peer, parse_peer
from forkserve.settings import kinds
from forkserve.settings.declaration import declare as _declare


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """A part of ``Settings``."""

    # fmt: off
    app: str = _declare(
        "Application", "", kinds.APPLICATION,
        "The application: MODULE:CALLABLE, MODULE:factory(), or MODULE alone for its `application` "
        "or `app`.",
        "On the command line it is the argument.",
    )
    chdir: str | None = _declare(
        "Application", None, kinds.text("DIR", none=True),
        "Directory that the workers change to before they import the application.",
        "Not needed when forkserve is started where the application is.",
        "--chdir",
    )
    pythonpath: tuple[str, ...] = _declare(
        "Application", (), kinds.PATHS,
        "Directory to put in front of Python's module path, behind the working directory; "
        "repeatable, or several with commas.",
        "Not needed for installed packages, nor for modules in the working directory.",
        "--pythonpath",
    )
    env: tuple[str, ...] = _declare(
        "Application", (), kinds.VARIABLES,
        "Environment variable for the application; repeatable.",
        "No place for secrets: the command line is visible to every user of the machine.",
        "-e", "--env",
    )

    bind: tuple[Address, ...] = _declare(
        "Listening", (InetAddress("127.0.0.1", 8000),), kinds.BINDS,
        "Address to listen on: host:port, :port, [ipv6]:port, unix:/path, fd://N; repeatable. "
        "A unix socket takes ,mode=660 and ,user=NAME and ,group=NAME.",
        "Sockets from systemd (LISTEN_FDS) take its place. PORT=8080 in the environment makes the "
        "default :8080.",
        "-b", "--bind",
    )
    backlog: int = _declare(
        "Listening", 2048, kinds.number(1, 65535),
        "Connections that may wait in the kernel to be accepted, for each address.",
        "The kernel clips it to net.core.somaxconn, and the log says so. Raise both for bursts; "
        "a long queue does not make a slow application faster.",
        "--backlog",
    )
    forwarded_allow_ips: tuple[Peer, ...] = _declare(
        "Listening", tuple(map(parse_peer, ("127.0.0.1", "::1", "unix"))), kinds.PEERS,
        "Proxies whose X-Forwarded-* and Forwarded fields say who the client is, and by which "
        "scheme and host it came: addresses, networks, unix for the clients of unix sockets, "
        "* for all, none; repeatable, or several with commas. From others the fields are dropped.",
        "Name the proxies that are not on this machine; the default is not kept beside them. "
        "* is only for a server that nobody but the proxy can reach.",
        "--forwarded-allow-ips",
    )
    proxy_protocol: str = _declare(
        "Listening", "off", kinds.choice("off", "on"),
        "on: connections from `proxy_allow_from` begin with a PROXY header (version 1 or 2), which "
        "says who the client is.",
        "Only if the proxy in front is told to send it: without one, such a connection gets a 400.",
        "--proxy-protocol",
    )
    proxy_allow_from: tuple[Peer, ...] = _declare(
        "Listening", tuple(map(parse_peer, ("127.0.0.1", "::1", "unix"))), kinds.PEERS,
        "Proxies that send a PROXY header: addresses, networks, unix for the clients of unix "
        "sockets, * for all; repeatable, or several with commas.",
        "From others a PROXY header is a malformed request. Name only proxies of your own: who is "
        "named here can claim to be anybody.",
        "--proxy-allow-from",
    )

    certfile: str | None = _declare(
        "TLS", None, kinds.text("FILE", none=True),
        "Certificate (PEM), with those of its issuers behind it. With it every address speaks TLS.",
        "A proxy in front that already speaks TLS makes it needless. Read by the master, at the "
        "start and at each HUP.",
        "--certfile",
    )
    keyfile: str | None = _declare(
        "TLS", None, kinds.text("FILE", none=True),
        "Private key of the certificate (PEM, not encrypted); none if `certfile` holds it.",
        "Only the master reads it, so it can be readable for root alone.",
        "--keyfile",
    )
    ca_certs: str | None = _declare(
        "TLS", None, kinds.text("FILE", none=True),
        "Certificates (PEM) of those who may have issued the certificate of a client.",
        "Only with `cert_reqs`, which is what asks for one.",
        "--ca-certs",
    )
    cert_reqs: str = _declare(
        "TLS", "none", kinds.choice("none", "optional", "required"),
        "Whether clients are asked for a certificate, and whether they must have one.",
        "One that is sent must be valid either way.",
        "--cert-reqs",
    )
    ciphers: str | None = _declare(
        "TLS", None, kinds.text("CIPHERS", none=True),
        "Ciphers of TLS 1.2, in OpenSSL's words; none is Python's choice.",
        "Leave it, unless a rule that you are bound by names some.",
        "--ciphers",
    )
    tls_min_version: str = _declare(
        "TLS", "1.2", kinds.choice("1.2", "1.3"),
        "Least version of TLS.",
        "Clients older than 2019 may not know 1.3.",
        "--tls-min-version",
    )

    workers: kinds.Span = _declare(  # noqa: RUF009 - a tuple, which nobody changes
        "Workers", kinds.Span(1, 1), kinds.WORKERS,
        "Worker processes; auto is the number of processors that affinity and cgroup allow. "
        "MIN:MAX begins with MIN, and adds workers when none of them is idle for a second.",
        "Each runs `threads` requests at a time. More than twice the processors only helps "
        "applications that wait for others, and each costs its memory.",
        "-w", "--workers",
    )
    threads: int = _declare(
        "Workers", 1, kinds.number(1, kinds.MOST_THREADS),
        "Threads of each worker that call the application, so many calls at once.",
        "One, and the application need not be thread-safe: connections never wait for a thread "
        "either way. More helps applications that wait for others, for less memory than workers.",
        "--threads",
    )
    scale_down_after: float = _declare(
        "Workers", 30.0, kinds.duration(1.0),
        "How long one worker less must have been enough before, with MIN:MAX workers, one retires.",
        "Make it longer if workers are slow to boot and the load comes in waves.",
        "--scale-down-after",
    )
    worker_connections: int = _declare(
        "Workers", 10000, kinds.number(1, 1000000),
        "Connections that one worker holds open, idle ones included.",
        "An idle connection without TLS costs less than 1K of memory. At the limit the one "
        "that was idle for longest is closed for a new one.",
        "--worker-connections",
    )
    preload: bool = _declare(
        "Workers", False, kinds.FLAG,
        "Import the application once a generation, in a process of its own that forks the workers: "
        "they share its memory, and one that is replaced starts at once, with the code of the "
        "others.",
        "Not for an application whose import starts threads or opens connections: a warning names "
        "them.",
        "--preload",
    )
    max_requests: int | None = _declare(
        "Workers", None, kinds.number(1, 10**12, none=True),
        "Requests after which a worker is replaced by a fresh one.",
        "A remedy for an application that leaks memory; leave it out otherwise.",
        "--max-requests",
    )
    max_requests_jitter: int = _declare(
        "Workers", 0, kinds.number(0, 10**12),
        "Up to so many requests more, chosen at random for each worker.",
        "Keeps the workers from being replaced all at the same time.",
        "--max-requests-jitter",
    )
    max_lifetime: float | None = _declare(
        "Workers", None, kinds.duration(1.0, 30 * 86400.0, none=True),
        "How long a worker serves before it is replaced by a fresh one; each up to a tenth less, "
        "so that workers that began together do not end together.",
        "For what goes stale in a process, connections or caches; leave it out otherwise.",
        "--max-lifetime",
    )
    max_rss: int | None = _declare(
        "Workers", None, kinds.size_or_share(1 << 20),
        "Memory (RSS) above which a worker is replaced by a fresh one. N% is a share of what the "
        "cgroup allows, or else of what the machine has.",
        "A worker goes on while its successor boots, and is looked at once a second, while it has "
        "requests: leave room for both. It counts pages that workers share in each of them.",
        "--max-rss",
    )
    # fmt: on
