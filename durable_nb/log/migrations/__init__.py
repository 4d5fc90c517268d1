"""Numbered SQL files, applied forward in order. A log's `user_version` is the number of the last one applied to it."""
