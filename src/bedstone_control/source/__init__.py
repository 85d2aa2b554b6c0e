"""The app's source: archive, checkout, default Dockerfile."""
