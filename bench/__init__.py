"""Measures site.yml against the least that a script would have to do."""
