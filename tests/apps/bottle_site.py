"""A Bottle application. ``FILES`` in the environment is a directory that it serves."""

import hashlib
import os

import bottle
from bottle import request, response

application = bottle.Bottle()


@application.get("/")
def index():
    return "index"


@application.get("/stream")
def stream():
    response.content_type = "text/csv"
    return (f"{number}\n" for number in range(2000))


@application.post("/form")
def form():
    file = request.files["file"]
    return {"name": request.forms["name"], "size": len(file.file.read())}


@application.post("/upload")
def upload():
    return {"sha256": hashlib.sha256(request.body.read()).hexdigest()}


@application.post("/ignore")
def ignore():
    return "ignored"


@application.get("/files/<name>")
def files(name):
    return bottle.static_file(name, root=os.environ["FILES"])


@application.route("/broken", method=["GET", "POST"])
def broken():
    raise RuntimeError("failed on purpose")


@application.get("/breaks")
def breaks():
    yield "one"
    raise RuntimeError("failed on purpose")
