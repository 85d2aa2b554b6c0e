"""Define the steps that put a release of an app into service."""
