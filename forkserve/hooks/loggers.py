"""The logger "gunicorn.error", which applications and hooks write to, or let theirs be like.

It is in the tree of the logging module, unlike the server's own, and an application may do with it
what it likes.
"""

import logging


def lend(log: logging.Logger) -> None:
    """Let what is said to "gunicorn.error" in this process go where ``log`` writes."""
    lent = logging.getLogger("gunicorn.error")
    lent.handlers[:] = log.handlers  # the list itself: others refer to it
    lent.setLevel(log.level)
    lent.propagate = False
