"""A worker: one loop, its connections, one application.

``main`` is what runs after the fork; ``loop`` waits and knows epoll; ``connection`` knows one
client; ``exchange`` is one request and its response; ``body`` brings a request's body in.
"""
