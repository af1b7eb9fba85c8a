"""The pattern of TLS with a context of one's own."""

import os
import ssl

bind = "127.0.0.1:0"
certfile = os.environ["CERTFILE"]
keyfile = os.environ["KEYFILE"]
cert_reqs = ssl.CERT_NONE


def ssl_context(conf, default_ssl_context_factory):
    context = default_ssl_context_factory()
    assert conf.certfile == certfile and conf.is_ssl
    context.verify_mode = conf.cert_reqs
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
