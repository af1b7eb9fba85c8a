"""A worker: one loop, its connections, one application.

``main`` is what runs after the fork; ``loop`` waits and knows epoll, in the thread of the ``crew``
that has the ``lead``; ``admission`` is what comes in, ``sharing`` what goes out to siblings. A
``connection`` is one client, in the states of ``state``: ``stream`` has its socket, ``intake``
takes its requests in, ``preface`` is what may come before the first. ``exchange`` is one request
and its response, ``body`` brings its body in; ``service`` is what all connections share.
"""
