"""API keys for administrators: list, create and revoke."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from litestar import Controller, Request, get, post
from litestar.params import FromPath
from litestar.response import Redirect, Template

from d3.domain.accounts import DEFAULT_SCOPES, ApiKey, IssuedKey, KeyState, Scope
from d3.domain.errors import AccountInvalid, D3Error, KeyNotFound, UserExists
from d3.domain.services.accounts import AccountService
from d3.entrypoints.http.console.guards import allows
from d3.entrypoints.http.console.problems import refusal
from d3.entrypoints.http.console.rendering import base_of, confirm, page
from d3.entrypoints.http.console.texts import PROBLEMS
from d3.entrypoints.http.services import D3, Services

_MOST_BYTES = 16 * 1024
_MOST_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class Row:
    """A key in the table.

    Attributes:
        key: as stored.
        username: of the key's owner.
        state: its current state.
    """

    key: ApiKey
    username: str
    state: KeyState


@dataclass(frozen=True, slots=True)
class KeyForm:
    """The form for a new key, as typed.

    Attributes:
        username: of the key's owner.
        name: of the key.
        scopes: what the key allows.
        days: until the key expires; empty for never.
        new_user: whether to create the user if there is none.
    """

    username: str = ""
    name: str = ""
    scopes: tuple[str, ...] = tuple(sorted(DEFAULT_SCOPES))
    days: str = "90"
    new_user: bool = False

    @classmethod
    async def of(cls, request: Request[Any, Any, Any]) -> KeyForm:
        """Read the form from a request's body."""
        sent = await request.form()
        texts = {name: str(sent.get(name, "")).strip() for name in ("username", "name", "days")}
        scopes = tuple(str(one) for one in sent.getall("scope", []))
        return cls(**texts, scopes=scopes, new_user="new_user" in sent)

    def lifetime(self) -> timedelta | None:
        """The lifetime of the key.

        Raises:
            AccountInvalid: the days are not a valid whole number.
        """
        if not self.days:
            return None
        if not self.days.isascii() or not self.days.isdigit() or len(self.days) > len("36500"):
            raise AccountInvalid(PROBLEMS["invalid_days"])
        if not 1 <= int(self.days) <= _MOST_DAYS:
            raise AccountInvalid(PROBLEMS["invalid_days"])
        return timedelta(days=int(self.days))


class KeyPages(Controller):
    """API keys."""

    path = "/keys"
    guards = (allows(Scope.ADMIN),)

    @get("/")
    async def keys(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """The list of keys and the form for a new one."""
        done = str(request.query_params.get("done", ""))
        return await _page(request, d3, form=KeyForm(), done=done)

    @post("/", status_code=200, request_max_body_size=_MOST_BYTES)
    async def create(self, request: Request[Any, Any, Any], d3: D3) -> Template:
        """Create a key. Only this response shows it."""
        form = await KeyForm.of(request)
        try:
            made = await d3.query(_create, d3.accounts, form)
        except D3Error as error:
            return await _page(request, d3, form=form, **refusal(request, error))
        return await _page(request, d3, form=KeyForm(), made=made)

    @get("/{key_id:str}/revoke")
    async def ask(self, request: Request[Any, Any, Any], d3: D3, key_id: FromPath[str]) -> Template:
        """Ask whether to revoke a key."""
        return confirm(request, d3, "revoke", name=key_id, back="keys")

    @post("/{key_id:str}/revoke", status_code=200)
    async def revoke(
        self, request: Request[Any, Any, Any], d3: D3, key_id: FromPath[str]
    ) -> Template | Redirect:
        """Revoke a key."""
        try:
            await d3.query(d3.accounts.revoke_key, key_id)
        except KeyNotFound as error:
            return await _page(request, d3, form=KeyForm(), **refusal(request, error))
        return Redirect(f"{base_of(request)}keys?done=revoke", status_code=303)


def _create(accounts: AccountService, form: KeyForm) -> IssuedKey:
    lifetime = form.lifetime()
    if form.new_user:
        with suppress(UserExists):
            accounts.add_user(form.username)
    return accounts.create_key(form.username, name=form.name, scopes=form.scopes, lifetime=lifetime)


def _rows(accounts: AccountService) -> tuple[list[str], Sequence[Row]]:
    """The usernames, and the keys: valid ones first, then by age, newest first."""
    names, now = accounts.usernames(), accounts.now()
    rows = [Row(key, names.get(key.user_id, "?"), key.state(now)) for key in accounts.keys(None)]
    rows.sort(key=lambda row: row.key.created_at, reverse=True)
    rows.sort(key=lambda row: row.state is not KeyState.LIVE)
    return list(names.values()), rows


async def _page(
    request: Request[Any, Any, Any],
    d3: Services,
    *,
    form: KeyForm,
    status: int = 200,
    headers: dict[str, str] | None = None,
    sentence: str = "",
    done: str = "",
    made: IssuedKey | None = None,
) -> Template:
    usernames, rows = await d3.query(_rows, d3.accounts)
    return page(
        request,
        d3,
        "keys",
        status=status,
        headers=headers,
        sentence=sentence,
        done=done,
        form=form,
        made=made,
        rows=rows,
        usernames=usernames,
        scopes=[scope.value for scope in Scope],
    )
