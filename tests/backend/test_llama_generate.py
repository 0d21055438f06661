"""The GGUF engine writes: grammars, stop texts, many at once; and gives vectors and its plain speed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cultev.backend.generated import Growing
from cultev.backend.llama import LlamaBackend
from cultev.backend.llama_sizes import generating_sizes
from cultev.backend.types import Continuation, EngineSettings, FollowUp, GenerateRequest, ScoreRequest
from cultev.errors import EngineError, ModelUnsupported
from tests.backend.gguf_models import special_ids, write_tiny_gguf
from tests.backend.llama_requests import OPTIONS, generated, requests, scores, texts

llama_cpp = pytest.importorskip("llama_cpp")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def backend(path: Path) -> Iterator[LlamaBackend]:
    engine = LlamaBackend(path, EngineSettings(threads=1))
    yield engine
    engine.close()


def greedy(path: Path, request: GenerateRequest) -> list[int]:
    """Token by token through the library's own high-level class."""
    model = llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=1, n_threads_batch=1)
    model.eval(list(request.prompt))
    found: list[int] = []
    while len(found) < request.max_tokens:
        token = int(np.argmax(model.scores[model.n_tokens - 1]))
        found.append(token)
        if llama_cpp.llama_vocab_is_eog(model._model.vocab, token):
            break
        model.eval([token])
    model.close()
    return found


def test_texts_equal_the_librarys_own(path: Path, backend: LlamaBackend) -> None:
    some = texts(6)
    found = generated(backend, some)
    for request in some:
        assert list(found[request.key].tokens) == greedy(path, request)
        assert found[request.key].text == backend.decode(found[request.key].tokens)


def test_a_follow_up_equals_a_question_asked_anew(backend: LlamaBackend) -> None:
    written = "".join(r.text for r in generated(backend, texts(9)).values()).replace("\ufffd", "")
    some = texts(9, stop=tuple(written[i : i + 1] for i in range(0, len(written), 5)))
    found = generated(backend, some)
    assert {r.finish for r in found.values()} >= {"stop", "length"}
    end = {t for t in special_ids().values() if backend._tokens.ends(t)}
    for request in some:
        result = found[request.key]
        growing = Growing(request.stop)
        kept = [t for t in result.tokens if t not in end]
        for token in kept:
            growing.add(backend._tokens.piece(token))
        n, rest = growing.kept()
        prompt = (*request.prompt, *kept[:n], *backend._tokens.encode_on(rest), 5, 6)
        (asked,) = scores(backend, [ScoreRequest("", prompt, OPTIONS)]).values()
        for a, b in zip(result.scores, asked.scores, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=0.02 * a.n_tokens)


def test_the_same_texts_give_the_same_bytes(path: Path, backend: LlamaBackend) -> None:
    some = texts(30)
    first = generated(backend, some)
    fresh = LlamaBackend(path, EngineSettings(threads=1))
    scores(fresh, requests(5))
    assert generated(fresh, some) == first == generated(backend, some)
    fresh.close()


def test_work_is_told_before_it_begins(backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(backend, "on_start", begun.extend)
    some = texts(20)
    for batch in backend.generate(some):
        assert {r.key for r in batch} <= set(begun)
    assert sorted(begun) == sorted(r.key for r in some)
    begun.clear()
    for scored in backend.score(requests(20)):
        assert {r.key for r in scored} <= set(begun)


# Grammars


def test_a_grammar_is_kept_to(backend: LlamaBackend) -> None:
    grammar = 'root ::= "The answer is " [A-D] "." (" " [0-9]+)?'
    plain = [replace(r, max_tokens=40) for r in texts(12, follow_up=None)]
    some = [replace(r, grammar=grammar, temperature=1.0 * (i % 2), seed=i) for i, r in enumerate(plain)]
    found = generated(backend, some)
    for result in found.values():
        assert re.match(r"The answer is [A-D]\.( [0-9]*)?$", result.text)
        assert result.finish == "length" or re.fullmatch(r"The answer is [A-D]\.( [0-9]+)?", result.text)
    assert any(r.finish == "end" for r in found.values())
    assert not any("answer" in r.text for r in generated(backend, plain).values())


@pytest.mark.parametrize("grammar", ["root ::= [a-z ]+", 'root ::= "th" "e"*', "root ::= [^a-zA-Z]+", "root ::= .*"])
def test_the_best_allowed_token_is_found_without_asking_all(grammar: str, backend: LlamaBackend) -> None:
    random = np.random.default_rng(0)
    constraint = backend._grammar(grammar)
    for _ in range(12):
        logits = random.normal(size=backend.info.n_vocab).astype(np.float32).round(1)  # rounded: with ties
        whole, best = constraint.mask(logits), constraint.mask(logits, greedy=True)
        assert best.argmax() == whole.argmax()
        token = int(whole.argmax())
        assert np.isfinite(whole[token])
        if backend._tokens.ends(token):
            break
        constraint.accept(token)
    constraint.close()


def test_where_a_grammar_ends_the_text_ends(backend: LlamaBackend) -> None:
    found = generated(backend, [replace(r, max_tokens=20, grammar='root ::= "yes" | "no"') for r in texts(6)])
    assert {(r.text, r.finish) for r in found.values()} <= {("yes", "end"), ("no", "end")}
    assert all(len(r.scores) == len(OPTIONS) for r in found.values())


@pytest.mark.parametrize("grammar", ["root ::= (", 'start ::= "a"', "root ::= missing", "root ::= root"])
def test_a_broken_grammar_is_refused(grammar: str, backend: LlamaBackend) -> None:
    with pytest.raises(ModelUnsupported, match="grammar can't be read") as caught:
        generated(backend, [replace(texts(1)[0], grammar=grammar)])
    assert caught.value.next_step
    assert len(generated(backend, texts(3))) == 3  # and all goes on


# Settings


@pytest.mark.parametrize("parallel", [1, 3, 40])
def test_any_number_of_texts_at_once(parallel: int, path: Path, backend: LlamaBackend) -> None:
    engine = LlamaBackend(path, EngineSettings(threads=1, parallel=parallel, batch=64))
    some = texts(50)
    a, b = generated(engine, some), generated(backend, some)
    assert sum(a[r.key].tokens == b[r.key].tokens for r in some) >= 48  # a near tie may fall the other way
    engine.close()


def test_small_batches_give_the_same_scores(path: Path, backend: LlamaBackend) -> None:
    engine = LlamaBackend(path, EngineSettings(threads=1, batch=16))
    assert engine.limits.tokens == 16
    some = requests(10, options=9)
    a, b = scores(engine, some), scores(backend, some)
    for r in some:
        for x, y in zip(a[r.key].scores, b[r.key].scores, strict=True):
            assert x.logprob == pytest.approx(y.logprob, abs=0.02 * x.n_tokens)
    engine.close()


def test_memory_for_generating_is_bounded() -> None:
    for way in ("copy", "restore", "recompute"):
        small = generating_sizes(way, n_ctx=256, batch=512, parallel=16, outputs=110, kv_bytes=1000, most=256)
        assert 17 <= small.slots <= 24
        large = generating_sizes(way, n_ctx=4096, batch=512, parallel=200, outputs=110, kv_bytes=131072, most=64)
        assert large.sequences <= 64
        assert 4096 <= large.cells - large.kept_free <= 2**30 // 131072
    states = generating_sizes(
        "restore", n_ctx=4096, batch=512, parallel=16, outputs=110, kv_bytes=0, most=256, state_bytes=2**25
    )
    assert states.sequences <= 8


def test_a_gpu_that_is_not_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: False)
    with pytest.raises(EngineError, match="no GPU") as caught:
        LlamaBackend(path, EngineSettings(device="gpu"))
    assert "CUDA" in caught.value.next_step
    for device in ("auto", "cpu"):
        engine = LlamaBackend(path, EngineSettings(threads=1, device=device))
        assert engine.info.extra["device"] == "cpu"
        engine.close()


# Text


@pytest.mark.parametrize("text", ["", " bread", "bread", "नमस्ते", "\n\n1", "the and"])
def test_a_text_that_goes_on_is_nothing_but_itself(text: str, backend: LlamaBackend) -> None:
    tokens = backend._tokens.encode_on(text)
    assert backend.decode(tokens) == text
    assert not set(tokens) & set(special_ids().values())


@pytest.mark.parametrize("text", ["", "bread", " bread", "the bread", "\nbread", "ne", "रोटी"])
def test_it_gets_no_space_where_vocabularies_put_one(text: str, tmp_path: Path) -> None:
    engine = LlamaBackend(write_tiny_gguf(tmp_path / "spaced.gguf", spaced=True), EngineSettings(threads=1))
    before = engine.encode("a")
    assert before[0] == 1  # BOS
    assert engine.decode(before).strip() == "a"
    tokens = engine._tokens.encode_on(text)
    assert engine.decode([*before, *tokens]) == engine.decode(before) + text
    assert len(tokens) <= len(text.encode())
    engine.close()


def test_special_tokens_have_no_text(backend: LlamaBackend) -> None:
    ids = special_ids()
    assert backend.decode([*backend.encode("a"), ids["<|im_end|>"], *backend._tokens.encode_on("é")]) == "aé"
    assert backend.decode(backend._tokens.encode_on("é")[:1]) == "\ufffd"


# Vectors, plain speed


def test_vectors_are_means_of_hidden_states(backend: LlamaBackend) -> None:
    some = ["bread and rice", "the", "", "नमस्ते " * 8, "bread and rice"]
    vectors = backend.embed(some)
    assert vectors.shape == (5, 64)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    alone = np.concatenate([backend.embed([text]) for text in some])
    assert vectors == pytest.approx(alone, abs=5e-3)
    assert float(vectors[0] @ vectors[3]) < 0.99
    assert backend.embed([]).shape == (0, 64)
    with pytest.raises(EngineError, match="too long to embed"):
        backend.embed(["x" * 300])


def test_long_texts_are_embedded_in_parts(path: Path, backend: LlamaBackend) -> None:
    engine = LlamaBackend(path, EngineSettings(threads=1, batch=32))
    some = ["bread " * 30, "rice"]
    assert engine.embed(some) == pytest.approx(backend.embed(some), abs=5e-3)
    engine.close()


def test_plain_speed_is_measured_and_leaves_nothing_behind(backend: LlamaBackend) -> None:
    some = requests(10)
    before = scores(backend, some)
    assert backend.raw_prompt_rate(100) > 0
    assert scores(backend, some) == before
    prompts = texts(10)
    told = generated(backend, prompts)
    for n in (1, 16, 60):
        assert backend.raw_decode_rate([(1, 2, i) for i in range(n)], 2) > 0
    assert generated(backend, prompts) == told
    assert scores(backend, some) == before


def test_a_run_of_texts_left_halfway_is_forgotten(backend: LlamaBackend) -> None:
    some = texts(40)
    stream = backend.generate(some)
    next(stream)
    with pytest.raises(EngineError, match="generating already"):
        generated(backend, some)
    assert len(scores(backend, requests(3))) == 3  # scoring beside it is no problem
    stream.close()  # type: ignore[attr-defined]
    assert len(generated(backend, some)) == 40


def test_closing_the_model_ends_its_texts(path: Path) -> None:
    engine = LlamaBackend(path, EngineSettings(threads=1))
    stream = engine.generate(texts(40))
    next(stream)
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        next(stream)


def test_a_prompt_that_fills_the_context(backend: LlamaBackend) -> None:
    prompt = tuple(i % 200 for i in range(backend.n_ctx - 8))
    follow = FollowUp((1,), (Continuation("a", (2, 3)),))
    result = generated(backend, [GenerateRequest("r", prompt, 50, follow_up=follow)])["r"]
    assert result.finish in ("context", "end")
    assert len(result.tokens) <= 8
    assert len(result.scores) == 1


@pytest.mark.parametrize("strict", [False, True])
def test_moved_states_have_cells_for_every_branch(strict: bool, path: Path) -> None:
    """Where a prefix can only be copied whole, each option of a follow-up takes as many cells as all before it."""
    options = tuple(Continuation("x", (i, i + 1, i + 2)) for i in range(1, 40, 5))
    some = texts(5, head=150, follow_up=FollowUp((5, 6), options))
    found = {}
    for way in ("copy", "restore"):
        engine = LlamaBackend(path, EngineSettings(threads=1, parallel=1, batch=64, reuse=way, strict=strict))
        found[way] = generated(engine, some)
        engine.close()
    for r in some:
        assert found["restore"][r.key].tokens == found["copy"][r.key].tokens
        for a, b in zip(found["restore"][r.key].scores, found["copy"][r.key].scores, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=0.02 * a.n_tokens)
