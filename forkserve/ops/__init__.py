"""What operators see: the scoreboard, the error log, the access log."""
