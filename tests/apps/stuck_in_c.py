"""An application that holds the interpreter in C code, where no signal handler of Python runs."""

import collections
import itertools


def application(environ, start_response):
    collections.deque(itertools.repeat(1), maxlen=0)
