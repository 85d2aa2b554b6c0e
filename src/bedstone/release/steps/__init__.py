"""The steps of a release, each with its undo."""
