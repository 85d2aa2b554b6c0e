"""What the database keeps."""

from django.db import models


class Device(models.Model):
    """A coffee machine."""

    serial = models.CharField(max_length=50, unique=True)

    def __str__(self) -> str:
        """Return its serial number."""
        return self.serial


class Order(models.Model):
    """An order at a machine."""

    device = models.ForeignKey(Device, on_delete=models.PROTECT)
    cents = models.PositiveIntegerField()
    paid = models.BooleanField(default=False)

    def __str__(self) -> str:
        """Return what it costs."""
        return f"{self.cents} at {self.device}"
