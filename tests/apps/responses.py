"""Responses that are more than one block: streams, files, hints."""

import sys


def application(environ, start_response):
    route = environ["PATH_INFO"].strip("/")
    return globals()[f"do_{route}"](environ, start_response)


def do_gated(environ, start_response):
    """?FIFO: each block but the first waits for a line in it."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    with open(environ["QUERY_STRING"]) as gate:
        yield b"block 0\n"
        for number in range(1, 10):
            assert gate.readline() == f"{number}\n"
            yield b"block %d\n" % number


def do_large(environ, start_response):
    """200 MB, and no two blocks alike."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    for number in range(3200):
        yield b"%08d" % number * 8192


class Endless:
    """Says in the log when it is closed."""

    def __iter__(self):
        return self

    def __next__(self):
        return b"x" * 65536

    def close(self):
        print("closed", file=sys.stderr, flush=True)


def do_endless(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return Endless()


def do_hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def do_hints(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hinted"]
