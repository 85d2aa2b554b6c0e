"""What the proof counts."""

from django.db import models


class Entry(models.Model):
    """A row that a client asked for; its id is the client's own."""

    client_id = models.CharField(max_length=64, unique=True)
    version = models.CharField(max_length=32)
    container = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    label = models.CharField(max_length=32, default="")  # gone in the variant "destructive"

    def __str__(self) -> str:
        return self.client_id


class Execution(models.Model):
    """One run of a task: a task that runs twice is here twice."""

    number = models.IntegerField(db_index=True)
    version = models.CharField(max_length=32)
    container = models.CharField(max_length=64)
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.number} in {self.container}"


class Tick(models.Model):
    """What beat sent, and from which container."""

    origin = models.CharField(max_length=100)
    sent_at = models.FloatField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.origin} at {self.sent_at}"


class Report(models.Model):
    """What the job `report` has found."""

    entries = models.IntegerField()
    version = models.CharField(max_length=32)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.entries} entries"
