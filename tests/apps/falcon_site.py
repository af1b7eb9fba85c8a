"""A Falcon application, of its WSGI side. ``FILES`` in the environment is a directory to serve."""

import hashlib
import os

import falcon


class Index:
    def on_get(self, request, response):
        response.text = "index"


class Stream:
    def on_get(self, request, response):
        response.content_type = "text/csv"
        response.stream = (b"%d\n" % number for number in range(2000))


class Form:
    def on_post(self, request, response):
        parts = {part.name: part.get_data() for part in request.media}
        response.media = {"name": parts["name"].decode(), "size": len(parts["file"])}


class Upload:
    def on_post(self, request, response):
        checksum = hashlib.sha256()
        while block := request.bounded_stream.read(65536):
            checksum.update(block)
        response.media = {"sha256": checksum.hexdigest()}


class Ignore:
    def on_post(self, request, response):
        response.text = "ignored"


class Broken:
    def on_get(self, request, response):
        raise RuntimeError("failed on purpose")

    on_post = on_get


class Breaks:
    def on_get(self, request, response):
        def blocks():
            yield b"one"
            raise RuntimeError("failed on purpose")

        response.stream = blocks()


application = falcon.App()
application.add_route("/", Index())
for resource in (Stream, Form, Upload, Ignore, Broken, Breaks):
    application.add_route(f"/{resource.__name__.lower()}", resource())
application.add_static_route("/files", os.environ["FILES"])
