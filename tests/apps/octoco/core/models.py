"""What the database keeps."""

from django.db import models


class Deposit(models.Model):
    """A deposit that a worker wrote down, as often as its task ran."""

    batch = models.CharField(max_length=50, db_index=True)
    number = models.IntegerField()
    container = models.CharField(max_length=64)

    def __str__(self) -> str:
        """Return which one it is."""
        return f"{self.batch} {self.number}"


class Firing(models.Model):
    """A schedule's task that ran."""

    schedule = models.CharField(max_length=50, db_index=True)

    def __str__(self) -> str:
        """Return the schedule's name."""
        return self.schedule
