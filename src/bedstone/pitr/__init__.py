"""A cluster recovered to a point in time."""
