"""An application between two validators of the contract, each of which fails where it is broken."""

import importlib
from wsgiref.validate import validator

from paste import lint


def make(module):
    application = importlib.import_module(module).application
    return validator(lint.middleware(application))
