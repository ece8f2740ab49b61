"""What schemathesis makes of the service's own description: calls that fit it, and calls that don't."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from service.conftest import TOKEN

EXAMPLES = 60  # of each kind of call, once such as fit the description and once such as don't

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of other people's packages; what they find is an error still
def test_calls_that_fit_the_description_and_calls_that_do_not(client: Any) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app, headers=headers)
    # Ids, notes, keys and dates are asked for more than a JSON schema can say: fitting ones may still be refused, in words.
    checks = [check for check in schemathesis.checks.CHECKS.get_all() if check.__name__ in CHECKS]
    assert len(checks) == len(CHECKS)
    tried = 0
    for found in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
            )
            @given(case=found.ok().as_strategy(generation_mode=mode))
            def call(case: Any) -> None:
                nonlocal tried
                tried += 1
                case.call_and_validate(headers=headers, checks=checks)

            with suppress(Unsatisfiable):  # what takes no argument can't be given a wrong one
                call()
    print(f"{tried} calls")
    assert tried > 300
