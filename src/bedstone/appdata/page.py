"""Show the maintenance page while an app's data is replaced.

Data that visitors write after the backup's moment would only be in the data that is replaced: so
the page asks them to come back, until the restored data serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedstone.apps import config, maintenance
from bedstone.core import paths
from bedstone.core.errors import BedstoneError

if TYPE_CHECKING:
    from bedstone.appdata.journal import Journal

MESSAGE = (
    "The data of this service is being restored from a backup. It will be back soon.\n\n"
    "Please don't enter anything again before you have seen what is there."
)


def wanted(app: str) -> bool:
    """Return whether a restore should show the page: visitors come, and don't see one already."""
    if maintenance.is_on(app):
        return False
    if not (paths.host("/etc/nginx/bedstone/sites") / f"{app}.conf").is_file():
        return False
    try:
        config.load(app)
    except BedstoneError:
        return False
    return True


def show(journal: Journal) -> None:
    """Show the page, if the journal says that it is the restore's."""
    if journal.page:
        maintenance.turn_on(journal.app, maintenance.page(MESSAGE))


def hide(journal: Journal) -> None:
    """Remove the maintenance page, if it is the restore's."""
    if journal.page:
        maintenance.turn_off(journal.app)
