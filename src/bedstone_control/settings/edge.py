"""Define the settings of nginx in front of one app as a schema: limits, lists, passwords."""

from __future__ import annotations

import datetime as dt
import re
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bedstone_control import names
from bedstone_control.settings.types import Model

_LONGEST_EXPIRY = dt.timedelta(days=366)


def _network(value: str) -> str:
    try:
        ip_network(value)
    except ValueError as error:
        raise ValueError(f"is no address or network: {error}") from None
    return value


def _path(value: str) -> str:
    if not re.fullmatch(names.URL_PATH, value):
        raise ValueError(
            f"is the start of paths, a slash and then letters, digits and . _ ~ / -, not {value!r}"
        )
    return value


def _contact(value: str) -> str:
    if not re.fullmatch(r"(mailto:[^\s@]+@|https://|tel:\+?)[^\s]+", value):
        raise ValueError(
            f"is a URI that begins with mailto:, https:// or tel: (RFC 9116), not {value!r}"
        )
    return value


def _expiry(value: str) -> str:
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"is a moment with its time zone (RFC 3339), not {value!r}")
    left = moment - dt.datetime.now(dt.UTC)
    if left < dt.timedelta(0):
        raise ValueError(f"expired on {moment:%Y-%m-%d}: a reader has to ignore the file")
    if left > _LONGEST_EXPIRY:
        raise ValueError("is more than a year ahead, which RFC 9116 advises against")
    return value


Network = Annotated[str, AfterValidator(_network)]
User = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]


class Rate(Model):
    """How many requests one client may send: an IPv4 address, or an IPv6 /64."""

    requests: int = Field(
        20,
        ge=0,
        le=100_000,
        description="Requests per `per`, on average; 0 for no limit.",
        examples=[20],
    )
    per: Literal["second", "minute"] = Field(
        "second", description="`second` or `minute`.", examples=["minute"]
    )
    burst: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="Requests above the average that a client may send at once. Left out: those "
        "of ten seconds, or of one minute when `per` is `minute`.",
        examples=[200],
    )
    enforce: bool = Field(
        False,
        description="Whether requests above it are refused with 429. Otherwise they are only "
        "counted: `rate` in access.log is REJECTED_DRY_RUN.",
        examples=[True],
    )


class EdgeRules(Model):
    """What nginx does with requests, for an app or for the paths below one."""

    allow: list[Network] | None = Field(
        None,
        description="Networks that may connect; every other one gets 403. Empty for all.",
        examples=[["203.0.113.0/24", "2001:db8::/32"]],
    )
    deny: list[Network] | None = Field(
        None,
        description="Networks that get 403, also where `allow` has them.",
        examples=[["198.51.100.0/24"]],
    )
    basic_auth: list[User] | None = Field(
        None,
        description="Users who log in by a password before the app is reached; their passwords "
        "are the app's secrets `basic_auth_USER`. Empty for no login.",
        examples=[["alice"]],
    )
    rate: Rate | None = Field(
        None,
        description="Limit for requests of one client to the app; static files and media are not "
        "counted.",
        examples=[{"requests": 10, "per": "minute", "burst": 5, "enforce": True}],
    )
    compress: bool | None = Field(
        None,
        description="Whether nginx compresses responses of the app. `false` for pages that hold a "
        "secret and also repeat what the request said (BREACH).",
        examples=[False],
    )


class EdgePath(EdgeRules):
    """Rules for one path and all below it; what is left out is the app's."""

    path: Annotated[str, AfterValidator(_path)] = Field(
        description="Start of the paths.", examples=["/accounts/login/"]
    )
    max_body_mb: int | None = Field(
        None, ge=1, le=10240, description="As the app's `max_body_mb`.", examples=[500]
    )
    timeout_seconds: int | None = Field(
        None, ge=1, le=86400, description="As the app's `timeout_seconds`.", examples=[3600]
    )
    buffering: bool | None = Field(
        None,
        description="`false` passes each part of a response on at once: server-sent events.",
        examples=[False],
    )


class SecurityTxt(Model):
    """Whom to tell of a vulnerability, at /.well-known/security.txt (RFC 9116)."""

    contact: list[Annotated[str, AfterValidator(_contact)]] = Field(
        min_length=1,
        description="Where to report, the preferred way first.",
        examples=[["mailto:security@example.com"]],
    )
    expires: Annotated[str, AfterValidator(_expiry)] = Field(
        description="Until when this is right, at most a year ahead.",
        examples=["2027-10-31T00:00:00Z"],
    )


class Edge(EdgeRules):
    """nginx in front of the app."""

    paths: list[EdgePath] = Field(
        default_factory=list,
        description="Other rules for some paths.",
        examples=[[{"path": "/accounts/login/", "rate": {"requests": 10, "per": "minute"}}]],
    )
    exempt_networks: list[Network] = Field(
        default_factory=list,
        description="Networks whose requests no rate limit counts, and that see the app during "
        "maintenance.",
        examples=[["203.0.113.0/24"]],
    )
    security_txt: SecurityTxt | None = Field(
        None,
        description="Whom to tell of a vulnerability; not published when left out.",
        examples=[{"contact": ["mailto:security@example.com"], "expires": "2027-10-31T00:00:00Z"}],
    )
    include: str | None = Field(
        None,
        description="File on your machine with further directives for nginx's `server`, relative "
        "to the inventory's directory; `nginx -t` decides whether it is right.",
        examples=["files/nginx-payments.conf"],
    )
