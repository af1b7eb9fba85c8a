"""The master: binds, forks, watches, replaces. It never runs application code and never blocks.

``supervisor`` decides and is pure; ``shell`` does what it decides; ``spawn`` forks.
"""
