"""forkserve beside other servers, measured in one run. ``make bench``; see README.rst here."""
