"""The words that a parameter may be, for the answer to a request with another one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from litestar import Request
from msgspec import inspect


def choices(request: Request[Any, Any, Any], fault: Any) -> list[str]:
    """The words that a parameter or a field of a JSON body may be; none if it is no choice.

    Args:
        request: that was refused.
        fault: what the framework says of one of its values.
    """
    if not isinstance(fault, dict):
        return []
    names = re.findall(r"[A-Za-z_]\w*", str(fault.get("key", "")))
    if names and fault.get("source") == "body":
        names.insert(0, "data")
    handler: Any = request.route_handler
    parameters: dict[str, Any] = {}
    for one in (*handler.resolve_dependencies().values(), handler):
        parameters |= one.parsed_fn_signature.parameters
    if not names or names[0] not in parameters:
        return []
    kinds = list(_alternatives(inspect.type_info(parameters[names[0]].annotation)))
    for name in names[1:]:
        kinds = [
            kind
            for whole in kinds
            if isinstance(whole, inspect.StructType)
            for field in whole.fields
            if field.encode_name == name
            for kind in _alternatives(field.type)
        ]
    return [word for kind in kinds for word in _words(kind)]


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    """What a value of this type may be; of a list, its items."""
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from _alternatives(one)
    elif isinstance(kind, inspect.Metadata):
        yield from _alternatives(kind.type)
    elif isinstance(kind, inspect.ListType):
        yield from _alternatives(kind.item_type)
    else:
        yield kind


def _words(kind: inspect.Type) -> list[str]:
    if isinstance(kind, inspect.EnumType):
        return [str(one.value) for one in kind.cls]
    return [str(one) for one in kind.values] if isinstance(kind, inspect.LiteralType) else []
