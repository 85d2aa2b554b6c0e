# ruff: noqa: RUF012
"""The first tables."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Make them."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Deposit",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("batch", models.CharField(db_index=True, max_length=50)),
                ("number", models.IntegerField()),
                ("container", models.CharField(max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name="Firing",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("schedule", models.CharField(db_index=True, max_length=50)),
            ],
        ),
    ]
