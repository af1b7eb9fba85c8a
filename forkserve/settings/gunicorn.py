"""Gunicorn's settings, each with what becomes of it here.

Source of names, options and defaults: ``gunicorn.config.KNOWN_SETTINGS`` of Gunicorn 27.0.1, which
its documentation is made of. What reads values is ``translation``; the page in the README is made
by ``moving``.
"""

from enum import Enum
from typing import NamedTuple

VERSION = "27.0.1"


ATOMS = set("hlutrmUqHsBbfaTMDLp")  # of access_log_format, beside those with a name


class Verdict(Enum):
    """What becomes of a setting."""

    SUPPORTED = "here"
    NEEDLESS = "not needed"  # accepted, with one line that says why
    REFUSED = "refused"  # with a line that says what to do instead


class Entry(NamedTuple):
    """``here`` is the setting that it becomes; ``says`` is a sentence: how it differs here, or the
    rest of one: why it is not needed, or what to do instead. ``flag``: its option has no value.
    ``off``: values with which it asks for nothing."""

    name: str
    options: tuple[str, ...]
    verdict: Verdict
    here: str = ""
    says: str = ""
    flag: bool = False
    off: tuple[object, ...] = ()


_S, _N, _R = Verdict.SUPPORTED, Verdict.NEEDLESS, Verdict.REFUSED
_OPTIONAL_HTTP = "it softens the parsing of HTTP, which is strict here: repair the client"
ASGI = "this is a WSGI server: serve an ASGI application with uvicorn"
_HTTP2 = "HTTP/1.1 is spoken here: let the proxy in front speak HTTP/2"
_TASKS = "tasks outside of requests are a task queue's work: Celery, RQ, Dramatiq"
_HOOK = "As there."
_LOGGERS = ("gunicorn.glogging.Logger", "simple", "gunicorn.instrument.statsd.Statsd")  # its own

# fmt: off
TABLE: tuple[Entry, ...] = (
    Entry("config", ("-c", "--config"), _S, "", "A Python file (`.py`, `file:PATH`, `python:MODULE`, or what reads like one) is run in a child first; TOML is read too. ./gunicorn.conf.py is read only with --gunicorn-env."),
    Entry("wsgi_app", (), _S, "app", "Also as the argument."),
    Entry("bind", ("-b", "--bind"), _S, "bind", "Also `fd://N`, and for unix sockets mode and owner: `unix:/run/app.sock,mode=660`."),
    Entry("backlog", ("--backlog",), _S, "backlog", "The log says so if the kernel clips it."),
    Entry("workers", ("-w", "--workers"), _S, "workers", "Also `auto`, and MIN:MAX, which follows the load. $WEB_CONCURRENCY is read, where the file names no number."),
    Entry("worker_class", ("-k", "--worker-class"), _N, "", "there is one kind of worker, which keeps connections open and has `threads`"),
    Entry("threads", ("--threads",), _S, "threads", "No worker class goes with it."),
    Entry("worker_connections", ("--worker-connections",), _S, "worker_connections", "Open connections of a worker, idle ones included; calls at a time are `threads`."),
    Entry("max_requests", ("--max-requests",), _S, "max_requests", "The successor is ready before the worker leaves."),
    Entry("max_requests_jitter", ("--max-requests-jitter",), _S, "max_requests_jitter", "A note, if there is no `max_requests`."),
    Entry("timeout", ("-t", "--timeout"), _S, "timeout", "Of one call that makes no progress, in every worker with threads too; the client gets a 504, and the log the stack."),
    Entry("graceful_timeout", ("--graceful-timeout",), _S, "graceful_timeout", _HOOK),
    Entry("keepalive", ("--keep-alive",), _S, "keep_alive", "In every worker, since an idle connection holds none. 0 is 100ms."),
    Entry("limit_request_line", ("--limit-request-line",), _S, "limit_request_line", "0 is 64K, not unlimited."),
    Entry("limit_request_fields", ("--limit-request-fields",), _S, "limit_request_fields", "0 is 32768, as there."),
    Entry("limit_request_field_size", ("--limit-request-field_size",), _S, "limit_request_field_size", "0 is 64K, not unlimited."),
    Entry("reload", ("--reload",), _S, "reload", "A page in the browser says why new code does not load.", True, (False, None)),
    Entry("reload_engine", ("--reload-engine",), _S, "reload_engine", _HOOK),
    Entry("reload_extra_files", ("--reload-extra-file",), _S, "reload_extra", "Also directories and patterns.", False, ([], (), None)),
    Entry("spew", ("--spew",), _R, "", "trace with `python -m trace`, or see py-spy", True, (False, None)),
    Entry("check_config", ("--check-config",), _S, "", "It also says whether files can be written, and leaves nothing behind.", True, (False, None)),
    Entry("print_config", ("--print-config",), _S, "", "With the origin of each value.", True, (False, None)),
    Entry("preload_app", ("--preload",), _S, "preload", "In a process of its own, so HUP reloads it too.", True),
    Entry("sendfile", ("--no-sendfile",), _N, "", "files are sent by the kernel where that is right, and read block by block where it is not", True),
    Entry("reuse_port", ("--reuse-port",), _N, "", "the workers share one socket, and share work over it; a socket each would lose the clients that wait in it when its worker leaves", True),
    Entry("chdir", ("--chdir",), _S, "chdir", "For the workers. Files of logs, pid and sockets are seen from where forkserve was started; modules are not looked for there."),
    Entry("daemon", ("-D", "--daemon"), _R, "", "it runs in the foreground; let systemd or a container keep it", True, (False, None)),
    Entry("raw_env", ("-e", "--env"), _S, "env", "For the workers; a Python file reads its own in os.environ."),
    Entry("pidfile", ("-p", "--pid"), _S, "pid", "Locked while it runs, so that a stale one is no obstacle."),
    Entry("worker_tmp_dir", ("--worker-tmp-dir",), _N, "", "workers give signs of life in shared memory, not in a file; for collected bodies there is --tmp-dir"),
    Entry("user", ("-u", "--user"), _S, "user", _HOOK),
    Entry("group", ("-g", "--group"), _S, "group", _HOOK),
    Entry("umask", ("-m", "--umask"), _S, "umask", "Of the workers; by default it is left as it was."),
    Entry("initgroups", ("--initgroups",), _N, "", "workers always have the groups of `user`", True),
    Entry("tmp_upload_dir", (), _S, "tmp_dir", "Where collected bodies go."),
    Entry("secure_scheme_headers", (), _N, "", "the scheme is read from X-Forwarded-Proto and Forwarded of a trusted proxy: have yours set one of these"),
    Entry("forwarded_allow_ips", ("--forwarded-allow-ips",), _S, "forwarded_allow_ips", "Also networks. It decides on address, host and port too. $FORWARDED_ALLOW_IPS is read with --gunicorn-env."),
    Entry("accesslog", ("--access-logfile",), _S, "access_logfile", _HOOK),
    Entry("disable_redirect_access_to_syslog", ("--disable-redirect-access-to-syslog",), _S, "", "With --log-syslog the access log stays what `access_logfile` says.", True),
    Entry("access_log_format", ("--access-logformat",), _S, "access_log_format", "All atoms, also with a width: `%(h)15s`. What clients send is escaped."),
    Entry("errorlog", ("--error-logfile", "--log-file"), _S, "error_logfile", "A reader that does not read, or a full disk, blocks nobody."),
    Entry("loglevel", ("--log-level",), _S, "log_level", _HOOK),
    Entry("capture_output", ("--capture-output",), _S, "capture_output", "Line by line, and rotated with the log.", True),
    Entry("logger_class", ("--logger-class",), _R, "", "the logs are the server's own: see `access_log_format`, `error_logfile`; filters of the logger gunicorn.access hold", False, ("", *_LOGGERS)),
    Entry("logconfig", ("--log-config",), _S, "log_config", "TOML or JSON for dictConfig; the INI form of fileConfig is not read.", False, (None, "")),
    Entry("logconfig_json", ("--log-config-json",), _S, "log_config", _HOOK, False, (None, "")),
    Entry("logconfig_dict", (), _S, "log_config", "For the lines of the workers, in place of `log_config`. Records of the access log have the atoms in `args`, as there.", False, ({}, None)),
    Entry("syslog_addr", ("--log-syslog-to",), _S, "", "`udp://HOST:PORT` or `unix://PATH`, for --log-syslog; tcp is refused.", False, (None, "")),
    Entry("syslog", ("--log-syslog",), _S, "", "Both logs go to the syslog (RFC 5424), in the place of their files.", True, (False, None)),
    Entry("syslog_prefix", ("--log-syslog-prefix",), _N, "", "the lines carry the name of the program and of their process"),
    Entry("syslog_facility", ("--log-syslog-facility",), _S, "", "For --log-syslog.", False, (None, "")),
    Entry("enable_stdio_inheritance", ("-R", "--enable-stdio-inheritance"), _N, "", "workers have the standard streams of the master in any case", True),
    Entry("statsd_host", ("--statsd-host",), _S, "statsd_host", "The same names of metrics.", False, (None, "")),
    Entry("dogstatsd_tags", ("--dogstatsd-tags",), _S, "dogstatsd_tags", _HOOK, False, (None, "")),
    Entry("statsd_prefix", ("--statsd-prefix",), _S, "statsd_prefix", _HOOK, False, (None, "")),
    Entry("enable_backlog_metric", ("--enable-backlog-metric",), _N, "", "the metrics of the status page have the queue of each socket", True),
    Entry("proc_name", ("-n", "--name"), _S, "name", _HOOK),
    Entry("default_proc_name", (), _N, "", "the titles carry the application's name"),
    Entry("pythonpath", ("--pythonpath",), _S, "pythonpath", _HOOK),
    Entry("paste", ("--paste", "--paster"), _R, "", "write a module with `application = paste.deploy.loadapp('config:/path/to.ini')`, and name that", False, (None, "")),
    Entry("on_starting", (), _S, "on_starting", "The sockets are bound already, so that clients wait. What it raises refuses the start."),
    Entry("on_reload", (), _S, "on_reload", "That of the new file, before the first worker of the new code boots."),
    Entry("when_ready", (), _S, "when_ready", "Before the first worker is forked, as there."),
    Entry("pre_fork", (), _S, "pre_fork", "In the process that forks: the master, or with `preload` the template process."),
    Entry("post_fork", (), _S, "post_fork", _HOOK),
    Entry("post_worker_init", (), _S, "post_worker_init", _HOOK),
    Entry("worker_int", (), _S, "worker_int", "When the worker is to end at once: INT or QUIT to it or to the master."),
    Entry("worker_abort", (), _S, "worker_abort", "When a call is stuck; the worker's other requests go on."),
    Entry("pre_exec", (), _S, "pre_exec", "Before an upgrade by USR2."),
    Entry("pre_request", (), _S, "pre_request", "Costs nothing where it is not set."),
    Entry("post_request", (), _S, "post_request", "Costs nothing where it is not set."),
    Entry("child_exit", (), _S, "child_exit", _HOOK),
    Entry("worker_exit", (), _S, "worker_exit", _HOOK),
    Entry("nworkers_changed", (), _S, "nworkers_changed", "By signals, by a reload, and with MIN:MAX by the load."),
    Entry("on_exit", (), _S, "on_exit", _HOOK),
    Entry("ssl_context", (), _S, "ssl_context", "Called by the master, at the start and at each HUP."),
    Entry("proxy_protocol", ("--proxy-protocol",), _S, "proxy_protocol", "`auto`, `v1` and `v2` are on: both versions are read, and one must come."),
    Entry("proxy_allow_ips", ("--proxy-allow-from",), _S, "proxy_allow_from", "Also networks."),
    Entry("protocol", ("--protocol",), _R, "", "HTTP is spoken here: have the proxy speak it (proxy_pass, not uwsgi_pass)", False, ("http", None)),
    Entry("uwsgi_allow_ips", ("--uwsgi-allow-from",), _N, "", "the uwsgi protocol is not spoken"),
    Entry("keyfile", ("--keyfile",), _S, "keyfile", "Only the master reads it."),
    Entry("certfile", ("--certfile",), _S, "certfile", "Renewed at HUP."),
    Entry("ssl_version", ("--ssl-version",), _S, "tls_min_version", "The least version: `TLSv1_2` is 1.2, older ones are refused."),
    Entry("cert_reqs", ("--cert-reqs",), _S, "cert_reqs", "0, 1 and 2 are none, optional and required."),
    Entry("ca_certs", ("--ca-certs",), _S, "ca_certs", _HOOK),
    Entry("suppress_ragged_eofs", ("--suppress-ragged-eofs",), _N, "", "a client that ends without a goodbye is no error", True),
    Entry("do_handshake_on_connect", ("--do-handshake-on-connect",), _N, "", "handshakes wait in the loop, and hold up nobody", True),
    Entry("ciphers", ("--ciphers",), _S, "ciphers", "Of TLS 1.2."),
    Entry("http_protocols", ("--http-protocols",), _R, "", _HTTP2, False, ("h1", None, "")),
    Entry("http2_cleartext", ("--http2-cleartext",), _R, "", _HTTP2, False, ("off", None, False)),
    Entry("http2_max_concurrent_streams", ("--http2-max-concurrent-streams",), _N, "", "HTTP/2 is not spoken"),
    Entry("http2_initial_window_size", ("--http2-initial-window-size",), _N, "", "HTTP/2 is not spoken"),
    Entry("http2_max_frame_size", ("--http2-max-frame-size",), _N, "", "HTTP/2 is not spoken"),
    Entry("http2_max_header_list_size", ("--http2-max-header-list-size",), _N, "", "HTTP/2 is not spoken"),
    Entry("raw_paste_global_conf", ("--paste-global",), _N, "", "it goes with --paste"),
    Entry("permit_obsolete_folding", ("--permit-obsolete-folding",), _R, "", _OPTIONAL_HTTP, True, (False, None)),
    Entry("strip_header_spaces", ("--strip-header-spaces",), _R, "", _OPTIONAL_HTTP, True, (False, None)),
    Entry("permit_unconventional_http_method", ("--permit-unconventional-http-method",), _N, "", "a method is any token of RFC 9110, in either case", True),
    Entry("permit_unconventional_http_version", ("--permit-unconventional-http-version",), _R, "", _OPTIONAL_HTTP, True, (False, None)),
    Entry("casefold_http_method", ("--casefold-http-method",), _R, "", _OPTIONAL_HTTP, True, (False, None)),
    Entry("forwarder_headers", ("--forwarder-headers",), _N, "", "`forwarded_allow_ips` decides on all fields that only a proxy may send"),
    Entry("header_map", ("--header-map",), _R, "", "fields with an underscore are dropped, so that they cannot forge others: have the client use hyphens", False, ("drop", None)),
    Entry("asgi_loop", ("--asgi-loop",), _N, "", ASGI),
    Entry("asgi_lifespan", ("--asgi-lifespan",), _N, "", ASGI),
    Entry("asgi_disconnect_grace_period", ("--asgi-disconnect-grace-period",), _N, "", ASGI),
    Entry("websocket_max_message_size", ("--websocket-max-message-size",), _N, "", ASGI),
    Entry("http_parser", ("--http-parser",), _N, "", "there is one parser"),
    Entry("root_path", ("--root-path",), _R, "", "set SCRIPT_NAME in a middleware of the application, where the proxy does not cut the prefix off", False, ("", None)),
    Entry("dirty_apps", ("--dirty-app",), _R, "", _TASKS, False, ([], (), None)),
    Entry("dirty_workers", ("--dirty-workers",), _R, "", _TASKS, False, (0, "0", None)),
    Entry("dirty_timeout", ("--dirty-timeout",), _N, "", _TASKS),
    Entry("dirty_threads", ("--dirty-threads",), _N, "", _TASKS),
    Entry("dirty_graceful_timeout", ("--dirty-graceful-timeout",), _N, "", _TASKS),
    Entry("on_dirty_starting", (), _N, "", _TASKS),
    Entry("dirty_post_fork", (), _N, "", _TASKS),
    Entry("dirty_worker_init", (), _N, "", _TASKS),
    Entry("dirty_worker_exit", (), _N, "", _TASKS),
    Entry("control_socket", ("--control-socket",), _S, "control_socket", "For forkservectl.", False, (None, "")),
    Entry("control_socket_mode", ("--control-socket-mode",), _N, "", "the control socket is for its owner and root alone"),
    Entry("control_socket_disable", ("--no-control-socket",), _S, "control_socket", "It is none then.", True, (False, None)),
)
# fmt: on

ENTRIES = {entry.name: entry for entry in TABLE}
