"""The programs of the host: Docker, systemd, nginx."""
