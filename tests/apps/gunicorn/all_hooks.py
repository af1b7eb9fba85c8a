"""The pattern of Gunicorn's example file: a function for each hook, which says that it was called."""

bind = "127.0.0.1:0"
workers = 2


def on_starting(server):
    server.log.info("hook on_starting %s", server.cfg.workers)


def on_reload(server):
    server.log.info("hook on_reload")


def when_ready(server):
    server.log.info("hook when_ready %s %s", server.address, len(server.LISTENERS))


def pre_fork(server, worker):
    server.log.info("hook pre_fork %s %s", worker.pid, worker.age)


def post_fork(server, worker):
    server.log.info("hook post_fork %s %s", worker.pid, worker.age)


def post_worker_init(worker):
    worker.log.info("hook post_worker_init %s %s", worker.pid, worker.booted)


def worker_int(worker):
    worker.log.info("hook worker_int %s", worker.pid)


def worker_abort(worker):
    worker.log.info("hook worker_abort %s", worker.pid)


def pre_exec(server):
    server.log.info("hook pre_exec %s", server.pid)


def pre_request(worker, req):
    worker.log.info("hook pre_request %s %s %s", req.method, req.path, dict(req.headers)["HOST"])


def post_request(worker, req, environ, resp):
    path = environ["PATH_INFO"]
    worker.log.info("hook post_request %s %s %s", path, resp.status, resp.sent)


def child_exit(server, worker):
    server.log.info("hook child_exit %s", worker.pid)


def worker_exit(server, worker):
    worker.log.info("hook worker_exit %s %s", worker.pid, worker.nr)


def nworkers_changed(server, new_value, old_value):
    server.log.info("hook nworkers_changed %s %s", new_value, old_value)


def on_exit(server):
    server.log.info("hook on_exit %s", len(server.WORKERS))
