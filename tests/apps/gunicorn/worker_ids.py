"""The pattern of small numbers for workers, the lowest that is free: attributes of their own on
``server`` and ``worker``, given before the fork and read behind it."""

import os

bind = "127.0.0.1:0"
workers = 3


def nworkers_changed(server, new_value, old_value):
    server._most = new_value


def _free(server):
    taken = {worker._number for worker in server.WORKERS.values() if worker.alive}
    return min(set(range(1, server._most + len(taken) + 1)) - taken)


def pre_fork(server, worker):
    worker._number = _free(server)


def post_fork(server, worker):
    os.environ["WORKER_NUMBER"] = str(worker._number)
    worker.log.info("number %s is worker %s", worker._number, worker.pid)
