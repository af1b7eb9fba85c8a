"""A Flask application as people write them."""

import csv
import io

from flask import Flask, Response, jsonify, request, send_file

app = Flask(__name__)


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
