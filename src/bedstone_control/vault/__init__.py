"""The secrets of an inventory."""
