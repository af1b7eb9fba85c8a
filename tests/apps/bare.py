"""An application that imports nothing that its server has not imported already."""

import os


def application(environ, start_response):
    umask = os.umask(0o22)
    os.umask(umask)
    text = f"{os.getresuid()} {os.getresgid()} {sorted(os.getgroups())} {umask:03o}"
    start_response("200 OK", [])
    return [text.encode()]
