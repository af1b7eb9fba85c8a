"""The pattern of a file that names nearly every setting, mostly at its default."""

import multiprocessing

bind = "127.0.0.1:0"
backlog = 2048
workers = min(multiprocessing.cpu_count() * 2 + 1, 4)
worker_class = "sync"
worker_connections = 1000
threads = 2
timeout = 120
keepalive = 5
graceful_timeout = 30
max_requests = 1000
max_requests_jitter = 50
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 8190
accesslog = "-"
errorlog = "-"
loglevel = "info"
access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(D)s'
proc_name = "portal"
daemon = False
pidfile = None
umask = 0o007
user = None
group = None
tmp_upload_dir = None
worker_tmp_dir = "/dev/shm"
preload_app = False
reload = False
spew = False
capture_output = True
enable_stdio_inheritance = True
reuse_port = True
keyfile = None
certfile = None
forwarded_allow_ips = "*"
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
ssl_session_cache = None  # which is no setting, and so is not read
