"""``d3 config``: what is set, where that comes from, and where D3 keeps its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3.domain.errors import SettingsInvalid
from d3.domain.text import without_logins
from d3.entrypoints.cli.output import complain, printable
from d3.entrypoints.cli.results import Column, Form, print_rows, shows

if TYPE_CHECKING:
    from d3.settings import Variables

_DOTENV = Path(".env")
_HIDDEN = "***"
_COULD_NOT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """A setting as it stands.

    Attributes:
        variable: its name.
        value: as the environment would hold it, without secrets; empty where it is unset.
        source: ``environment``, the path of the ``.env`` file, or ``default``.
        default: what it is unless it is set.
        about: what it is for.
        error: what is wrong with it; None where nothing is.
    """

    variable: str
    value: str
    source: str
    default: str
    about: str
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where something is kept.

    Attributes:
        name: of what.
        place: a path, or the address of a server without its password.
        there: whether the path exists; None for a server.
    """

    name: str
    place: str
    there: bool | None


_SETTINGS: list[Column[_Setting]] = [
    Column("variable", lambda one: one.variable, whole=True),
    Column("value", lambda one: one.value),
    Column("source", lambda one: one.source),
    Column("default", lambda one: one.default, printed=False),
    Column("about", lambda one: one.about, printed=False),
    Column("error", lambda one: one.error, printed=False),
]


def _is_there(place: _Place) -> str:
    return "-" if place.there is None else "yes" if place.there else "not yet"


_PLACES: list[Column[_Place]] = [
    Column("name", lambda one: one.name, title="WHAT"),
    Column("place", lambda one: one.place),
    Column("there", lambda one: one.there, _is_there),
]


@click.group()
def config() -> None:
    """Show the settings, and where D3 keeps its files."""


@config.command()
@click.option("--changed", is_flag=True, help="Only settings that are set.")
@shows
def show(*, changed: bool, form: Form) -> int:
    """Show every setting, its value, and where that comes from.

    The environment beats the file .env of the current folder. Secrets are hidden, also in URLs.
    JSON and CSV also have the defaults and what each setting is for. Exit codes: 0 all are valid;
    2 some are not, which are shown all the same.
    """
    from d3.settings import Settings, read_variables

    mistakes = []
    try:
        read = read_variables(dotenv=_DOTENV)
    except SettingsInvalid as error:  # of the file; what the environment has can be shown
        mistakes.append(str(error))
        read = read_variables(dotenv=None)
    found = [_setting(one, read) for one in fields(Settings)]
    wanted = [one for one in found if not (changed and one.source == "default")]
    print_rows(form, wanted, _SETTINGS, asdict, none="No setting is set.")
    for name, meant in read.unknown.items():
        hint = f" Did you mean {meant}?" if meant else ""
        complain(f"{name} is not a setting of D3.{hint}", "warning")
    for sentence in (*mistakes, *(f"{one}." for one in read.mistakes)):
        complain(sentence)
    return _COULD_NOT if mistakes or read.mistakes else 0


@config.command()
@shows
def paths(*, form: Form) -> None:
    """Show where D3 keeps models, results, keys and caches, under these settings."""
    from d3.settings import Settings

    settings = Settings.from_environment()
    database = settings.database
    url = "" if isinstance(database, Path) else without_password(str(database))
    spool = settings.spool_place
    places: dict[str, str | Path] = {
        "home": settings.home,
        "settings file": _DOTENV.absolute(),
        "database": database if isinstance(database, Path) else url,
        "models": settings.models_folder
        if settings.minio_endpoint is None
        else f"s3://{settings.minio_bucket_name} at {settings.minio_endpoint}",
        "API key": settings.key_file,
        "signing key": settings.signing_key_file,
        "files of jobs": spool,
        "caches": settings.cache_folder,
    }
    found = [
        _Place(
            name=name,
            place=printable(without_logins(str(place))),
            there=place.exists() if isinstance(place, Path) else None,
        )
        for name, place in places.items()
    ]
    print_rows(form, found, _PLACES, asdict)


def _setting(field: Field[Any], read: Variables) -> _Setting:
    variable, secret = field.metadata["variable"], field.metadata["secret"]
    source = "default"
    if variable in read.given:
        source = "environment" if variable in read.in_environment else str(_DOTENV.absolute())
    default = _default_of(field)
    value = read.given.get(variable, default)
    if secret and value:
        value = without_password(value) if variable not in read.wrong else _HIDDEN
    elif variable in read.wrong:
        value = without_logins(value, strictly=True)
    elif variable in read.given:
        clashes = any(one.startswith(f"{variable}=") for one in read.clashes)
        is_path = isinstance(read.values[field.name], Path | tuple) or field.name == "spool"
        strictly = clashes or not is_path  # a path may hold an @
        value = without_logins(_as_text(read.values, field.name), strictly=strictly)
    return _Setting(
        variable=variable,
        value=printable(value),
        source=source,
        default=default,
        about=field.metadata["about"],
        error=read.wrong.get(variable),
    )


def _default_of(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return _as_text({field.name: field.default}, field.name)
    assert field.default_factory is not MISSING
    try:
        return str(field.default_factory())
    except SettingsInvalid:  # nobody's home
        return ""


def _as_text(values: Mapping[str, Any], name: str) -> str:
    value = values[name]
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def without_password(text: str) -> str:
    """A URL without its password and its query; of what is no URL, nothing.

    What cannot be told apart from a password is left out too.
    """
    scheme, found, rest = text.partition("://")
    if not found:
        return _HIDDEN
    place, query, _ = rest.partition("?")
    ending = f"?{_HIDDEN}" if query else ""
    user, at, host = place.rpartition("@")
    if at:
        name, colon, _ = user.partition(":")
        return f"{scheme}://{name}{f':{_HIDDEN}' if colon else ''}@{host}{ending}"
    return f"{scheme}://{_HIDDEN}" if "@" in rest else f"{scheme}://{place}{ending}"
