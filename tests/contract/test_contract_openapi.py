"""The OpenAPI documents are current, and cover the whole model."""

import json
from pathlib import Path

import pytest

from smoke.contract.model import ROUTES, SERVICES
from smoke.contract.openapi import FILES, document, text
from smoke.contract.schemas import REPLIES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("service", SERVICES)
def test_the_documents_are_current(service: str) -> None:
    assert (DOCS / FILES[service]).read_text("utf-8") == text(service), (
        "run: python -m smoke.contract.openapi"
    )


@pytest.mark.parametrize("service", SERVICES)
def test_every_route_and_answer_is_in_its_document(service: str) -> None:
    paths = document(service)["paths"]
    for route in (route for route in ROUTES if route.service == service):
        operation = paths[route.path][route.method.lower()]
        assert {str(status) for status in (route.success, *route.failures)} <= set(operation["responses"])
        assert bool(route.credentials) is ("security" in operation)
    for (owner, method, path), replies in REPLIES.items():
        if owner == service:
            assert {*map(str, replies)} <= set(paths[path][method.lower()]["responses"])


@pytest.mark.parametrize("service", SERVICES)
def test_operations_and_references_are_well_formed(service: str) -> None:
    found = document(service)
    operations = [operation for path in found["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    schemes = found["components"]["securitySchemes"]
    assert all(name in schemes for each in operations for one in each.get("security", ()) for name in one)
    assert all(
        answer["description"] for operation in operations for answer in operation["responses"].values()
    )
    references = {part.split('"')[0] for part in json.dumps(found).split('"$ref": "')[1:]}
    assert references == {"#/components/schemas/Refusal"}
