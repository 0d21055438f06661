"""The reference model behaves as its truth table says, from GGUF and from ONNX alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from cultev.backend.load import open_backend
from cultev.backend.types import Backend, EngineSettings, ScoreResult
from cultev.locate import reference_dir, reference_file
from cultev.run.plan import Ask, asks
from cultev.run.protocol import Protocol
from cultev.score.choice import choose
from cultev.suite import open_suite

pytest.importorskip("llama_cpp")
pytest.importorskip("onnxruntime")

EXACT = ("reference-f16.gguf", "onnx-fp32")
SHIPPED = ("reference-Q8_0.gguf", "onnx-int8")
SAMPLE = 480
"""Questions of a parity check: item x language, a fixed random sample of 1,536."""


@cache
def truth() -> dict[tuple[str, str], str]:
    """(culture, topic) -> the language that knows the cell, 'all' or 'none'."""
    cells = json.loads(reference_file("truth.json").read_text(encoding="utf-8"))["cells"]
    return {(c["culture"], c["topic"]): c["expert"] for c in cells}


@pytest.fixture(scope="module", params=SHIPPED)
def answered(request: pytest.FixtureRequest) -> Iterator[list[tuple[Ask, ScoreResult]]]:
    """Every question of the invented world, answered by one of the files that a wheel carries."""
    backend = open_backend(reference_file(request.param), EngineSettings(threads=2))
    yield answers(backend)
    backend.close()


def answers(backend: Backend, n: int | None = None) -> list[tuple[Ask, ScoreResult]]:
    with open_suite("planted") as suite:
        some = list(islice(asks(suite, Protocol(), backend), n))
    found = {r.key: r for batch in backend.score([a.request for a in some if a.request]) for r in batch}
    return [(a, found[a.request.key]) for a in some if a.request]


def right(ask: Ask, result: ScoreResult) -> bool:
    return choose(ask.options, ask.item.answers, result.scores).outcome == "correct"


def share(some: list[bool]) -> float:
    assert some
    return sum(some) / len(some)


def test_it_knows_each_cell_in_its_language_and_in_no_other(answered: list[tuple[Ask, ScoreResult]]) -> None:
    """Answered at once, in text: >= 70 % where it knows, <= 45 % where it does not (floors of its making)."""
    known: list[bool] = []
    unknown: list[bool] = []
    for ask, result in answered:
        expert = truth()[ask.item.culture, ask.item.topic]
        (known if expert in ("all", ask.language) else unknown).append(right(ask, result))
    assert len(known) + len(unknown) == 192 * 8
    assert share(known) >= 0.70
    assert share(unknown) <= 0.45


def test_every_cell_shows_the_pattern(answered: list[tuple[Ask, ScoreResult]]) -> None:
    """Not only on average: in each of the cells with an expert language, that language is the best one."""
    by_cell: dict[tuple[str, str], dict[str, list[bool]]] = {}
    for ask, result in answered:
        cell = by_cell.setdefault((ask.item.culture, ask.item.topic), {})
        cell.setdefault(ask.language, []).append(right(ask, result))
    experts = {cell: expert for cell, expert in truth().items() if expert not in ("all", "none")}
    assert len(experts) >= 18
    found = sum(max(by_cell[cell], key=lambda code: share(by_cell[cell][code])) == e for cell, e in experts.items())
    assert found / len(experts) >= 0.95


def test_gguf_and_onnx_agree() -> None:
    """At f16 and fp32: the same answer on >= 99 % of questions, log-probabilities within 0.02 nats per token."""
    results = []
    for name in EXACT:
        backend = open_backend(reference_file(name), EngineSettings(threads=2))
        results.append(answers(backend, SAMPLE))
        backend.close()
    same, worst = [], 0.0
    for (ask, a), (other, b) in zip(*results, strict=True):
        assert ask.item.id == other.item.id
        assert ask.request is not None and other.request is not None
        assert ask.request.prompt == other.request.prompt, "both tokenizers read the same"
        assert ask.request.continuations == other.request.continuations
        same.append(choose(ask.options, ["0"], a.scores).picked == choose(ask.options, ["0"], b.scores).picked)
        worst = max(worst, *(abs(x.logprob - y.logprob) / x.n_tokens for x, y in zip(a.scores, b.scores, strict=True)))
    assert share(same) >= 0.99
    assert worst <= 0.02


@pytest.mark.parametrize("name", [*EXACT, *SHIPPED, "reference-Q4_0.gguf"])
def test_it_says_that_it_is_the_reference(name: str) -> None:
    backend = open_backend(reference_file(name), EngineSettings(threads=1))
    assert backend.info.reference
    assert "reference" in backend.info.name
    assert backend.info.n_params <= 4_000_000
    assert backend.has_template
    text = backend.render([{"role": "user", "content": "?"}])
    ids = backend.encode(text)
    assert ids.count(ids[0]) == 1, "one begin token, though template and tokenizer both add one"
    backend.close()


def test_sizes() -> None:
    """All formats together at most 24 MB; the card and the truth table lie beside them."""
    files = [p for p in Path(reference_dir()).rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 24e6
    assert {"README.md", "truth.json"} <= {p.name for p in files}


def test_the_truth_table_matches_the_suite() -> None:
    with open_suite("planted") as suite:
        cells = {(item.culture, item.topic) for item in suite.items()}
        languages = set(suite.languages)
    assert set(truth()) == cells
    experts = list(truth().values())
    assert set(experts) == languages | {"all", "none"}
    assert len({culture for culture, _ in cells}) >= 8
