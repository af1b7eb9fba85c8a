"""Gunicorn's hooks: the operator's own functions, called by the master and by the workers.

They run where they run in Gunicorn, and share what is shared there: a module of hooks is run once
in the master, and each worker has a copy of it from its fork. So what ``pre_fork`` writes on
``worker``, or in a variable of the file, is there in ``post_fork``; a process of their own for the
master's hooks would break that. It is the one code in the master that is not its own, and the
price is the operator's: a hook that takes long holds the master up (the workers go on), which the
log says, and one that never returns stops it. What a hook raises is a line in the log.
"""
