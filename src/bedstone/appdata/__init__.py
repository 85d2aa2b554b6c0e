"""The exchange of an app's data for restored data."""
