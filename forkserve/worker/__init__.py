"""A worker: one loop, its connections, one application.

``main`` is what runs after the fork; ``loop`` waits and knows epoll; ``connection`` knows one
client, in the states of ``state``, over the socket of ``stream``; ``preface`` is what may come
before the first request; ``exchange`` is one request and its response; ``body`` brings a request's
body in; ``service`` is what all connections share.
"""
