"""Whether anything is lost: clients that count, and what happens to a server meanwhile."""
