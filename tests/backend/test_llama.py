"""The GGUF engine on small random models: shared scores equal separate ones, bit for bit repeatable."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cultev.backend.llama import LlamaBackend
from cultev.backend.prefix import Limits
from cultev.backend.proof import prove_reuse
from cultev.backend.types import Continuation, EngineSettings, ScoreRequest, ScoreResult
from cultev.errors import EngineError, ModelDamaged, ModelUnsupported
from tests.backend.gguf_models import write_tiny_gguf

llama_cpp = pytest.importorskip("llama_cpp")

USER = [{"role": "user", "content": "Which bread? नमस्ते"}]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_tiny_gguf(target)
    return target


@pytest.fixture(scope="module")
def backend(path: Path) -> Iterator[LlamaBackend]:
    engine = LlamaBackend(path, EngineSettings(threads=2))
    yield engine
    engine.close()


def requests(n: int = 30, seed: int = 1, head: int = 20, longest: int = 40, options: int = 4) -> list[ScoreRequest]:
    generator = random.Random(seed)
    start = [generator.randrange(200) for _ in range(head)]
    return [
        ScoreRequest(
            f"{seed}-{i}",
            (*start, *(generator.randrange(200) for _ in range(generator.randrange(1, longest)))),
            tuple(
                Continuation("abc", tuple(generator.randrange(200) for _ in range(generator.randrange(1, 9))))
                for _ in range(options)
            ),
        )
        for i in range(n)
    ]


def scores(
    backend: LlamaBackend, some: list[ScoreRequest], skip: frozenset[str] = frozenset()
) -> dict[str, ScoreResult]:
    return {r.key: r for batch in backend.score(some, skip=skip) for r in batch}


def plain_scores(path: Path, request: ScoreRequest) -> list[float]:
    """The same by llama-cpp-python's high-level class, every position's logits, one sequence at a time."""
    model = llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=2)
    result = []
    for continuation in request.continuations:
        model.reset()
        tokens = [*request.prompt, *continuation.tokens]
        model.eval(tokens)
        logits = np.array(model.scores[: len(tokens)], dtype=np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        start = len(request.prompt)
        result.append(sum(logprobs[start + i - 1, t] for i, t in enumerate(continuation.tokens)))
    model.close()
    return result


def test_scores_equal_the_librarys_own(path: Path, backend: LlamaBackend) -> None:
    some = requests(6)
    shared = scores(backend, some)
    for request in some:
        for ours, theirs, c in zip(
            shared[request.key].scores, plain_scores(path, request), request.continuations, strict=True
        ):
            assert ours.logprob == pytest.approx(theirs, abs=0.02 * len(c.tokens))
            assert ours.n_tokens == len(c.tokens)


@pytest.mark.parametrize("seed", range(5))
def test_sharing_equals_computing_again(backend: LlamaBackend, seed: int) -> None:
    proof = prove_reuse(backend, requests(12, seed=seed, head=seed * 7 + 1))
    assert proof.holds
    assert proof.worst_per_token < 0.02


def test_computing_path_by_path_gives_the_same(path: Path, backend: LlamaBackend) -> None:
    """What recurrent models get, on a model where both ways are possible."""
    some = requests(8)
    engine = LlamaBackend(path, EngineSettings(threads=2, reuse="recompute"))
    for key, result in scores(engine, some).items():
        for a, b in zip(result.scores, scores(backend, some)[key].scores, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=0.02 * a.n_tokens)
    engine.close()


def test_a_fresh_engine_gives_the_same_bits(path: Path, backend: LlamaBackend) -> None:
    some = requests(60)
    engine = LlamaBackend(path, EngineSettings(threads=2))
    assert scores(engine, some) == scores(backend, some) == scores(backend, some)
    engine.close()


def test_skipping_whole_packs_changes_no_bit(backend: LlamaBackend) -> None:
    some = requests(80)
    packs = list(backend.score(some))
    whole = {r.key: r for pack in packs for r in pack}
    assert len(packs) >= 4
    for kept in (slice(None, None, 2), slice(1, None, 2), slice(-1, None)):
        keys = {r.key for pack in packs[kept] for r in pack}
        rest = scores(backend, some, skip=frozenset(whole) - keys)
        assert rest == {key: whole[key] for key in keys}


def test_a_request_larger_than_a_pack(path: Path, backend: LlamaBackend) -> None:
    (big,) = requests(1, options=30)
    expected = scores(backend, [big])[big.key]
    engine = LlamaBackend(path, EngineSettings(threads=2))
    engine.limits = Limits(tokens=16, leaves=4, reads=16)
    result = scores(engine, [big])[big.key]
    assert len(result.scores) == 30
    for a, b in zip(result.scores, expected.scores, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=0.02 * a.n_tokens)
    engine.close()


def test_a_prompt_that_fills_the_context(backend: LlamaBackend) -> None:
    generator = random.Random(3)
    prompt = tuple(generator.randrange(200) for _ in range(backend.n_ctx - 3))
    request = ScoreRequest("long", prompt, (Continuation("abc", (1, 2, 3)), Continuation("d", (4,))))
    assert prove_reuse(backend, [request]).holds


def test_one_begin_token_however_many_are_offered(tmp_path: Path) -> None:
    bos = "{{ bos_token }}{{ messages[0].content }}"
    for template, add_bos in ((bos, True), (bos, False), ("{{ messages[0].content }}", True)):
        target = tmp_path / "model.gguf"
        write_tiny_gguf(target, chat_template=template, add_bos=add_bos)
        engine = LlamaBackend(target, EngineSettings(threads=1))
        ids = engine.encode(engine.render(USER))
        begin = llama_cpp.llama_vocab_bos(engine._tokens.vocab)
        assert ids.count(begin) == 1
        assert ids[0] == begin
        engine.close()


def test_text_survives_tokenizing(backend: LlamaBackend) -> None:
    text = backend.render(USER)
    data = b"".join(piece_bytes(backend, token) for token in backend.encode(text))
    assert text.encode() in data


def piece_bytes(backend: LlamaBackend, token: int) -> bytes:
    import ctypes

    buffer = ctypes.create_string_buffer(64)
    n = llama_cpp.llama_token_to_piece(backend._tokens.vocab, token, buffer, 64, 0, True)
    return buffer.raw[:n]


def test_no_template_means_plain_text(tmp_path: Path) -> None:
    target = tmp_path / "plain.gguf"
    write_tiny_gguf(target, chat_template=None)
    engine = LlamaBackend(target, EngineSettings(threads=1))
    assert not engine.has_template
    assert engine.render(USER) == USER[0]["content"]
    engine.close()


@pytest.mark.parametrize("share", [0.2, 0.7, 0.99])
def test_a_file_cut_short(path: Path, tmp_path: Path, share: float) -> None:
    data = path.read_bytes()
    short = tmp_path / "short.gguf"
    short.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelDamaged) as caught:
        LlamaBackend(short)
    assert caught.value.next_step


def test_an_unknown_architecture(tmp_path: Path) -> None:
    target = tmp_path / "unknown.gguf"
    write_tiny_gguf(target, architecture="llama")
    data = target.read_bytes().replace(b"llama", b"lxama")
    target.write_bytes(data)
    with pytest.raises(ModelUnsupported, match="unknown model architecture: 'lxama'"):
        LlamaBackend(target)


def test_a_failing_decode_is_an_engine_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LlamaBackend(path, EngineSettings(threads=1))
    monkeypatch.setattr(engine._api, "llama_decode", lambda *_: -1)
    with pytest.raises(EngineError, match="code -1"):
        scores(engine, requests(2))
    monkeypatch.undo()
    assert len(scores(engine, requests(2))) == 2
    engine.close()


def test_the_engine_says_what_it_runs(backend: LlamaBackend, path: Path) -> None:
    info = backend.info
    assert (info.format, info.architecture, info.n_ctx) == ("gguf", "llama", 256)
    assert info.file_bytes == path.stat().st_size
    assert len(info.sha256) == 64
    assert info.extra["reuse"] == "copy"
