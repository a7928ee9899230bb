"""Requests drawn from the description of the API, right ones and wrong ones: none may bring the service down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from serving import running

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install -e .[test]")

# each answer must be described: its status, its media type, its content; and no request may be a fault of the service
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
QUIET = settings(
    max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def described(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with running({"shop": model}, tmp_path_factory.mktemp("schema")) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_nothing_that_can_be_asked_is_a_fault(described: Any) -> None:
    import requests

    checks = [check for check in schemathesis.checks.CHECKS.get_all() if check.__name__ in CHECKS]
    assert len(checks) == len(CHECKS)
    asked = 0
    with requests.Session() as session:
        for found in described.get_all_operations():
            operation = found.ok()
            for mode in schemathesis.GenerationMode:

                @QUIET
                @given(case=operation.as_strategy(generation_mode=mode))
                def ask(case: Any) -> None:
                    nonlocal asked
                    asked += 1
                    case.call_and_validate(session=session, checks=checks)

                try:
                    ask()
                except Unsatisfiable:  # nothing that one could ask of it is wrong
                    assert mode is not schemathesis.GenerationMode.POSITIVE
    assert asked > 100
