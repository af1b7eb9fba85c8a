"""An application that takes long, and always makes progress."""

import time


def application(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        while environ["wsgi.input"].read(100000):
            pass
        start_response("200 OK", [])
        return [b"read"]
    start_response("200 OK", [])
    return stream()


def stream():
    for _ in range(15):
        time.sleep(0.1)
        yield b"x"
