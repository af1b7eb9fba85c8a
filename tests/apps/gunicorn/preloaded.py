"""The pattern of an application that is loaded once: what it has opened is closed in each worker,
and one of them does what only one may do."""

import fcntl
import os

bind = "127.0.0.1:0"
workers = 2
preload_app = True
max_requests = 500
max_requests_jitter = 50


def pre_fork(server, worker):
    worker.made_by = os.getpid()


def post_fork(server, worker):
    worker.log.info("forked by %s, which is not %s", worker.made_by, os.getpid())
    lock = os.open(os.path.join(os.environ["STATE"], "lock"), os.O_CREAT | os.O_WRONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    worker.log.info("worker %s runs the tasks in the background", worker.pid)
