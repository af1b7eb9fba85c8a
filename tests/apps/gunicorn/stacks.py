"""The pattern of stacks in the log when a worker is aborted or interrupted."""

import sys
import threading
import traceback

bind = "127.0.0.1:0"
timeout = 1


def _stacks(worker):
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        worker.log.info("thread %s\n%s", names.get(ident), "".join(traceback.format_stack(frame)))


def worker_int(worker):
    worker.log.info("worker received INT or QUIT signal")
    _stacks(worker)


def worker_abort(worker):
    worker.log.info("worker received SIGABRT signal")
    _stacks(worker)
