"""The pattern of logs by a table for dictConfig: objects in it, no version, two files."""

import logging
import os

bind = "127.0.0.1:0"
workers = 1
access_log_format = '%(h)s "%(r)s" %(s)s'
_DIRECTORY = os.environ["STATE"]


class Quiet(logging.Filter):
    def filter(self, record):
        return record.args["U"] != "/cwd"


def _file(name):
    return {
        "class": "logging.FileHandler",
        "filename": os.path.join(_DIRECTORY, name),
        "formatter": "plain",
    }


logconfig_dict = {
    "filters": {"quiet": {"()": Quiet}},
    "formatters": {"plain": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {"errors": _file("errors"), "accesses": _file("accesses")},
    "root": {"level": "INFO", "handlers": ["errors"]},
    "loggers": {
        "gunicorn.error": {
            "level": "INFO",
            "handlers": ["errors"],
            "propagate": 0,
            "qualname": "gunicorn.error",
        },
        "gunicorn.access": {
            "level": "INFO",
            "handlers": ["accesses"],
            "filters": ["quiet"],
            "propagate": 0,
        },
    },
}


def post_worker_init(worker):
    worker.log.info("ready to serve")
