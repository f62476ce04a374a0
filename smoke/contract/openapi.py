"""OpenAPI 3.1 from the model, one document per service, for client generators and readers.

`python -m smoke.contract.openapi` writes them into `docs/`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .model import API_KEY, ROUTES, SERVICES, TOKEN_KINDS, Route
from .schemas import CODES, EVENTS, JSON, REFUSAL_FORM, REPLIES, Reply

VERSION = "1"
_NAMED = re.compile(r"\{(\w+)\}")
_REFUSAL = {"$ref": "#/components/schemas/Refusal"}


def document(service: str) -> dict[str, Any]:
    """The document of one service. It contains all dialects of a route, named in their descriptions."""
    paths: dict[str, dict[str, Any]] = {}
    for route in (route for route in ROUTES if route.service == service):
        methods = paths.setdefault(route.path, {})
        method = route.method.lower()
        methods[method] = _merged(methods[method], route) if method in methods else _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": service.capitalize(),
            "version": VERSION,
            "description": "Generated from smoke/contract by `python -m smoke.contract.openapi`.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {name: _scheme(name) for name in _credentials(service)},
            "schemas": {"Refusal": REFUSAL_FORM[service]},
        },
    }


def text(service: str) -> str:
    """The document as written in its file."""
    return json.dumps(document(service), indent=1) + "\n"


def _credentials(service: str) -> list[str]:
    named = [name for route in ROUTES if route.service == service for name in route.credentials]
    return list(dict.fromkeys(named))


def _scheme(name: str) -> dict[str, str]:
    if name == API_KEY:
        return {"type": "http", "scheme": "bearer", "description": "A key that was given out: dxk_…"}
    kind = TOKEN_KINDS[name]
    says = f"iss {kind.issuer}, signed by {kind.signer}; claims: {', '.join(kind.required)}"
    return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": says}


def _operation(route: Route) -> dict[str, Any]:
    section, dialect = route.dialect
    operation: dict[str, Any] = {"operationId": f"{route.name}.{dialect}" if dialect else route.name}
    words = [
        f"dialect {section} = {dialect}" if section else "",
        f"only where {route.who}" if route.who else "",
    ]
    if any(words):
        operation["description"] = "; ".join(filter(None, words))
    if route.credentials:
        operation["security"] = [{name: []} for name in route.credentials]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _NAMED.findall(route.path)
    ]
    if route.request is not None and route.method == "GET":
        parameters += [
            {"name": name, "in": "query", "required": name in route.request["required"], "schema": schema}
            for name, schema in route.request["properties"].items()
        ]
    elif route.request is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": route.request}}}
    if parameters:
        operation["parameters"] = parameters
    operation["responses"] = _responses(route)
    return operation


def _responses(route: Route) -> dict[str, Any]:
    known = REPLIES.get((route.service, route.method, route.path), {})
    found = {status: _reply(reply) for status, reply in known.items()}
    found.setdefault(route.success, {"description": "Success"})
    for status in route.failures:
        found.setdefault(status, _refusal(route.service, status))
    return {str(status): found[status] for status in sorted(found)}


def _reply(reply: Reply) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Answer"}
    if reply.headers:
        answer["headers"] = {
            name: {"schema": {"type": "string", "pattern": pattern}}
            for name, pattern in reply.headers.items()
        }
    if reply.media == EVENTS:
        answer["content"] = {EVENTS: {"schema": {"type": "string"}}}
    elif reply.schema is not None:
        answer["content"] = {reply.media: {"schema": reply.schema}}
    return answer


def _refusal(service: str, status: int) -> dict[str, Any]:
    codes = CODES.get(service, {}).get(status, ())
    described = ", ".join(codes) if codes else "Refused"
    return {"description": described, "content": {JSON: {"schema": _REFUSAL}}}


def _merged(operation: dict[str, Any], route: Route) -> dict[str, Any]:
    """The operation, merged with its path's answers in another dialect."""
    content = operation["responses"][str(route.success)].setdefault("content", {})
    content[EVENTS] = {"schema": {"type": "string"}}
    section, dialect = route.dialect
    return operation | {"description": f"{EVENTS} with Accept, in dialect {section} = {dialect}"}


FILES = {service: f"openapi/{service}.json" for service in SERVICES}


if __name__ == "__main__":
    for service, name in FILES.items():
        path = Path("docs", name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text(service), encoding="utf-8")
        print(path)  # noqa: T201
