"""What the database keeps."""

from django.db import models


class Note(models.Model):
    """A line that someone wrote."""

    text = models.CharField(max_length=200)

    def __str__(self) -> str:
        """Return the line."""
        return self.text
