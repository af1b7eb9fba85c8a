"""The logger "gunicorn.error", which applications and hooks write to, or let theirs be like.

It is in the tree of the logging module, unlike the server's own, and an application may do with it
what it likes.
"""

import logging

_NAME = "gunicorn.error"


def lend(log: logging.Logger) -> None:
    """Let what is said to "gunicorn.error" in this process go where ``log`` writes."""
    lent = logging.getLogger(_NAME)
    lent.handlers[:] = log.handlers  # the list itself: others refer to it
    lent.setLevel(log.level)
    lent.propagate = False


def with_both(log: logging.Logger) -> logging.Logger:
    """``log`` as hooks know Gunicorn's: the loggers of both logs are attributes of it. What is
    filtered out of "gunicorn.access" is not in the access log either (see ``ops.access``)."""
    log.__dict__.update(error_log=log, access_log=logging.getLogger("gunicorn.access"))
    return log


def take_back() -> None:
    """Where `log_config` is to say what becomes of that logger: nothing is left of what the master
    has lent, which its children have too. Else its lines would never come to the root."""
    lent = logging.getLogger(_NAME)
    lent.handlers[:] = []
    lent.setLevel(logging.NOTSET)
    lent.propagate = True
