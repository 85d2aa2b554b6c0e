"""`manage.py api_token USERNAME NAME`: makes an API token and prints it, this once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, transaction

from payments.models import ApiToken

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    """Makes an API token."""

    help = "Makes a token with which a program uses the API as a user; prints it, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the user's name and the token's."""
        parser.add_argument("username")
        parser.add_argument("name", help="which program gets it, such as 'bookkeeping'")

    def handle(self, *_: Any, **options: Any) -> None:
        """Make the token, or say why not."""
        user = User.objects.filter(username=options["username"], is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active user {options['username']!r}.")
        try:
            with transaction.atomic():
                token = ApiToken.issue(user, options["name"])
        except IntegrityError:
            raise CommandError(
                f"{user} has a token {options['name']!r} already; revoke it in the admin first."
            ) from None
        self.stdout.write(token)
