import pytest

from chat.checks import provider_is_configured


@pytest.fixture
def openai(settings):
    settings.LLM_PROVIDER, settings.LLM_BASE_URL = "openai", "https://models.example/v1"
    settings.LLM_MODEL, settings.LLM_API_KEY = "m", "sk-test-0123456789"
    return settings


def ids() -> list[str]:
    return [message.id for message in provider_is_configured()]


def test_a_whole_configuration_has_nothing_to_say(openai):
    assert ids() == []


def test_the_embedded_provider_needs_no_configuration(settings):
    settings.LLM_PROVIDER = "extractive"
    assert ids() == []


@pytest.mark.parametrize("name", ["LLM_BASE_URL", "LLM_MODEL"])
def test_what_is_missing_is_named(openai, name):
    setattr(openai, name, "")
    (message,) = provider_is_configured()
    assert (message.id, name in message.msg) == ("chat.E001", True)


@pytest.mark.parametrize(("production", "found"), [(True, ["chat.W001"]), (False, [])])
def test_a_key_over_plain_http_is_a_warning_in_production(openai, production, found):
    openai.LLM_BASE_URL, openai.PRODUCTION = "http://models.example/v1", production
    assert ids() == found
