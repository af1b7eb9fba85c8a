"""``forkserve init``: the files of a deployment, for the application of a directory.

``look`` reads what is there and executes none of it, ``render`` writes texts from the templates,
``verify`` checks them with the programs that will read them, ``command`` is what the operator sees.
Nothing of it is imported by a server.
"""
