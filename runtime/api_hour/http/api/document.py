"""The OpenAPI document of an API's operations, made once at start from the same types as handlers.

It says what is really accepted and answered: the errors that a handler gives by itself stand beside
those that a route declares. Everything comes in the order in which it was added, and the components
by name, so that the same code gives the same bytes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp.web_response import REASON_PHRASES
from msgspec import inspect

from api_hour.http.api import texts
from api_hour.http.api.operation import (
    BODY,
    COOKIE,
    EVENTS,
    FORM,
    HEADER,
    JSON,
    PATH,
    QUERY,
    Operation,
    Parameter,
)
from api_hour.http.api.schema import PLACE, READ, TEXT, WRITTEN, Schema, Schemas, of_field
from api_hour.http.api.signature import custom_types, without_partial
from api_hour.http.api.uploads import Upload
from api_hour.http.responses import PROBLEM

VERSION = "3.1.0"
NAME_OF_PROBLEM = "Problem"
OF_BODY = 400, 413, 415, 422
OF_SECURITY = 401, 403
REASONS = {
    400: "The body cannot be read.",
    401: "The credentials are missing or wrong.",
    403: "The credentials do not suffice.",
    404: "Nothing is there.",
    413: "The body is too large.",
    415: "The body is of another type.",
    422: "The request holds values that are not accepted; each is named.",
}
# {name} and {name:pattern} of aiohttp's paths; a pattern may hold braces in pairs.
VARIABLE = re.compile(r"\{([_a-zA-Z][_a-zA-Z0-9]*)(?::((?:[^{}]|\{[^{}]*\})+))?\}")
FAULT = {
    "type": "object",
    "properties": {
        "in": {"enum": [PATH, QUERY, HEADER, COOKIE, FORM, BODY]},
        "field": {"type": "string", "description": "Its name; empty for all of it."},
        "message": {"type": "string"},
    },
    "required": ["in", "field", "message"],
}
PROBLEM_SCHEMA = {
    "title": NAME_OF_PROBLEM,
    "description": "An error, as in RFC 9457.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "examples": ["about:blank"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": FAULT, "description": "Each fault of the request."},
        "error": {
            "type": "object",
            "properties": {
                "status": {"type": "integer"},
                "message": {"type": "string"},
                "field": {"type": "string"},
            },
            "required": ["status", "message"],
        },
    },
    "required": ["type", "title", "status", "detail", "error"],
}


def build(
    title: str,
    version: str,
    description: str,
    servers: Sequence[str],
    operations: Iterable[Operation],
) -> dict[str, Any]:
    """Return the document; ``servers`` are URLs, none means the one that serves it."""
    maker = _Maker()
    paths: dict[str, dict[str, Any]] = {}
    tags: list[str] = []
    schemes: dict[str, Any] = {}
    for operation in operations:
        place = paths.setdefault(VARIABLE.sub(r"{\1}", operation.path), {})
        # Of two paths that differ in their patterns only, OpenAPI can hold the first.
        place.setdefault(operation.method.lower(), maker.operation(operation))
        tags += (tag for tag in operation.tags if tag not in tags)
        schemes |= {security.name: dict(security.scheme) for security in operation.security}
    components = {"schemas": {**maker.components(), NAME_OF_PROBLEM: PROBLEM_SCHEMA}}
    if schemes:
        components["securitySchemes"] = schemes
    made = {
        "openapi": VERSION,
        "info": _without_empty(title=title, version=version, description=description),
        **_without_empty(
            servers=[{"url": url} for url in servers], tags=[{"name": tag} for tag in tags]
        ),
        "paths": paths,
        "components": components,
    }
    # Examples and defaults may be of any type that msgspec writes.
    document: dict[str, Any] = msgspec.to_builtins(made, str_keys=True)
    return document


class _Maker:
    """Makes the parts of a document that operations are."""

    def __init__(self) -> None:
        self._schemas = Schemas()
        self._ids: set[str] = set()

    def components(self) -> Mapping[str, Schema]:
        return self._schemas.components(reserved=[NAME_OF_PROBLEM])

    def operation(self, operation: Operation) -> dict[str, Any]:
        security: dict[str, list[str]] = {item.name: [] for item in operation.security}
        return _without_empty(
            tags=list(operation.tags),
            summary=operation.summary,
            description=operation.description,
            operationId=self._id(operation),
            parameters=list(self._parameters(operation)),
            requestBody=self._body(operation),
            responses=self._responses(operation),
            deprecated=operation.deprecated,
            security=[security] if security else [],
        )

    def _id(self, operation: Operation) -> str:
        """Return the function's name, with the path if another operation has that already."""
        function = without_partial(operation.call.function)
        name = getattr(function, "__name__", type(function).__name__).strip("<>")
        words = re.findall(r"\w+", VARIABLE.sub(r"\1", operation.path))
        whole = "_".join([name, *words])
        found = name
        for candidate in (name, whole, f"{whole}_{operation.method.lower()}"):
            found = candidate
            if found not in self._ids:
                break
        number = 1
        while found in self._ids:
            number += 1
            found = f"{whole}_{number}"
        self._ids.add(found)
        return found

    # What is read

    def _parameters(self, operation: Operation) -> Iterator[dict[str, Any]]:
        typed = {item.key: item for item in operation.parameters if item.place == PATH}
        for key, pattern in VARIABLE.findall(operation.path):
            schema = self._schemas.of(typed[key].type, TEXT) if key in typed else {"type": "string"}
            if pattern and schema.get("type") == "string":
                schema.setdefault("pattern", f"^({pattern})$" if "|" in pattern else f"^{pattern}$")
            yield _described({"name": key, "in": PATH, "required": True}, schema)
        for parameter in operation.parameters:
            if parameter.place in (QUERY, HEADER, COOKIE):
                yield from self._of_texts(parameter)

    def _of_texts(self, parameter: Parameter) -> Iterator[dict[str, Any]]:
        """Yield what stands under a key of its own, of a parameter that may have several."""
        if (rest := self._rest(parameter)) is not None:
            yield {"name": parameter.name, "in": parameter.place, "schema": rest}
            return
        for key, schema, required in self._keys(parameter):
            head: dict[str, Any] = {"name": key, "in": parameter.place}
            if required:
                head["required"] = True
            if schema.get("type") == "array":
                by_comma = parameter.place == HEADER
                head |= {"style": "simple" if by_comma else "form", "explode": not by_comma}
            yield _described(head, schema)

    def _rest(self, parameter: Parameter) -> Schema | None:
        """Return the schema of a parameter that takes every key; None for another one."""
        info = inspect.type_info(parameter.type)
        if parameter.key or texts.item_of_mapping(info) is None:
            return None
        return self._schemas.of(info, TEXT)

    def _keys(self, parameter: Parameter) -> Iterator[tuple[str, Schema, bool]]:
        """Yield each key on the wire, its schema, and whether it is required."""
        if parameter.key:
            schema = self._schemas.of(parameter.type, TEXT)
            if not parameter.required and parameter.default is not None:
                schema["default"] = parameter.default
            yield parameter.key, schema, parameter.required
            return
        info: Any = texts.plain(inspect.type_info(parameter.type))
        for item in info.fields:
            key = texts.wire_key(item.encode_name, parameter.place)
            yield key, of_field(self._schemas, item, TEXT), item.required

    def _body(self, operation: Operation) -> dict[str, Any]:
        body = next((item for item in operation.parameters if item.place == BODY), None)
        if body is not None:
            schema = self._schemas.of(body.type, READ)
            if not body.required and body.default is not None:
                schema["default"] = body.default
            required = {"required": True} if body.required else {}
            return {**required, "content": {"application/json": {"schema": schema}}}
        parts = [item for item in operation.parameters if item.place == FORM]
        return self._form(parts) if parts else {}

    def _form(self, parameters: Iterable[Parameter]) -> dict[str, Any]:
        fields: dict[str, Schema] = {}
        required: list[str] = []
        schema: Schema = {"type": "object", "properties": fields}
        has_files = False
        for parameter in parameters:
            has_files |= Upload in custom_types(inspect.type_info(parameter.type))
            if (rest := self._rest(parameter)) is not None:
                schema |= {key: value for key, value in rest.items() if key not in schema}
                continue
            for key, field, needed in self._keys(parameter):
                fields[key] = field
                required += [key] if needed else []
        if required:
            schema["required"] = required
        schema.setdefault("additionalProperties", False)
        media = ["multipart/form-data"]
        if not has_files:
            media.insert(0, "application/x-www-form-urlencoded")
        head = {"required": True} if required else {}
        return {**head, "content": {name: {"schema": schema} for name in media}}

    # What is answered

    def _responses(self, operation: Operation) -> dict[str, Any]:
        success: dict[str, Any] = {"description": REASON_PHRASES.get(operation.status, "")}
        answer = operation.answer
        if answer.kind == JSON:
            schema = self._schemas.of(answer.type, WRITTEN)
            success["content"] = {"application/json": {"schema": schema}}
        elif answer.kind == EVENTS:
            success["content"] = {"text/event-stream": {"schema": self._events(answer.type)}}
        refusals = dict.fromkeys(_own_errors(operation), "") | dict(operation.errors)
        problem = {PROBLEM: {"schema": {"$ref": PLACE + NAME_OF_PROBLEM}}}
        responses = {str(operation.status): success}
        for status, text in sorted(refusals.items()):
            sentence = text or REASONS.get(status) or REASON_PHRASES.get(status, "An error.")
            responses[str(status)] = {"description": sentence, "content": problem}
        return responses

    def _events(self, kind: Any) -> Schema:
        """Return the schema of each event of a stream, as OpenAPI 3.2 has it."""
        data = {"type": "string", "contentMediaType": "application/json"}
        fields = {
            "data": {**data, "contentSchema": self._schemas.of(kind, WRITTEN)},
            "event": {"type": "string"},
            "id": {"type": "string"},
            "retry": {"type": "integer", "description": "Milliseconds."},
        }
        return {"type": "object", "properties": fields, "required": ["data"]}


def _own_errors(operation: Operation) -> Iterator[int]:
    """Yield the statuses with which a handler refuses a request by itself."""
    places = {item.place for item in operation.parameters}
    if places & {BODY, FORM}:
        yield from OF_BODY
    if operation.security:
        yield from OF_SECURITY
    if any(item.place == PATH and item.type is not str for item in operation.parameters):
        yield 404
    # An unknown key of the query is refused unless the endpoint may look at it.
    if places & {QUERY, HEADER, COOKIE} or not operation.call.takes_request():
        yield 422


def _described(head: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """Return a parameter; pages show its description, and not that of its schema."""
    if "$ref" not in schema and "description" in schema:
        head["description"] = schema.pop("description")
    return {**head, "schema": schema}


def _without_empty(**parts: Any) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if part not in ("", None, False, [], {})}
