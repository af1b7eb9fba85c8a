"""A Flask application as people write them."""

import csv
import hashlib
import io
import os

from flask import Flask, Response, jsonify, request, send_file, send_from_directory
from werkzeug.debug import DebuggedApplication

app = application = Flask(__name__)


@app.get("/json")
def as_json():
    return jsonify(answer=42, args=request.args)


@app.get("/csv")
def as_csv():
    def rows():
        for number in range(1000):
            line = io.StringIO()
            csv.writer(line).writerow([number, number * number])
            yield line.getvalue()

    return Response(rows(), mimetype="text/csv")


@app.get("/stream")
def stream():
    return Response((f"{number}\n" for number in range(2000)), mimetype="text/csv")


@app.route("/broken", methods=["GET", "POST"])
def broken():
    raise RuntimeError("failed on purpose")


@app.post("/form")
def form():
    file = request.files["file"]
    return jsonify(name=request.form["name"], filename=file.filename, size=len(file.read()))


@app.post("/ignore")
def ignore():
    return "ignored"


@app.post("/fails")
def fails():
    raise RuntimeError("failed on purpose")


@app.get("/breaks")
def breaks():
    def blocks():
        yield "one"
        raise RuntimeError("failed on purpose")

    return Response(blocks())


@app.get("/file")
def file():
    return send_file(request.args["path"], mimetype="application/octet-stream")


@app.get("/debugged")
def debugged():
    """What the debugger shows needs no route, but the frame of one."""
    secret = 42
    raise RuntimeError(f"failed on purpose, {secret}")


@app.get("/")
def index():
    return "index"


@app.post("/upload")
def upload():
    checksum = hashlib.sha256()
    while block := request.stream.read(65536):
        checksum.update(block)
    return jsonify(sha256=checksum.hexdigest())


@app.get("/files/<name>")
def files(name):
    return send_from_directory(os.environ["FILES"], name, conditional=True)


def debugger():
    """The application in Werkzeug's debugger, without its PIN."""
    app.debug = True
    return DebuggedApplication(app, evalex=True, pin_security=False)
