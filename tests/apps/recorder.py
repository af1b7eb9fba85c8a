"""A WSGI application that reads what it is sent, and says how much that was; /large is 100 KiB."""

LARGE = b"x" * 102400


def application(environ, start_response):
    length = len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [LARGE if environ["PATH_INFO"] == "/large" else b"%d" % length]
