"""The application under test. It notes each request that it is called for, by its id.

Requests are ``/route?ID`` or ``/route?ID&ARGUMENT``. A note goes to the file that SOAK_NOTES names,
in one write of a file opened for appending, so that workers need no agreement.
"""

import atexit
import collections
import itertools
import os
import socket
import struct
import sys
import time
import zlib

NOTE = struct.Struct("=QI")
"""The id and the pid."""

CALL = struct.Struct("=QIdd")
"""Of a call that is timed: the id, the pid, and when it began and ended (monotonic), the note and
the sleep. They go to a file beside that of the notes, when the worker ends."""

LEAK = int(os.environ.get("SOAK_LEAK", "0"))
"""Octets that each call leaves behind."""

_leaked = []
_notes = os.open(os.environ["SOAK_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)


_calls = []


@atexit.register
def _write_calls():
    if _calls:
        with open(os.environ["SOAK_NOTES"] + ".calls", "ab") as file:
            file.write(b"".join(_calls))


def note(number):
    os.write(_notes, NOTE.pack(number, os.getpid()))


def block(number, index):
    """One of a stream's blocks. No two are the same, whatever the request and the place."""
    return b"%016x %06d;" % (number, index) * 40


def fast(environ, start_response, number, argument):
    return answer(start_response, b"fast %d" % number)


def slow(environ, start_response, number, argument):
    """?ID&SECONDS"""
    time.sleep(float(argument))
    return answer(start_response, b"slow %d" % number)


def timed(environ, start_response, number, argument):
    """?ID&SECONDS, and how long it really took is told."""
    began = time.monotonic()
    note(number)
    time.sleep(float(argument))
    _calls.append(CALL.pack(number, os.getpid(), began, time.monotonic()))
    return answer(start_response, b"timed %d" % number)


def upload(environ, start_response, number, argument):
    length, checksum = 0, 0
    while octets := environ["wsgi.input"].read(65536):
        length += len(octets)
        checksum = zlib.crc32(octets, checksum)
    return answer(start_response, b"%d: %d %08x" % (number, length, checksum))


def stream(environ, start_response, number, argument):
    """?ID&BLOCKS,SECONDS: with a pause before each block."""
    blocks, _, pause = argument.partition(",")
    start_response("200 OK", [("Content-Type", "text/plain")])
    for index in range(int(blocks)):
        time.sleep(float(pause))
        yield block(number, index)


def wait(environ, start_response, number, argument):
    """?ID&FIFO: until somebody opens it for writing."""
    print("waiting", file=sys.stderr, flush=True)
    with open(argument):
        pass
    return answer(start_response, b"wait %d" % number)


def spin(environ, start_response, number, argument):
    while True:
        pass


def receive(environ, start_response, number, argument):
    """From somebody who never says anything."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


def hold(environ, start_response, number, argument):
    """Hold the interpreter's lock in C code."""
    collections.deque(itertools.repeat(1), maxlen=0)


def answer(start_response, body):
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


ROUTES = {
    "/fast": fast,
    "/slow": slow,
    "/timed": timed,
    "/upload": upload,
    "/stream": stream,
    "/wait": wait,
    "/spin": spin,
    "/receive": receive,
    "/hold": hold,
}


def application(environ, start_response):
    route = environ["PATH_INFO"]
    number, _, argument = environ["QUERY_STRING"].partition("&")
    if LEAK:
        _leaked.append(b"x" * LEAK)
    if route != "/timed":
        note(int(number))
    return ROUTES[route](environ, start_response, int(number), argument)
