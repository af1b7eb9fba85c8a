"""A Pyramid application. ``FILES`` in the environment is a directory that it serves."""

import hashlib
import os

from pyramid.config import Configurator
from pyramid.response import FileResponse, Response


def index(request):
    return Response("index", content_type="text/plain")


def stream(request):
    return Response(app_iter=(b"%d\n" % number for number in range(2000)), content_type="text/csv")


def form(request):
    file = request.POST["file"]
    return {"name": request.POST["name"], "size": len(file.file.read())}


def upload(request):
    return {"sha256": hashlib.sha256(request.body).hexdigest()}


def ignore(request):
    return Response("ignored")


def files(request):
    path = os.path.join(os.environ["FILES"], request.matchdict["name"])
    response = FileResponse(path, request)
    response.conditional_response = True
    return response


def broken(request):
    raise RuntimeError("failed on purpose")


def breaks(request):
    def blocks():
        yield b"one"
        raise RuntimeError("failed on purpose")

    return Response(app_iter=blocks())


with Configurator() as config:
    for view in (index, stream, form, upload, ignore, broken, breaks, files):
        name = view.__name__
        pattern = {"index": "/", "files": "/files/{name}"}.get(name, f"/{name}")
        config.add_route(name, pattern)
        renderer = "json" if view in (form, upload) else None
        config.add_view(view, route_name=name, renderer=renderer)
    application = config.make_wsgi_app()
