"""The pattern of a file for containers: every value from the environment, with a default."""

import os

bind = f"{os.getenv('APP_HOST', '127.0.0.1')}:{os.getenv('APP_PORT', '0')}"
workers = int(os.getenv("GUNICORN_WORKERS", max(2, 1)))
threads = int(os.getenv("GUNICORN_THREADS", "4"))
timeout = int(os.getenv("GUNICORN_TIMEOUT", "120"))
keepalive = int(os.getenv("GUNICORN_KEEPALIVE", "5"))
loglevel = os.getenv("GUNICORN_LOG_LEVEL", "INFO").lower()
accesslog = os.getenv("GUNICORN_ACCESS_LOG", "-")
forwarded_allow_ips = os.getenv("TRUSTED", "*")
proxy_allow_ips = forwarded_allow_ips
raw_env = [f"BUILD={os.getenv('BUILD', 'none')}"]
