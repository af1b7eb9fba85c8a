"""The pattern of metrics that several processes write to files: those of the dead are removed."""

import glob
import os
import shutil

bind = "127.0.0.1:0"
workers = 2
_DIRECTORY = os.path.join(os.environ["STATE"], "metrics")


def on_starting(server):
    shutil.rmtree(_DIRECTORY, ignore_errors=True)
    os.makedirs(_DIRECTORY)


def post_fork(server, worker):
    with open(os.path.join(_DIRECTORY, f"counter_{worker.pid}.db"), "w"):
        pass


def child_exit(server, worker):
    for path in glob.glob(os.path.join(_DIRECTORY, f"*_{worker.pid}.db")):
        os.remove(path)
