"""The calls of the HTTP API, from the OpenAPI document and the guards of their handlers."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import Any

from litestar.handlers import HTTPRouteHandler
from tables import service, table

_SHOWN = {"get": "GET", "post": "POST", "patch": "PATCH", "delete": "DELETE"}
_IN = {"query": "query", "path": "path", "header": "header"}
_EXAMPLES = {
    "{result_id}": "17",
    "{job_id}": "20260131-120000-1f2e",
    "{scan_id}": "archive-2026",
    "{webhook_id}": "3",
    "{delivery_id}": "41",
}
_FORMATS = {"binary": "file", "date-time": "time", "uri": "link"}
_SERVER = "http://localhost:5000"
_REFERENCE = "#/components/schemas/"
_PROBLEM = "application/problem+json"


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of this version."""
    found: dict[str, Any] = json.loads(json.dumps(service().openapi_schema.to_schema()))
    return found


def calls() -> str:
    """A section for each tag, then the schemas."""
    found = document()
    parts = []
    for tag in found["tags"]:
        parts.append(f"## {tag['name'].capitalize()}\n\n{tag['description']}\n")
        parts += [
            _call(method, path, operation)
            for path, methods in sorted(found["paths"].items(), key=_main_calls_first)
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
    parts.append("## Schemas\n\nThe objects in the bodies of requests and answers.\n")
    parts += [_schema(name, one) for name, one in sorted(found["components"]["schemas"].items())]
    return "\n".join(parts)


def _main_calls_first(one: tuple[str, Any]) -> tuple[bool, str]:
    path, _ = one
    return "/predict" not in path, path


def _call(method: str, path: str, operation: dict[str, Any]) -> str:
    name = operation["operationId"]
    lines = [f"(call-{name.lower()})=", f"### {operation['summary']}", ""]
    lines += ["{.endpoint}", f"`{_SHOWN[method]}` `{path}`", ""]
    lines += [operation.get("description", ""), ""]
    lines += [f"{_needed(name, operation)} Its `operationId` is `{name}`.", ""]
    if parameters := operation.get("parameters"):
        rows = [
            (
                f"`{one['name']}`",
                _IN[one["in"]],
                _kind(one["schema"]),
                ("Required. " if one["required"] and one["in"] != "path" else "")
                + _words(one.get("description")),
            )
            for one in parameters
        ]
        lines += [table(("parameter", "in", "type", "meaning"), rows)]
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        lines += _body(media, body)
    lines += ["```bash", _curl(method, path, operation), "```", ""]
    lines += _answers(operation["responses"])
    return "\n".join(lines)


def _needed(name: str, operation: dict[str, Any]) -> str:
    if operation.get("security") == []:
        return "Needs no key."
    scope = _scopes().get(name)
    return f"Needs the scope `{scope}`." if scope else "Needs a key, of any scope."


@cache
def _scopes() -> dict[str, str]:
    """The scope that each call needs: of its guard, or of the check in its handler."""
    found = {}
    for handler in _handlers():
        guards = [inspect.getclosurevars(one).nonlocals for one in handler.resolve_guards()]
        scopes = [str(one["scope"]) for one in guards if "scope" in one]
        source = inspect.getsource(handler.fn)
        if scopes:
            found[str(handler.operation_id)] = scopes[-1]
        elif named := re.search(r"\bsees\(request(?:, Scope\.(\w+))?", source):
            found[str(handler.operation_id)] = (named[1] or "read").lower()
        elif re.search(r"NamedDependency\[HistoryFilter\]|\bprovide_filter\(", source):
            # which asks whether the caller may read
            found[str(handler.operation_id)] = "read"
    return found


def _handlers() -> Iterator[HTTPRouteHandler]:
    for route in service().routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler) and handler.operation_id:
                yield handler


def _body(media: str, body: dict[str, Any]) -> list[str]:
    schema = _resolved(body["schema"])
    if "properties" not in schema:
        return [f"Body `{media}`: {_kind(body['schema'])}.", ""]
    return [f"Body `{media}`:", "", _fields(schema)]


def _answers(responses: dict[str, Any]) -> list[str]:
    lines, errors = [], []
    for status, answer in sorted(responses.items()):
        content = answer.get("content", {})
        if _PROBLEM in content:
            errors.append(f"{status} {HTTPStatus(int(status)).phrase}")
            continue
        for media, body in content.items():
            shown = f"`{media}`, {_kind(body['schema'])}" if body.get("schema") else f"`{media}`"
            lines += [f"Answer {status}: {shown}.", ""]
            for example in body.get("examples", {}).values():
                text = json.dumps(example["value"], indent=2, ensure_ascii=False)
                lines += [":::{dropdown} Example of the answer", f"```json\n{text}\n```", ":::", ""]
        if not content:
            lines += [f"Answer {status}, without a body.", ""]
    if errors:
        lines += [f"[Errors](errors.md): {', '.join(errors)}.", ""]
    return lines


def _curl(method: str, path: str, operation: dict[str, Any]) -> str:
    for name, value in _EXAMPLES.items():
        path = path.replace(name, value)
    required = [
        f"{one['name']}={_sample(one)}"
        for one in operation.get("parameters", ())
        if one["required"] and one["in"] == "query"
    ]
    address = f"{_SERVER}{path}{'?' if required else ''}{'&'.join(required)}"
    sent = ["curl"] if method in {"get", "post"} else ["curl", "-X", _SHOWN[method]]
    content = operation.get("requestBody", {}).get("content", {})
    if method == "post" and not content:
        sent += ["-X", "POST"]
    for media, body in content.items():
        if not (example := next(iter(body.get("examples", {}).values()), None)):
            continue
        if media == "multipart/form-data":
            sent += _form(_resolved(body["schema"]), example["value"])
        else:
            sent += ["--json", f"'{json.dumps(example['value'])}'"]
        break
    if "?" in address:
        address = f"'{address}'"
    return " ".join([*sent, address])


def _form(schema: dict[str, Any], values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        kind = schema["properties"][name]
        binary = "binary" in {kind.get("format"), kind.get("items", {}).get("format")}
        for one in value if isinstance(value, list) else [value]:
            yield from ("-F", f"{name}={'@' if binary else ''}{one}")


def _sample(parameter: dict[str, Any]) -> str:
    examples = parameter["schema"].get("examples") or ["..."]
    return str(examples[0])


def _schema(name: str, schema: dict[str, Any]) -> str:
    # No headings: a hundred of them would hide the calls in every list of contents.
    lines = [f"(schema-{name.lower()})=", "{.schema}", f"**{name}**", ""]
    lines += [_words(schema.get("description")), ""]
    if "properties" in schema:
        lines.append(_fields(schema))
    elif "enum" in schema:
        lines += [f"One of {_choice(schema['enum'])}.", ""]
    return "\n".join(lines)


def _fields(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = (
        (f"`{name}`", _kind(one), "" if name in required else "optional", _said(one))
        for name, one in schema["properties"].items()
    )
    return table(("field", "type", "", "meaning"), rows)


def _said(schema: dict[str, Any]) -> str:
    text = _words(schema.get("description"))
    binary = {schema.get("format"), schema.get("items", {}).get("format")} & {"binary"}
    if binary and not text:
        text = "The content of a file, as a part of the form with a file name."
    default = schema.get("default")
    if default is not None and default != "" and not isinstance(default, list | dict):
        text += f" Default: `{json.dumps(default)}`."
    return text.strip()


def _words(text: str | None) -> str:
    return " ".join((text or "").split())


def _choice(values: list[Any]) -> str:
    return ", ".join(f"`{one}`" for one in values if one is not None)


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if len(schema.get("allOf", ())) == 1:
        schema = schema["allOf"][0]
    if reference := schema.get("$ref"):
        found: dict[str, Any] = document()["components"]["schemas"][reference[len(_REFERENCE) :]]
        return found
    return schema


def _kind(schema: dict[str, Any]) -> str:
    """The type in words, with links to schemas."""
    if reference := schema.get("$ref"):
        name = reference[len(_REFERENCE) :]
        return f"[{name}](#schema-{name.lower()})"
    for many in ("oneOf", "anyOf", "allOf"):
        if many in schema:
            return " or ".join(_kind(one) for one in schema[many])
    if "enum" in schema:
        return _choice(schema["enum"])
    kind = schema.get("type", "any value")
    if isinstance(kind, list):
        return " or ".join(_kind(schema | {"type": one}) for one in kind)
    return _plain(str(kind), schema)


def _plain(kind: str, schema: dict[str, Any]) -> str:
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    if kind == "string":
        return _FORMATS.get(schema.get("format", ""), "text")
    return f"{kind}{_range(schema)}" if kind in {"integer", "number"} else kind


def _range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if above is not None and high is not None:
        return f" above {above}, at most {high}"
    if low is not None:
        return f" of at least {low}"
    return "" if high is None else f" of at most {high}"
