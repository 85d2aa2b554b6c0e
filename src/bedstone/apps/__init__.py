"""The declared apps and the containers that run them."""
