"""The API of the stand-in for SRQ HPN."""
