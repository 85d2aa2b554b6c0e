"""The schema's defaults and short forms."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bedstone_control.settings.app import App
from bedstone_control.settings.root import Settings, from_variables

SMALL: dict[str, Any] = {
    "name": "payments",
    "source": {"path": "../../app"},
    "services": {"web": {"port": 8000}},
}


def app(**changes: Any) -> App:
    return App.model_validate(SMALL | changes)


def test_short_forms_mean_the_same_as_long_ones() -> None:
    assert app(static="/s").static == app(static={"path": "/s", "url": "/static/"}).static
    assert app(media="/m").media == app(media={"path": "/m", "url": "/media/"}).media
    assert app(database=True).database == app().database
    assert app(database=False).database is None
    text = app(services={"web": {"command": "gunicorn 'a b'"}})
    assert text.services["web"].command == ["gunicorn", "a b"]
    assert text == app(services={"web": {"command": ["gunicorn", "a b"]}})


def test_commands_are_django_s_until_told_otherwise() -> None:
    assert app().commands.migrate == [["python", "manage.py", "migrate", "--noinput"]]
    none = app(commands=[]).commands
    assert (none.check, none.migrate, none.static) == ([], [], [])
    own = app(commands={"migrate": "alembic upgrade head", "check": []}).commands
    assert own.migrate == [["alembic", "upgrade", "head"]]
    assert own.check == []
    assert own.static


def test_values_of_the_environment_are_texts() -> None:
    env = app(env={"A": 1, "C": 1.5, "D": None, "E": "x"}).env
    assert env == {"A": "1", "C": "1.5", "D": None, "E": "x"}


def test_user_may_be_a_number() -> None:
    assert app(user=1000).user == "1000"


@pytest.mark.parametrize("port", ["8000", True, 0, 65536, 80.0])
def test_port_is_a_number_in_range(port: object) -> None:
    with pytest.raises(ValidationError):
        app(services={"web": {"port": port}})


def test_only_settings_are_taken_from_the_variables() -> None:
    variables = {"bedstone_apps": [], "bedstone_secrets": {}, "nginx_sites": [], "apps": 1}
    assert from_variables(variables) == {"apps": []}


def test_every_field_is_described_and_has_an_example() -> None:
    from bedstone_control.docs import inner_model

    models, seen = [Settings], set()
    while models:
        model = models.pop()
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert field.examples, f"{model.__name__}.{name}"
            inner = inner_model(field.annotation)
            if inner and inner not in seen:
                seen.add(inner)
                models.append(inner)  # type: ignore[arg-type]


def test_every_example_is_right() -> None:
    for name, field in App.model_fields.items():
        if name != "source":
            app(**{name: (field.examples or [None])[0]})
    for name, field in Settings.model_fields.items():
        Settings.model_validate({"apps": [SMALL], name: (field.examples or [None])[0]})
