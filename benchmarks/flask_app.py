"""A small Flask view."""

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/flask")
def view():
    return jsonify(greeting="Hello", name=request.args.get("name", "world"))
