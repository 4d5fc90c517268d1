"""Leaving the notebook: a plain Python script of its tasks."""
