"""The master: binds, forks, watches, replaces. It never runs application code and never blocks.

What is decided is pure, and what is done follows it:

    supervisor   the workers          shell does it (parts: roster, changes, strength, wear)
    upgrade      the next master      succession does it
    attendant    the status process   attendance does it
    drain        a TERM that waits    presence does it

``shell`` has the loop, too. ``spawn`` and ``template`` fork, ``channels`` speak with the workers,
``generations`` hold what is open, ``reading`` reads the settings of a reload. ``control`` is for
operators, behind the sockets of ``reception``.
"""
