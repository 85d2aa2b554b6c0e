"""Define the settings of the backups: their times, retention and destinations."""

from __future__ import annotations

from pydantic import Field

from bedstone_control import names
from bedstone_control.settings.types import Model


class Sftp(Model):
    """A directory on an SFTP server: any Linux machine with sshd, or a rented storage."""

    host: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.:-]*$",
        description="Its name or address.",
        examples=["backup.example.com"],
    )
    port: int = Field(22, ge=1, le=65535, description="sshd's port.", examples=[22])
    user: str = Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        description="The account there; the key it is logged in to with is in the vault.",
        examples=["bedstone"],
    )
    path: str = Field(
        description="The directory, absolute as the account sees it; it is made when it is not "
        "there. `${host}` stands for the server's name in the inventory.",
        examples=["/srv/bedstone"],
    )
    host_keys: list[str] = Field(
        min_length=1,
        description="The server's public keys: all lines that `ssh-keyscan HOST` prints, compared "
        "with those on the server itself. Nothing is sent to a server with other keys.",
        examples=[["ssh-ed25519 AAAAC3Nza..."]],
    )
    wal_user: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        description="An account of PostgreSQL's own for the database's log, with a key of its own "
        "(`wal_private_key` in the vault): then PostgreSQL's user can't reach the other backups. "
        "`path` has to be open to both accounts, `path/pgbackrest` to this one alone.",
        examples=["bedstone-wal"],
    )


class S3(Model):
    """A bucket that speaks S3."""

    endpoint: str = Field(
        description="The service's address, always with TLS.",
        examples=["https://s3.eu-central-1.example.com"],
    )
    bucket: str = Field(
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="The bucket; it has to exist.",
        examples=["example-backups"],
    )
    region: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$",
        description="Its region, as the service calls it.",
        examples=["eu-central-1"],
    )
    path: str = Field(
        "/",
        description="Where in the bucket; `${host}` stands for the server's name in the inventory.",
        examples=["/payments"],
    )
    path_style: bool = Field(
        default=False,
        description="Whether the bucket stands in the path of the URL and not in its host name, as "
        "many services of one's own want it (MinIO, Ceph).",
        examples=[True],
    )
    wal_key: bool = Field(
        default=False,
        description="Whether PostgreSQL's user has an access key of its own for the database's log "
        "(`wal_access_key`, `wal_secret_key` in the vault), so that it can't reach the other "
        "backups. An immutable destination with `wal` always has.",
        examples=[True],
    )


class Destination(Model):
    """A place off the server where backups are kept, encrypted: exactly one of `sftp`, `s3`."""

    name: str = Field(
        pattern=names.APP_NAME,
        description="What it is called in commands and in the vault; not `local`.",
        examples=["offsite"],
    )
    sftp: Sftp | None = Field(
        None,
        description="An SFTP server.",
        examples=[
            {
                "host": "backup.example.com",
                "user": "bedstone",
                "path": "/srv/bedstone",
                "host_keys": ["ssh-ed25519 AAAAC3Nza..."],
            }
        ],
    )
    s3: S3 | None = Field(
        None,
        description="An S3 bucket.",
        examples=[
            {
                "endpoint": "https://s3.eu-central-1.example.com",
                "bucket": "example-backups",
                "region": "eu-central-1",
            }
        ],
    )
    wal: bool = Field(
        default=True,
        description="Whether the database's log (WAL) and the backups it belongs to are kept "
        "there, too: what `point_in_time` needs.",
        examples=[True],
    )
    immutable: bool = Field(
        default=False,
        description="Whether the other side keeps the server from deleting what is there: a bucket "
        "with versions and an object lock, or an ssh account that can only append "
        "(docs/backups-immutable.md). Bedstone then removes nothing there, tries each hour to "
        "delete a canary, and is red when that succeeds. An SFTP destination can't be immutable "
        "and keep WAL.",
        examples=[True],
    )

    @property
    def has_wal_key(self) -> bool:
        """Whether PostgreSQL's user has a key of its own there."""
        if not self.wal:
            return False
        if self.sftp is not None:
            return self.sftp.wal_user is not None
        return self.immutable or (self.s3 is not None and self.s3.wal_key)


class Backup(Model):
    """The nightly backup, the continuous one, and where they go."""

    time: str = Field(
        "04:00",
        pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
        description="When it starts, in the servers' time zone; quoted. A time that a night of "
        "daylight saving leaves out is refused.",
        examples=["04:00"],
    )
    keep_days: int = Field(
        30,
        ge=1,
        le=3650,
        description="Of so many days, the newest backup is kept; of the last two, all.",
        examples=[30],
    )
    keep_weeks: int = Field(
        8,
        ge=0,
        le=520,
        description="Of so many weeks, the newest backup is kept; 0 for none.",
        examples=[8],
    )
    keep_months: int = Field(
        6,
        ge=0,
        le=120,
        description="Of so many months, the newest backup is kept; 0 for none.",
        examples=[6],
    )
    verify_schedule: str | None = Field(
        None,
        description="When the newest backup of each app is restored into a throwaway cluster and "
        "checked, as systemd has it (`systemd.time(7)`), in the servers' time zone. When left "
        "out, each Sunday, two hours after the nightly backup.",
        examples=["Sun *-*-* 06:00:00"],
    )
    directory: str = Field(
        "/var/backups/bedstone",
        pattern=r"^/[A-Za-z0-9._/-]+$",
        description="Where they are kept on the server.",
        examples=["/var/backups/bedstone"],
    )
    point_in_time: bool = Field(
        default=True,
        description="Whether PostgreSQL's log is archived all the time, so that the data of any "
        "moment can be restored and at most a minute is lost with the server.",
        examples=[True],
    )
    keep_point_in_time_days: int = Field(
        7,
        ge=2,
        le=90,
        description="Any moment of so many days can be restored.",
        examples=[7],
    )
    destinations: list[Destination] = Field(
        default_factory=list,
        description="Where backups are kept beside the server itself, encrypted.",
        examples=[
            [
                {
                    "name": "offsite",
                    "sftp": {
                        "host": "backup.example.com",
                        "user": "bedstone",
                        "path": "/srv/bedstone",
                        "host_keys": ["ssh-ed25519 AAAAC3Nza..."],
                    },
                }
            ]
        ],
    )
    key_held: str | None = Field(
        None,
        description="The fingerprint of the backup key, written by `make backup-key NAME=…` to "
        "whoever shows that the key is kept elsewhere, too. Needed with destinations.",
        examples=["q7wx-1mn5-pr8t-v2yb"],
    )
