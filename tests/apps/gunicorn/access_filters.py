"""The pattern of health checks that leave no line in the access log, and of handlers that are looked
at or added to through the logs of ``server.log``."""

import logging
import os

bind = "127.0.0.1:0"
workers = 2
accesslog = os.path.join(os.environ["STATE"], "access.log")
access_log_format = '%(h)15s "%(r)s" %(s)s %(D)s'


class NoProbes(logging.Filter):
    def filter(self, record):
        return record.args["U"] != "/hello" and "/cwd" not in record.getMessage()


class OneLine(logging.Formatter):
    def format(self, record):
        return super().format(record).replace("\n", " | ")


def on_starting(server):
    server.log.access_log.addFilter(NoProbes())
    for handler in server.log.error_log.handlers:
        handler.setFormatter(OneLine())
    server.log.info(
        "workers %s, preload %s", server.app.cfg.workers, server.cfg.settings["preload_app"].value
    )


def pre_request(worker, req):
    if req.path == "/environ":
        req.scheme = "https"


def post_worker_init(worker):
    worker.log.error_log.info("serves %s of %s", worker.app.wsgi().__name__, worker.app.app_uri)
