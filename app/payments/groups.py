"""The two groups that most installations need; the admin may change them afterwards."""

from django.contrib.auth.models import Group, Permission

REQUESTERS = "Requesters"
APPROVERS = "Approvers"

GROUPS = {
    REQUESTERS: ("add_paymentrequest",),
    APPROVERS: ("view_paymentrequest", "decide_paymentrequest", "pay_paymentrequest"),
}


def make_groups(using: str = "default") -> None:
    """Make the groups that don't exist yet, with their permissions.

    An existing group is left alone: its permissions may have been changed on purpose.
    """
    for name, codenames in GROUPS.items():
        group, created = Group.objects.using(using).get_or_create(name=name)
        if created:
            group.permissions.set(
                Permission.objects.using(using).filter(
                    content_type__app_label="payments", codename__in=codenames
                )
            )
