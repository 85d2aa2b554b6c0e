"""A release as a transaction: plan, run, undo, reconcile."""
