"""What operators see: the scoreboard, and what is made of it; the error log, the access log."""
