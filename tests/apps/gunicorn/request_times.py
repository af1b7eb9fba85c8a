"""The pattern of a stop-watch around requests, with what is remembered on ``worker``."""

import time

bind = "127.0.0.1:0"


def pre_request(worker, req):
    worker.began = time.monotonic()


def post_request(worker, req, *rest):
    took = time.monotonic() - worker.began
    worker.log.info("%s %s took %d seconds", req.method, req.uri, took)
