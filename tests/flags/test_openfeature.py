"""The official OpenFeature client for Python reads the flags of a running server."""

from collections.abc import Callable, Iterator

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode

from tests.services.gunicorn import Gunicorn

SOMEONE = EvaluationContext(targeting_key="someone")


@pytest.fixture(scope="module")
def client(gunicorn_server: Callable[..., Gunicorn]) -> Iterator[OpenFeatureClient]:
    server = gunicorn_server({"FEATURE_SUGGESTED_ACTIONS": "0"}, workers=1)
    headers = {"Authorization": f"Bearer {server.token}"}
    api.set_provider(OFREPProvider(server.url, headers_factory=lambda: headers))
    yield api.get_client()
    api.shutdown()


@pytest.mark.parametrize("context", [SOMEONE, None], ids=["someone", "the caller"])
def test_each_kind_of_flag_is_read(client: OpenFeatureClient, context: EvaluationContext | None) -> None:
    assert client.get_boolean_value("USE_UNIFIED_PIPELINE", False, context) is True
    assert client.get_boolean_value("FEATURE_SUGGESTED_ACTIONS", True, context) is False
    assert client.get_string_value("CONV_STORE_PRIMARY", "none", context) == "database"
    assert client.get_integer_value("CONV_MAX_TURNS", -1, context) == 16
    assert client.get_float_value("SCHEMA_REPAIR_RATE_ALERT", -1.0, context) == 0.005


def test_an_unknown_flag_gives_the_default_and_says_so(client: OpenFeatureClient) -> None:
    details = client.get_boolean_details("NOPE", True, SOMEONE)
    assert (details.value, details.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)


def test_a_variant_and_a_reason_are_given(client: OpenFeatureClient) -> None:
    details = client.get_boolean_details("USE_UNIFIED_PIPELINE", False, SOMEONE)
    assert (details.variant, details.reason, details.error_code) == ("on", "STATIC", None)
