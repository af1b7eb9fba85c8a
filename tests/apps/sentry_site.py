"""The application of plain.py in Sentry's middleware, which prints what it would report."""

import sys

import plain
import sentry_sdk
from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware


def report(event, hint):
    for value in event["exception"]["values"]:
        print("reported", value["type"], event["request"]["url"], file=sys.stderr, flush=True)


sentry_sdk.init("http://key@127.0.0.1/1", before_send=report, default_integrations=False)
application = SentryWsgiMiddleware(plain.application)
