"""The catalogue agrees with itself: parameters with shapes, sizes with published files, filters with what they say."""

from __future__ import annotations

import json
import re

import pytest

from cultev.errors import UsageError
from cultev.models.catalogue import QUANTIZATIONS, Suggestion, catalogue, find, suggest

FACTS = {"license", "languages", "shape", "parameters", "gated", "gguf", "onnx"}
PUBLISHED = {
    ("EuroLLM-1.7B-Instruct", "Q4_K_M"): 1050,
    ("CroissantLLMChat-v0.1", "Q4_K_M"): 872,
    ("CroissantLLMChat-v0.1", "Q8_0"): 1430,
    ("InkubaLM-0.4B", "Q4_K_M"): 424,
    ("Phi-3.5-mini-instruct", "Q4_K_M"): 2390,
}
"""MB of files that others have published, as their pages list them."""


def computed(model: Suggestion) -> int:
    """Parameters by the shape: embedding (twice unless tied), attention, a gated or plain feed-forward network."""
    shape = model.shape
    attention = 2 * shape.width * shape.head_dim * (shape.heads + shape.kv_heads)
    matrices = 2 if model.architecture in ("bloom", "mpt") else 3
    layer = attention + matrices * shape.width * shape.ffn
    return shape.embedding * (1 if shape.tied else 2) + shape.layers * layer


def test_there_are_enough_and_none_twice() -> None:
    names = [model.name for model in catalogue()]
    assert len(names) == len(set(names)) >= 25
    assert all(0.3e9 <= model.parameters <= 4.1e9 for model in catalogue())
    sizes = [model.parameters for model in catalogue()]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("model", catalogue(), ids=lambda model: model.name)
def test_every_entry_is_sound(model: Suggestion) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", model.repo)
    assert model.license == model.license.lower() and model.license
    assert model.languages and len(set(model.languages)) == len(model.languages)
    assert all(re.fullmatch(r"[a-z]{2,3}", code) for code in model.languages)
    assert set(model.unverified) <= FACTS
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", repo) for repo in (model.gguf, model.onnx) if repo)
    # Short convolutions are not in the formula: theirs are the only models that may differ.
    assert computed(model) == pytest.approx(model.parameters, rel=0.06 if model.architecture == "lfm2" else 0.005)
    for coarse, fine in ((names[1], names[0]) for names in QUANTIZATIONS.values()):
        assert 0 < model.size(coarse) < model.size(fine) < 2 * model.parameters
        assert model.size(fine) < model.memory(fine).total


@pytest.mark.parametrize(("name", "kind"), PUBLISHED)
def test_sizes_are_near_those_of_published_files(name: str, kind: str) -> None:
    assert find(name).size(kind) / 1e6 == pytest.approx(PUBLISHED[name, kind], rel=0.06)


def test_longer_contexts_need_more_memory() -> None:
    model = find("Qwen3-0.6B")
    more = model.memory("Q8_0", n_ctx=8192).kv_cache - model.memory("Q8_0", n_ctx=4096).kv_cache
    assert more == 4096 * model.shape.layers * 2 * 2 * model.shape.kv_heads * model.shape.head_dim


def test_a_smaller_machine_gets_fewer_and_coarser_models() -> None:
    everything, some = suggest(), suggest(memory=3_000_000_000)
    assert len(everything) == len(catalogue()) and all(fit.quantization == "Q8_0" for fit in everything)
    assert 0 < len(some) < len(everything) and all(fit.memory <= 3_000_000_000 for fit in some)
    model = find("EuroLLM-1.7B")
    fine, coarse = model.memory("Q8_0").total, model.memory("Q4_K_M").total
    assert coarse < fine
    for memory, quantization in ((fine, "Q8_0"), (fine - 1, "Q4_K_M"), (coarse, "Q4_K_M"), (coarse - 1, None)):
        chosen = [fit.quantization for fit in suggest(memory=memory) if fit.model is model]
        assert chosen == ([quantization] if quantization else [])
    assert suggest(memory=1_000_000) == []


def test_filters() -> None:
    assert {"sarvam-1", "Llama-3.2-1B-Instruct"} <= {fit.model.name for fit in suggest(language="hi")}
    assert suggest(language="zh-Hant") == suggest(language="zh") != []
    assert all("sw" in fit.model.languages for fit in suggest(language="sw"))
    assert all(fit.model.parameters <= 1e9 for fit in suggest(max_params=1.0))
    assert {fit.quantization for fit in suggest(format="onnx")} == {"int8"}


def test_names_long_and_short() -> None:
    assert find("google/gemma-2-2b-it") is find("gemma-2-2b") is find("GEMMA-2-2B-IT")
    with pytest.raises(UsageError) as caught:
        find("gemma")
    assert "gemma-3-1b-it" in caught.value.next_step


def test_sources_are_addresses_of_the_models_own_files() -> None:
    assert find("sarvam-1").source_of("license").endswith("/sarvamai/sarvam-1/blob/main/LICENSE.md")
    assert json.dumps([model.source_of("shape") for model in catalogue()]).count("config.json") == len(catalogue())
