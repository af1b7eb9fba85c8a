"""Every setting, declared once.

The command line, the ``FORKSERVE_*`` variables, the keys of the configuration file, the reference
in the documentation and ``--print-config`` are all derived from these declarations. The names are
Gunicorn's where the meaning is the same.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from forkserve.settings import kinds
from forkserve.settings.control import ControlSettings
from forkserve.settings.declaration import Declaration
from forkserve.settings.declaration import declare as _declare
from forkserve.settings.development import DevelopmentSettings
from forkserve.settings.hooks import HookSettings
from forkserve.settings.logs import LogSettings
from forkserve.settings.origin import Origins
from forkserve.settings.server import ServerSettings
from forkserve.settings.status import StatusSettings


# Their fields stand the other way round: a dataclass has those of its last base first.
@dataclass(frozen=True, kw_only=True)
class Settings(
    HookSettings, ControlSettings, DevelopmentSettings, LogSettings, StatusSettings, ServerSettings,
    Origins,
):  # fmt: skip
    """The value of every setting. Times are in seconds, sizes in octets, None is "no limit"."""

    # fmt: off
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
        "How long a request that has arrived may wait for a thread. Then it gets a 503 with "
        "Retry-After. What a trusted proxy says in X-Request-Start counts too.",
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
        "Limits on requests", 100, kinds.number(1, 32768),
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
    # fmt: on


def declarations() -> dict[str, tuple[Declaration, Any]]:
    """name -> (declaration, default), in the order of declaration."""
    return {
        field.name: (field.metadata["declaration"], field.default)
        for field in dataclasses.fields(Settings)
        if "declaration" in field.metadata
    }
