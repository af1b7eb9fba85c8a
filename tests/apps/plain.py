"""A WSGI application with a route for everything that the tests ask of a server."""

import atexit
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time


def application(environ, start_response):
    route = environ["PATH_INFO"].strip("/").split("/")[0] or "hello"
    return globals()[f"do_{route}"](environ, start_response)


def answer(start_response, body, *headers, status="200 OK"):
    start_response(status, [("Content-Type", "text/plain"), *headers])
    return [body]


def do_hello(environ, start_response):
    return answer(start_response, b"hello")


def do_pid(environ, start_response):
    return answer(start_response, b"%d" % os.getpid())


def do_slot(environ, start_response):
    return answer(start_response, b"%d" % environ["forkserve.slot"])


def do_generation(environ, start_response):
    return answer(start_response, b"%d" % environ["forkserve.generation"])


def do_environ(environ, start_response):
    name = environ["QUERY_STRING"]
    return answer(start_response, str(environ.get(name, os.environ.get(name))).encode())


def do_cwd(environ, start_response):
    return answer(start_response, os.getcwd().encode())


def do_ids(environ, start_response):
    text = f"{os.getresuid()} {os.getresgid()} {sorted(os.getgroups())} {os.umask(0o22):03o}"
    return answer(start_response, text.encode())


def do_sum(environ, start_response):
    checksum, length = hashlib.sha256(), 0
    while block := environ["wsgi.input"].read(65536):
        checksum.update(block)
        length += len(block)
    return answer(start_response, f"{length} {checksum.hexdigest()}".encode())


def do_ignore(environ, start_response):
    return answer(start_response, b"ignored")


def do_stream(environ, start_response):
    """?N: N mebibytes."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    block = b"x" * 65536
    for _ in range(16 * int(environ["QUERY_STRING"])):
        yield block


def do_endless(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    while True:
        yield b"x" * 65536


def do_early(environ, start_response):
    """Begin the response, and read the body then."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"early "
    yield b"%d" % len(environ["wsgi.input"].read())


def do_fail(environ, start_response):
    raise RuntimeError("failed on purpose")


def do_failing(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"one"
    raise RuntimeError("failed on purpose, in the middle")


def do_exit(environ, start_response):
    os._exit(7)


def do_kill(environ, start_response):
    """?N: with the signal N."""
    os.kill(os.getpid(), int(environ["QUERY_STRING"] or signal.SIGSEGV))
    time.sleep(60)


def do_fork(environ, start_response):
    """Tell the pid of a child that outlives the request."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    return answer(start_response, b"%d" % pid)


def do_multiprocessing(environ, start_response):
    """Tell the pid of a child that outlives the request, until the worker ends."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    return answer(start_response, b"%d" % child.pid)


def do_wait(environ, start_response):
    """Say so, and wait until somebody writes to the FIFO ?NAME."""
    print("waiting", file=sys.stderr, flush=True)
    open(environ["QUERY_STRING"]).close()
    return answer(start_response, b"waited")


def do_spin(environ, start_response):
    print("spinning", file=sys.stderr, flush=True)
    while True:
        pass


def do_sleep(environ, start_response):
    print("sleeping", file=sys.stderr, flush=True)
    time.sleep(float(environ["QUERY_STRING"] or 600))
    return answer(start_response, b"slept")


def do_print(environ, start_response):
    environ["wsgi.errors"].write("to wsgi.errors: \u20ac\n")
    environ["wsgi.errors"].writelines(["and ", "more\n"])
    environ["wsgi.errors"].flush()
    return answer(start_response, b"printed")


class Site:
    wsgi = staticmethod(application)


def make(name="made"):
    def app(environ, start_response):
        return answer(start_response, name.encode())

    return app


site = Site()
not_callable = 5


def do_child_that_returns(environ, start_response):
    if os.fork() == 0:
        sys.exit(0)
    os.wait()
    time.sleep(60)


def do_thread(environ, start_response):
    """Work that is still under way when the worker is told to end."""
    ended = threading.Event()
    atexit.register(ended.set)  # which comes after the threads

    def work():
        ended.wait(0.3)
        print("too late" if ended.is_set() else "the thread is done", file=sys.stderr)

    threading.Thread(target=work).start()
    return answer(start_response, b"started")


def do_no_stdout(environ, start_response):
    sys.stdout = object()
    return answer(start_response, b"gone")


def do_unshowable(environ, start_response):
    raise SyntaxError("x", ("f", 1, "abc", "text"))
