"""The settings of the logs, and of what is told of a request besides."""

from dataclasses import dataclass

from forkserve.net.syslog import check_log_address
from forkserve.settings import kinds
from forkserve.settings.declaration import declare as _declare


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """A part of ``Settings``."""

    # fmt: off
    access_logfile: str | None = _declare(
        "Logging", None, kinds.text("FILE", none=True, check=check_log_address),
        "File for the access log; - is standard output; syslog+unix:///dev/log and "
        "syslog+udp://HOST:514 are a syslog (RFC 5424).",
        "A proxy in front usually writes one already. USR1 opens a file anew after a rotation.",
        "--access-logfile",
    )
    access_log_format: str = _declare(
        "Logging", "combined", kinds.text("FORMAT"),
        "common, combined, json (one object a line), or a format of Gunicorn's atoms: %(h)s "
        "%({host}i)s %({content-length}o)s %({forkserve.request_id}e)s ...",
        "What clients send is escaped in it.",
        "--access-logformat", "--access-log-format",
    )
    error_logfile: str = _declare(
        "Logging", "-", kinds.text("FILE", check=check_log_address),
        "File for the error log; - is standard error; or a syslog, as for the access log.",
        "Under systemd and in containers leave it: the journal takes standard error.",
        "--error-logfile",
    )
    log_level: str = _declare(
        "Logging", "info", kinds.choice("debug", "info", "warning", "error", "critical"),
        "Least level of the lines in the error log.",
        "At warning the start, the stop and the reloads leave no trace.",
        "--log-level",
    )
    log_format: str = _declare(
        "Logging", "auto", kinds.choice("auto", "plain", "json"),
        "How the lines of the error log look: json is one object a line; auto is plain, and in a "
        "terminal colours and short times (no colours if NO_COLOR is set).",
        "json is for programs that collect logs; what the interpreter itself writes when a "
        "process crashes stays text.",
        "--log-format",
    )
    capture_output: bool = _declare(
        "Logging", False, kinds.FLAG,
        "Let what the application writes to standard output and standard error go to the file of "
        "`error_logfile`; nothing changes where that is -.",
        "Not needed under systemd and in containers, which take the standard streams.",
        "--capture-output",
    )
    log_config: str | None = _declare(
        "Logging", None, kinds.LOG_CONFIG,
        "File (TOML or JSON) for logging.config.dictConfig in the workers. Lines of theirs go to "
        "the loggers forkserve.error and forkserve.access, if it names them.",
        "Only where the logs have to go to where the settings above cannot send them: each line "
        "costs several times as much.",
        "--log-config",
    )
    request_id: str = _declare(
        "Logging", "trust", kinds.choice("off", "trust", "make"),
        "Give each request an id, as environ['forkserve.request_id'] and HTTP_X_REQUEST_ID. "
        "trust: that of X-Request-Id, if a proxy in `forwarded_allow_ips` sends it, else a new "
        "one; make: always a new one.",
        "off leaves X-Request-Id as the client sent it, whoever that is.",
        "--request-id",
    )
    request_id_header: bool = _declare(
        "Logging", False, kinds.FLAG,
        "Send the id of the request as X-Request-Id in the response, unless the application sends "
        "one itself.",
        "Where a proxy in front adds the field, it would be there twice.",
        "--request-id-header",
    )
    # fmt: on
