"""Bundles: a run with its history and its code in one file, to be looked at, replayed and kept as a test elsewhere."""
