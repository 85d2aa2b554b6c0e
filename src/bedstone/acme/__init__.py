"""Certificates by ACME: when one is due, the checks before the authority is asked, and its use."""
