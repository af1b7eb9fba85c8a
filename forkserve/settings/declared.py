"""Every setting, declared once.

The command line, the ``FORKSERVE_*`` variables, the keys of the configuration file, the reference
in the documentation and ``--print-config`` are all derived from these declarations. The names are
Gunicorn's where the meaning is the same.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from forkserve.net.address import Address, InetAddress
from forkserve.net.peers import Peer, parse_peer
from forkserve.settings import kinds
from forkserve.settings.declaration import Declaration
from forkserve.settings.declaration import declare as _declare


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The value of every setting. Times are in seconds, sizes in octets, None is "no limit"."""

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

    timeout: float | None = _declare(
        "Time limits", 30.0, kinds.duration(0.1, none=True, zero_is_none=True),
        "How long one call of the application may take without sending or receiving anything. "
        "Then its stack is logged and its worker is replaced. 0 is none, for Gunicorn's users.",
        "Not the place to cut off slow clients: they do not count.",
        "-t", "--timeout",
    )
    max_timeout: float = _declare(
        "Time limits", 3600.0, kinds.duration(0.1),
        "The longest time that a request may give itself by environ['forkserve.deadline'](SECONDS) "
        "in place of `timeout`.",
        "For reports and exports whose time is known to be long; others keep the short limit.",
        "--max-timeout",
    )
    queue_timeout: float = _declare(
        "Time limits", 60.0, kinds.duration(0.1),
        "How long a request that has arrived may wait for a thread. Then it gets a 503.",
        "Proxies in front give up after about so long; nobody would read a later answer.",
        "--queue-timeout",
    )
    graceful_timeout: float = _declare(
        "Time limits", 30.0, kinds.duration(0.1),
        "How long a worker that leaves may take to finish its requests. Then it is killed.",
        "Keep it above the longest request that must not be lost, and below the stop timeout of "
        "the service manager.",
        "--graceful-timeout",
    )
    boot_timeout: float = _declare(
        "Time limits", 120.0, kinds.duration(0.1),
        "How long a new worker may take to import the application.",
        "A reload whose new code hangs is given up after this time.",
        "--boot-timeout",
    )
    keep_alive: float = _declare(
        "Time limits", 75.0, kinds.duration(0.1),
        "How long a connection may stay open between two requests.",
        "Behind a proxy or load balancer keep it above theirs, so that they close first. It holds "
        "no worker.",
        "--keep-alive",
    )
    handshake_timeout: float = _declare(
        "Time limits", 10.0, kinds.duration(0.1),
        "How long a TLS handshake may take. Then the connection is closed.",
        "Whoever waits here costs a descriptor and no worker.",
        "--handshake-timeout",
    )
    head_timeout: float = _declare(
        "Time limits", 10.0, kinds.duration(0.1),
        "How long a client may take to send the whole head of a request. Then it gets a 408.",
        "Whoever waits here costs a descriptor and no worker.",
        "--head-timeout",
    )
    body_timeout: float = _declare(
        "Time limits", 30.0, kinds.duration(0.1),
        "How long a client may pause while it sends a body. Then it gets a 408.",
        "It counts from the last octets that arrived, so a long upload is no problem.",
        "--body-timeout",
    )
    body_min_rate: int | None = _declare(
        "Time limits", 500, kinds.size(1, none=True),
        "Octets a second that a body must bring. What it brings earns it time, up to "
        "`body_timeout`; without any left it gets a 408.",
        "Without it an octet now and then keeps a body going for ever. It is not asked of the "
        "paths of `stream_path`, nor by `chunked_read`.",
        "--body-min-rate",
    )
    write_timeout: float = _declare(
        "Time limits", 30.0, kinds.duration(0.1),
        "How long a client may pause while it reads a response. Then it is cut off.",
        "It counts from the last octets that the client took, so a long download is no problem; "
        "but to take less than 500 octets a second is to pause too.",
        "--write-timeout",
    )

    max_body: int | None = _declare(
        "Limits on requests", 1 << 30, kinds.size(1, none=True),
        "Longest body of a request; more is a 413.",
        "Lower it to what the application's largest upload needs. Gunicorn has no such limit.",
        "--max-body",
    )
    limit_request_line: int = _declare(
        "Limits on requests", 8190, kinds.size(64, 1 << 20),
        "Longest request line; more is a 414.",
        "Raise it only for an application that puts a lot into query strings.",
        "--limit-request-line",
    )
    limit_request_fields: int = _declare(
        "Limits on requests", 100, kinds.number(1, 10000),
        "Most header fields of a request; more is a 431.",
        "Browsers and proxies together send under 40.",
        "--limit-request-fields",
    )
    limit_request_field_size: int = _declare(
        "Limits on requests", 8190, kinds.size(64, 1 << 20),
        "Longest header field, name and value; more is a 431.",
        "Raise it for large cookies or tokens, if the proxy in front allows them too.",
        "--limit-request-field-size",
    )
    limit_request_head: int = _declare(
        "Limits on requests", 65536, kinds.size(256, 1 << 24),
        "Longest head of a request, all lines together; more is a 431.",
        "It bounds what a client can make a worker hold before it has said what it wants.",
        "--limit-request-head",
    )

    buffer_body: int = _declare(
        "Buffers", 1 << 20, kinds.size(0, 1 << 40),
        "So much of a body is collected before the application is called, so that a slow client "
        "holds no worker; what is longer is handed on as it comes. A chunked body is collected to "
        "its end, unless this is 0, so that every framework can be told its length.",
        "What is above 64K waits in an unlinked file in `tmp_dir`; sooner, when a worker holds "
        "16M of input in memory.",
        "--buffer-body",
    )
    stream_path: tuple[str, ...] = _declare(
        "Buffers", (), kinds.PATH_PREFIXES,
        "Path whose request bodies are not collected but reach the application as they come, with "
        "all paths below it: /up is also /up/2, but not /upload; repeatable.",
        "For applications that answer while the request is still being sent. There a slow client "
        "holds a worker, for as long as each of its pauses is shorter than `body_timeout`.",
        "--stream-path",
    )
    buffer_response: int = _declare(
        "Buffers", 1 << 20, kinds.size(1 << 16, 1 << 40),  # room for the server's own answers
        "So much of a response may wait in memory for a slow client; past it the application "
        "waits.",
        "Up to this size a slow reader holds no worker. Memory is used only while it lags.",
        "--buffer-response",
    )
    tmp_dir: str | None = _declare(
        "Buffers", None, kinds.text("DIR", none=True),
        "Directory for collected bodies; none is the system's own (TMPDIR, /tmp).",
        "Name one on a disk if /tmp is memory and uploads are large.",
        "--tmp-dir",
    )

    server_header: bool = _declare(
        "Responses", True, kinds.FLAG,
        "Send the field Server: forkserve, unless the application sends one itself.",
        "It tells no version. --no-server-header switches it off, where a policy asks for that.",
        "--server-header",
    )

    chunked_input_limit: int = _declare(
        "Chunked input", 1 << 20, kinds.size(1, 1 << 40),
        "Longest chunk that `chunked_read` returns; a longer one is an OSError.",
        "It is for one chunk, which is held in memory, and not for the body.",
        "--chunked-input-limit",
    )
    chunked_input_timeout: float = _declare(
        "Chunked input", 4.0, kinds.duration(0.001),
        "How long `chunked_read` waits for the client each time, if its caller does not say.",
        "Then it raises an OSError, and can be called again.",
        "--chunked-input-timeout",
    )
    uwsgi_api: bool = _declare(
        "Chunked input", False, kinds.FLAG,
        "Give the application a module `uwsgi` with `chunked_read` and `chunked_read_nb`, for code "
        "that was written for uWSGI.",
        "Leave it off otherwise: libraries take a server for uWSGI if they can import that.",
        "--uwsgi-api",
    )

    user: int | None = _declare(
        "Process", None, kinds.USER,
        "User (name or number) that the workers run as. The master stays what it is.",
        "Needs root. systemd's User= is simpler where all of it may run as that user.",
        "-u", "--user",
    )
    group: int | None = _declare(
        "Process", None, kinds.GROUP,
        "Group (name or number) that the workers run as; by default the user's own.",
        "Needs root.",
        "-g", "--group",
    )
    umask: int | None = _declare(
        "Process", None, kinds.MODE,
        "File mode creation mask of the workers, octal.",
        "By default it is left as it was at the start.",
        "-m", "--umask",
    )
    pid: str | None = _declare(
        "Process", None, kinds.text("FILE", none=True),
        "File to write the master's pid to, locked while it runs.",
        "systemd and containers need none.",
        "-p", "--pid",
    )
    name: str | None = _declare(
        "Process", None, kinds.text("NAME", none=True),
        "Name in the process titles; by default the application's.",
        "Useful where several servers run the same application.",
        "-n", "--name",
    )

    access_logfile: str | None = _declare(
        "Logging", None, kinds.text("FILE", none=True),
        "File for the access log; - is standard output.",
        "A proxy in front usually writes one already. USR1 opens it anew after a rotation.",
        "--access-logfile",
    )
    access_logformat: str = _declare(
        "Logging", "combined", kinds.text("FORMAT"),
        "common, combined, or a format of Gunicorn's atoms: %(h)s %({host}i)s ...",
        "What clients send is escaped in it.",
        "--access-logformat",
    )
    error_logfile: str = _declare(
        "Logging", "-", kinds.text("FILE"),
        "File for the error log; - is standard error.",
        "Under systemd and in containers leave it: the journal takes standard error.",
        "--error-logfile",
    )
    log_level: str = _declare(
        "Logging", "info", kinds.choice("debug", "info", "warning", "error", "critical"),
        "Least level of the lines in the error log.",
        "At warning the start, the stop and the reloads leave no trace.",
        "--log-level",
    )
    # fmt: on


def declarations() -> dict[str, tuple[Declaration, Any]]:
    """name -> (declaration, default), in the order of declaration."""
    return {
        field.name: (field.metadata["declaration"], field.default)
        for field in dataclasses.fields(Settings)
    }
