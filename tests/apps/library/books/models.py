"""One table."""

from django.db import models


class Book(models.Model):
    """A book on the shelf."""

    title = models.CharField(max_length=200)
    author = models.CharField(max_length=200)

    class Meta:
        ordering = ("title",)

    def __str__(self) -> str:
        return f"{self.title} by {self.author}"
