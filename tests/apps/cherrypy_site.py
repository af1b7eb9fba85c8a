"""A CherryPy application, mounted as WSGI: its engine and its server do not run.

``FILES`` in the environment is a directory that it serves, and keeps its sessions in.
"""

import hashlib
import os

import cherrypy

FILES = os.environ["FILES"]


class Site:
    @cherrypy.expose
    def index(self):
        return "index"

    @cherrypy.expose
    def stream(self):
        cherrypy.response.headers["Content-Type"] = "text/csv"
        return (f"{number}\n" for number in range(2000))

    stream._cp_config = {"response.stream": True}

    @cherrypy.expose
    @cherrypy.tools.json_out()
    def form(self, name, file):
        return {"name": name, "size": len(file.file.read())}

    @cherrypy.expose
    @cherrypy.config(**{"request.process_request_body": False})
    @cherrypy.tools.json_out()
    def upload(self):
        octets = cherrypy.request.rfile.read(int(cherrypy.request.headers["Content-Length"]))
        return {"sha256": hashlib.sha256(octets).hexdigest()}

    @cherrypy.expose
    @cherrypy.config(**{"request.process_request_body": False})
    def ignore(self):
        return "ignored"

    @cherrypy.expose
    @cherrypy.config(**{"request.process_request_body": False})
    def broken(self):
        raise RuntimeError("failed on purpose")

    @cherrypy.expose
    def broken_stream(self):
        """Fails before its first block."""
        raise RuntimeError("failed on purpose")
        yield "never"

    broken_stream._cp_config = {"response.stream": True}

    @cherrypy.expose
    def breaks(self):
        yield "one"
        raise RuntimeError("failed on purpose")

    breaks._cp_config = {"response.stream": True}

    @cherrypy.expose
    def breaks_in_its_page(self):
        """Not streamed: the page is collected before anything of it is sent."""
        yield "one"
        raise RuntimeError("failed on purpose")

    @cherrypy.expose
    def count(self):
        """Requests of this session."""
        cherrypy.session["count"] = cherrypy.session.get("count", 0) + 1
        return str(cherrypy.session["count"])

    count._cp_config = {
        "tools.sessions.on": True,
        "tools.sessions.storage_class": cherrypy.lib.sessions.FileSession,
        "tools.sessions.storage_path": FILES,
    }


cherrypy.config.update({"environment": "embedded", "request.show_tracebacks": False})
application = cherrypy.Application(
    Site(), "", {"/files": {"tools.staticdir.on": True, "tools.staticdir.dir": FILES}}
)
