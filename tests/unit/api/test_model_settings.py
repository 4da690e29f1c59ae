"""Settings of providers, prices and routing: shipped values, what may be written over them, what is refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tenuto.domain.routing import Routing
from tenuto.errors import InvalidSettings
from tenuto.ports.providers import Providers
from tenuto.settings import Settings, environment, load
from tenuto.settings.models import providers_of, routing_of


def _load(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "tenuto.toml"
    file.write_text(text)
    return load({}, {}, file)


def _providers(settings: Settings) -> Providers:
    return providers_of(settings.providers, settings.prices, settings.fallback_price)


def _routing(settings: Settings) -> Routing:
    return routing_of(settings.tiers, settings.routes)


def _refused(tmp_path: Path, text: str) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as caught:
        _load(tmp_path, text)
    return {problem.place.rpartition(": ")[2]: f"{problem.message} {problem.hint}" for problem in caught.value.problems}


def test_a_key_alone_is_enough(tmp_path: Path) -> None:
    found = _providers(_load(tmp_path, "")).providers
    assert (found["openai"].key_env, found["anthropic"].key_env, found["ollama"].key_env) == (
        "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "",
    )  # fmt: skip
    assert [one.local for one in found.values()] == [False, False, True]


def test_a_server_that_speaks_openais_protocol_is_a_name_and_an_address(tmp_path: Path) -> None:
    text = '[providers.sarmalink]\nbase_urls = ["https://sarmalink.example/v1"]\nkey_env = "SARMALINK_API_KEY"\n'
    found = _providers(_load(tmp_path, text)).providers["sarmalink"]
    assert (found.kind, found.base_urls, found.local) == ("openai-compatible", ("https://sarmalink.example/v1",), False)


def test_a_shipped_provider_keeps_what_is_not_set(tmp_path: Path) -> None:
    text = '[providers.openai]\ntimeout_s = 5\n[providers.ollama]\nbase_urls = ["http://a:1/v1", "http://b:1/v1"]\n'
    found = _providers(_load(tmp_path, text)).providers
    assert (found["openai"].kind, found["openai"].timeout_s, found["openai"].key_env) == ("openai", 5.0, "OPENAI_API_KEY")
    assert (found["ollama"].base_urls, found["ollama"].local) == (("http://a:1/v1", "http://b:1/v1"), True)


def test_a_second_ollama_is_local_too(tmp_path: Path) -> None:
    text = '[providers.attic]\nkind = "ollama"\nbase_urls = ["http://attic:11434/v1"]\n'
    assert _providers(_load(tmp_path, text)).providers["attic"].local


def test_prices_are_what_was_written(tmp_path: Path) -> None:
    text = '[prices."openai:gpt-x"]\ninput_usd = 0.1\noutput_usd = 0.3\ncached_usd = 0\n'
    price = _providers(_load(tmp_path, text)).prices["openai:gpt-x"]
    assert (price.input_usd, price.output_usd) == (Decimal("0.1"), Decimal("0.3"))
    assert (price.cached_usd, price.cache_write_usd) == (Decimal(0), None)


def test_workers_read_the_same_from_the_environment(tmp_path: Path) -> None:
    text = '[providers.x]\nbase_urls = ["http://x/v1"]\n[prices."x:m"]\ninput_usd = 1\noutput_usd = 2\n[tiers.local]\nmodels = ["x:m"]\n'
    settings = _load(tmp_path, text)
    again = load({}, environment(settings))
    assert (_providers(again), _routing(again)) == (_providers(settings), _routing(settings))


def test_contradictions_are_named_with_the_place(tmp_path: Path) -> None:
    found = _refused(
        tmp_path,
        '[providers.olama]\nlocal = true\n[providers."a:b"]\nbase_urls = ["http://x/v1"]\n[prices."x:m"]\ninput_usd = 1\n'
        '[tiers.huge]\nmodels = ["gpt-5"]\n[tiers.none]\nmodels = []\n[routes.code]\nsimple = "lokal"\n',
    )
    assert set(found) == {
        "providers.olama.base_urls", "providers.a:b", "prices.x:m.output_usd", "tiers.huge.models", "tiers.none.models",
        "routes.code.simple",
    }  # fmt: skip
    assert "'ollama'" in found["providers.olama.base_urls"]
    assert "'local'" in found["routes.code.simple"]


def test_a_key_pasted_for_its_variable_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as caught:
        _load(tmp_path, '[providers.openai]\nkey_env = "sk-canary-0001"\n')
    assert "key_env" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_an_address_with_a_password_is_refused(tmp_path: Path) -> None:
    assert "providers.x" in str(_refused(tmp_path, '[providers.x]\nbase_urls = ["http://me:secret@x/v1"]\n'))


def test_tasks_are_routed_by_type_and_complexity(tmp_path: Path) -> None:
    routing = _routing(_load(tmp_path, ""))
    table = {kind: [routing.tier(kind, level) for level in ("simple", "medium", "complex")] for kind in (
        "code", "research", "analysis", "documentation", "asset", "integration", "planning", "unheard-of",
    )}  # fmt: skip
    assert table == {
        "code": ["small", "large", "large"], "research": ["local", "small", "large"],
        "analysis": ["local", "small", "large"], "documentation": ["local", "small", "large"],
        "asset": ["local", "local", "local"], "integration": ["small", "small", "large"],
        "planning": ["planning", "planning", "planning"], "unheard-of": ["small", "small", "small"],
    }  # fmt: skip
    assert routing.tier() == "small"
    assert routing.tier("code", "who knows") == "large"


def test_routes_and_tiers_are_written_over_the_shipped_ones(tmp_path: Path) -> None:
    text = '[tiers.huge]\nmodels = ["x:h"]\n[tiers.local]\nmodels = ["x:a", "x:b"]\n[routes.code]\ncomplex = "huge"\n[routes.other]\nsimple = "local"\n[routes.poem]\nmedium = "huge"\n'
    routing = _routing(_load(tmp_path, text))
    assert [routing.tier("code", level) for level in ("simple", "complex")] == ["small", "huge"]
    assert [routing.tier("poem", level) for level in ("simple", "medium", "complex")] == ["local", "huge", "small"]
    assert routing.tier("unheard-of", "simple") == "local"
    assert routing.models("local") == ("x:a", "x:b")
    assert routing.models("large", dearer=True) == ("anthropic:claude-sonnet-4-6", "openai:gpt-5", "x:h")
