"""The pattern of filters on loggers, and of a logger of one's own in hooks."""

import logging

bind = "127.0.0.1:0"
logger = logging.getLogger("gunicorn.error")


class Quiet(logging.Filter):
    def filter(self, record):
        return "noise" not in record.getMessage()


def _silence():
    for name in ("gunicorn.error", "gunicorn.access", ""):
        logging.getLogger(name).addFilter(Quiet())


def when_ready(server):
    _silence()
    server.log.addFilter(Quiet())
    server.log.info("noise")


def post_worker_init(worker):
    _silence()
    logger.warning("said by a logger of its name")
    logger.info("noise")
    worker.log.info("filters are in place")
