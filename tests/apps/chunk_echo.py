"""Code for uWSGI: each chunk of the request is answered with itself, as soon as it is there."""

import uwsgi


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    if environ["PATH_INFO"] == "/up/patient":
        timeouts = (-1,)
    else:
        timeouts = ()
    while True:
        chunk = uwsgi.chunked_read(*timeouts)
        if not chunk:
            return
        yield chunk
