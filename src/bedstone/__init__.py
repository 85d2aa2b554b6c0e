"""Release, back up, restore and watch the apps of one server: the host program."""

__version__ = "0.1.0"
