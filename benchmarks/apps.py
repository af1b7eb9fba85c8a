"""The application that every server serves: one route a scenario."""

import zlib

_HELLO = b"Hello, world!\n"
_HELLO_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(_HELLO)))]
_BLOCK = b"x" * 1024
_BYTES = b"y" * 100_000
_BYTES_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(_BYTES)))]


def hello(environ, start_response):
    start_response("200 OK", _HELLO_HEADERS)
    return [_HELLO]


def stream10(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (_BLOCK for _ in range(10))


def bytes100k(environ, start_response):
    start_response("200 OK", _BYTES_HEADERS)
    return [_BYTES]


def upload(environ, start_response):
    """Read the body as an application must, and answer with its length; with ?sum its checksum."""
    length, checksum = 0, 0
    file = environ["wsgi.input"]
    summing = environ["QUERY_STRING"] == "sum"
    while block := file.read(65536):
        length += len(block)
        if summing:
            checksum = zlib.crc32(block, checksum)
    body = b"%d %08x\n" % (length, checksum)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def flask(environ, start_response):
    from benchmarks.flask_app import app

    return app(environ, start_response)


_ROUTES = {
    "/hello": hello,
    "/stream10": stream10,
    "/bytes100k": bytes100k,
    "/upload": upload,
    "/flask": flask,
}


def application(environ, start_response):
    return _ROUTES.get(environ["PATH_INFO"], hello)(environ, start_response)
