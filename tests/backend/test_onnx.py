"""The ONNX engine against whole-sequence runs of the same graph."""

from __future__ import annotations

import builtins
import functools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")

from cultev.backend.onnx import OnnxBackend  # noqa: E402
from cultev.backend.onnx_binding import Binding  # noqa: E402
from cultev.backend.prefix import Limits  # noqa: E402
from cultev.backend.types import Continuation, EngineSettings, ScoreRequest, ScoreResult  # noqa: E402
from cultev.errors import EngineError, MissingExtra, ModelDamaged, ModelError, ModelUnsupported  # noqa: E402
from tests.backend.onnx_models import Spec, make_folder  # noqa: E402

MIXED, EVEN, SINGLE, WHOLE = "rows of any length", "equally long pasts", "one row", "whole sequences"

SPECS = {
    "grouped": (Spec(), MIXED),
    "full-heads": (Spec(heads=3, kv_heads=3, layers=1, seed=1), MIXED),
    "one-kv-head": (Spec(heads=4, kv_heads=1, layers=3, seed=2), MIXED),
    "no-positions": (Spec(positions=False), EVEN),
    "ignores-mask": (Spec(ignores_mask=True), EVEN),
    "window": (Spec(config={"sliding_window": 16}), EVEN),
    "one-row": (Spec(one_row=True), SINGLE),
    "no-cache": (Spec(cache=False), WHOLE),
    "last-only": (Spec(last_only=True), MIXED),
    "last-only-no-cache": (Spec(last_only=True, cache=False), WHOLE),
    "keep-input": (Spec(keep_input=True), MIXED),
    "merged": (Spec(branch_input=True), MIXED),
    "stacked": (Spec(stacked=True, past_name="past_{}", present_name="present_{}"), MIXED),
    "short-names": (Spec(past_name="past.{}.{}"), MIXED),
    "part-first": (Spec(past_name="past_{1}_{0}", present_name="present_{1}_{0}"), MIXED),
    "cache-names": (Spec(past_name="{1}_cache_{0}", present_name="{1}_cache_out_{0}"), MIXED),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("onnx")
    return {name: make_folder(root / name, spec) for name, (spec, _) in SPECS.items()}


def questions(seed: int = 0, n: int = 14, vocab: int = 48) -> list[ScoreRequest]:
    """Prompts of unlike lengths with shared heads; continuations long and short, nested, twice the same."""
    rng = random.Random(seed)

    def tokens(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(vocab) for _ in range(n))

    heads = [tokens(15), tokens(4)]
    requests = []
    for i in range(n):
        prompt = rng.choice(heads) + tokens(rng.randint(1, 12))
        long = tokens(rng.randint(2, 6))
        ends = [long, long[:1], long[:2], tokens(1), tokens(3), long]
        requests.append(ScoreRequest(f"q{i}", prompt, tuple(Continuation("x", e) for e in ends)))
    requests.append(ScoreRequest("again", requests[0].prompt, requests[0].continuations))
    return requests


def answers(backend: OnnxBackend, requests: list[ScoreRequest], **kwargs: object) -> dict[str, list[float]]:
    results: list[ScoreResult] = [r for pack in backend.score(requests, **kwargs) for r in pack]  # type: ignore[arg-type]
    return {r.key: [s.logprob for s in r.scores] for r in results}


def plain(path: Path, tokens: tuple[int, ...], n: int) -> float:
    """The last n tokens' log-probability by one run of the whole sequence, or one per token where logits are cut."""
    session = _session(path)
    total = 0.0
    for i in range(len(tokens) - n, len(tokens)):
        logits = _last_logits(session, tokens[:i]).astype(np.float64)
        total += float(logits[tokens[i]] - np.log(np.exp(logits - logits.max()).sum()) - logits.max())
    return total


@functools.lru_cache(maxsize=1)
def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path / "model.onnx"), options, providers=["CPUExecutionProvider"])


def _last_logits(session: Any, tokens: tuple[int, ...]) -> np.ndarray:
    feeds: dict[str, np.ndarray] = {}
    for port in session.get_inputs():
        if len(port.shape) >= 4:
            dtype = np.float16 if "16" in port.type else np.float32
            lead = (2, 1) if len(port.shape) == 5 else (1,)
            feeds[port.name] = np.zeros((*lead, port.shape[-3], 0, port.shape[-1]), dtype)
    feeds |= {"input_ids": np.array([tokens]), "attention_mask": np.ones((1, len(tokens)), np.int64)}
    feeds["position_ids"] = np.arange(len(tokens))[None]
    feeds["num_logits_to_keep"] = np.array(1)
    feeds["seqlens_k"] = np.array([len(tokens) - 1], np.int32)
    feeds["total_sequence_length"] = np.array(len(tokens), np.int32)
    feeds["use_cache_branch"] = np.array([False])
    names = {port.name for port in session.get_inputs()}
    given = session.run(["logits"], {k: v for k, v in feeds.items() if k in names})
    return np.asarray(given[0][0, -1], dtype=np.float32)


def expected(path: Path, requests: list[ScoreRequest]) -> dict[str, list[float]]:
    return {r.key: [plain(path, r.prompt + c.tokens, len(c.tokens)) for c in r.continuations] for r in requests}


def assert_close(got: dict[str, list[float]], want: dict[str, list[float]], within: float = 1e-4) -> None:
    assert got.keys() == want.keys()
    for key, values in want.items():
        assert got[key] == pytest.approx(values, abs=within)


@pytest.mark.parametrize("name", SPECS)
def test_trees_equal_whole_sequences(models: dict[str, Path], name: str) -> None:
    backend = OnnxBackend(models[name])
    assert SPECS[name][1] in backend.info.extra["reuse"]
    requests = questions()
    assert_close(answers(backend, requests), expected(models[name], requests))


@pytest.mark.parametrize("name", ["grouped", "no-positions", "no-cache", "last-only"])
def test_small_packs_and_trunks_change_nothing(models: dict[str, Path], name: str) -> None:
    backend = OnnxBackend(models[name])
    backend.limits = Limits(tokens=20, leaves=4, reads=8)
    requests = questions(n=10)
    assert_close(answers(backend, requests), expected(models[name], requests))


def test_a_window_wider_than_the_context_is_none(models: dict[str, Path]) -> None:
    short = OnnxBackend(models["window"], EngineSettings(n_ctx=16))
    assert MIXED in short.info.extra["reuse"] and EVEN in OnnxBackend(models["window"]).info.extra["reuse"]


def test_recomputing_can_be_asked_for(models: dict[str, Path]) -> None:
    backend = OnnxBackend(models["grouped"], EngineSettings(reuse="recompute"))
    assert WHOLE in backend.info.extra["reuse"]
    requests = questions(n=4)
    assert_close(answers(backend, requests), expected(models["grouped"], requests))


def test_a_small_batch_makes_small_runs(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = Binding.run

    def counted(self: Binding, ids: Any, *rest: Any, **more: Any) -> Any:
        sizes.append(ids.size)
        return run(self, ids, *rest, **more)

    backend = OnnxBackend(models["grouped"], EngineSettings(batch=12))
    monkeypatch.setattr(Binding, "run", counted)
    requests = questions(n=10)
    assert_close(answers(backend, requests), expected(models["grouped"], requests))
    assert max(sizes) <= 2 * 12  # a row of 12, or a padded batch


def test_a_request_larger_than_the_limits(models: dict[str, Path]) -> None:
    backend = OnnxBackend(models["grouped"])
    backend.limits = Limits(tokens=8, leaves=3, reads=6)
    request = questions(seed=5, n=1)[:1]
    assert_close(answers(backend, request), expected(models["grouped"], request))


def test_long_rows_are_cut_into_slices(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cultev.backend.onnx_tree.SLICE", 7)
    backend = OnnxBackend(models["grouped"])
    requests = questions(n=4)
    assert_close(answers(backend, requests), expected(models["grouped"], requests))
    backend.limits = Limits(tokens=16, leaves=3, reads=6)
    assert_close(answers(backend, requests), expected(models["grouped"], requests))


def test_little_memory_makes_smaller_batches(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cultev.backend.onnx_tree.LOGITS_BYTES", 4 * 48 * 20)
    monkeypatch.setattr("cultev.backend.onnx_tree.PAST_BYTES", 256 * 60)
    backend = OnnxBackend(models["grouped"])
    requests = questions(n=6)
    assert_close(answers(backend, requests), expected(models["grouped"], requests))


def test_the_last_position_of_the_context(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m", Spec(context=32))
    backend = OnnxBackend(path)
    rng = random.Random(3)
    full = ScoreRequest("full", tuple(rng.randrange(48) for _ in range(28)), questions()[0].continuations[3:5])
    short = ScoreRequest("short", full.prompt[:5], full.continuations)
    assert_close(answers(backend, [full, short]), expected(path, [full, short]))


def test_half_precision(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "half", Spec(half=True))
    backend = OnnxBackend(path)
    requests = questions(n=6)
    assert MIXED in backend.info.extra["reuse"]
    assert_close(answers(backend, requests), expected(path, requests), within=0.05)


def test_activations_quantized_as_they_run(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    path = make_folder(tmp_path / "m")
    quantization.quantize_dynamic(path / "model.onnx", path / "small.onnx")
    (path / "small.onnx").replace(path / "model.onnx")
    backend = OnnxBackend(path)
    assert MIXED in backend.info.extra["reuse"]
    assert backend.info.quantization == "int8"
    assert float(backend.info.extra["noise"]) > 1e-4
    requests = questions(n=6)
    assert_close(answers(backend, requests), expected(path, requests), within=1.5)
    assert answers(backend, requests) == answers(OnnxBackend(path), requests)


def test_onnxruntimes_own_attention_takes_one_row_after_a_past(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "fused", Spec(fused=True, positions=False))
    backend = OnnxBackend(path)
    assert SINGLE in backend.info.extra["reuse"]
    requests = questions(n=6)
    assert_close(answers(backend, requests), expected(path, requests))


def test_a_pack_has_the_same_bits_whatever_came_before(models: dict[str, Path]) -> None:
    limits = Limits(tokens=60, leaves=12, reads=40)
    backend, fresh, backwards = (OnnxBackend(models["grouped"]) for _ in range(3))
    for b in (backend, fresh, backwards):
        b.limits = limits
    requests = questions(n=20)
    first = answers(backend, requests)
    packs = [[r.key for r in pack] for pack in backend.score(requests)]
    assert len(packs) > 3
    assert answers(backend, requests) == first
    assert answers(backwards, requests[::-1]) == first
    skipped = {key for pack in packs[::2] for key in pack}
    assert answers(fresh, requests, skip=skipped) == {k: v for k, v in first.items() if k not in skipped}


def test_info(models: dict[str, Path]) -> None:
    backend = OnnxBackend(models["grouped"], EngineSettings(n_ctx=100, threads=1))
    info = backend.info
    assert (info.format, info.name, info.architecture) == ("onnx", "grouped", "tiny")
    assert (info.n_ctx, backend.n_ctx, info.n_vocab, info.quantization) == (256, 100, 48, "fp32")
    assert info.extra["threads"] == "1" and info.extra["device"] in ("cpu", "gpu")
    assert not info.reference and len(info.sha256) == 64
    assert float(info.extra["noise"]) < 1e-4
    assert OnnxBackend(models["grouped"], EngineSettings(n_ctx=10_000)).n_ctx == 256


def test_the_reference_model_says_so(tmp_path: Path) -> None:
    assert OnnxBackend(make_folder(tmp_path / "r", Spec(config={"cultev_reference": True}))).info.reference


def test_a_template_is_used(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m")
    messages = [{"role": "user", "content": "hi"}, {"role": "user", "content": "ho"}]
    backend = OnnxBackend(path)
    assert not backend.has_template and backend.render(messages) == "hi\n\nho"
    template = "{{ bos_token }}{% for m in messages %}<|user|>{{ m.content }}{% endfor %}"
    (path / "chat_template.jinja").write_text(template)
    backend = OnnxBackend(path)
    assert backend.has_template and backend.info.template_sha256
    assert backend.render(messages) == "<s><|user|>hi<|user|>ho"
    texts = [backend.token_text(t) for t in backend.encode("<|user|>hi")]
    assert texts == ["<|user|>", "h", "i"]


def test_exactly_one_bos(tmp_path: Path) -> None:
    without = OnnxBackend(make_folder(tmp_path / "without"))
    assert [without.token_text(t) for t in without.encode("ab")] == ["a", "b"]
    path = make_folder(tmp_path / "with", bos=True)
    backend = OnnxBackend(path)
    assert [backend.token_text(t) for t in backend.encode("ab")] == ["<s>", "a", "b"]
    assert backend.encode("<s>ab") == backend.encode("ab") == backend.encode("<s><s>ab")
    settings = path / "tokenizer_config.json"
    settings.write_text(json.dumps({"bos_token": "<s>", "add_bos_token": False}))
    assert len(OnnxBackend(path).encode("ab")) == 2
    other = make_folder(tmp_path / "asked")
    (other / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "add_bos_token": True}))
    assert OnnxBackend(other).encode("ab") == backend.encode("ab")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("encoder_hidden_states", "encoder-decoder"),
        ("past_conv.0", "hybrid"),
        ("inputs_embeds", "multimodal"),
        ("pixel_values", "images"),
        ("past_something", "unknown"),
    ],
)
def test_an_unknown_input_is_named(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(ModelUnsupported, match=f"{name}.*{what}") as caught:
        OnnxBackend(make_folder(tmp_path / "m", Spec(extra_input=name)))
    assert caught.value.next_step


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m")
    model = onnx.load(path / "model.onnx")
    model.graph.node[0].op_type = "Frobnicate"
    onnx.save(model, path / "model.onnx")
    with pytest.raises(ModelUnsupported, match="Frobnicate"):
        OnnxBackend(path)


def test_a_graph_without_logits(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m")
    model = onnx.load(path / "model.onnx")
    model.graph.output[0].name = model.graph.node[-1].output[0] = "hidden"
    onnx.save(model, path / "model.onnx")
    with pytest.raises(ModelUnsupported, match="logits"):
        OnnxBackend(path)


def test_a_graph_that_fails_when_run(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m")
    model = onnx.load(path / "model.onnx")
    first = next(i for i in model.graph.initializer if list(i.dims) == [48, 24])
    first.CopyFrom(onnx.numpy_helper.from_array(np.zeros((1, 24), np.float32), first.name))
    onnx.save(model, path / "model.onnx")
    with pytest.raises(ModelUnsupported, match="short text"):
        OnnxBackend(path)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="finite"):
        OnnxBackend(make_folder(tmp_path / "m", Spec(nan=True)))


def test_a_graph_that_onnxruntime_refuses(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m")
    model = onnx.load(path / "model.onnx")
    model.graph.node[0].input[0] = "nowhere"
    onnx.save(model, path / "model.onnx")
    with pytest.raises(ModelDamaged, match="can't load"):
        OnnxBackend(path)


def test_a_broken_tokenizer(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m")
    (path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelDamaged, match="tokenizer"):
        OnnxBackend(path)


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_a_missing_extra(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match="onnx"):
        OnnxBackend(models["grouped"])


def test_a_failure_while_answering(models: dict[str, Path]) -> None:
    backend = OnnxBackend(models["grouped"])
    request = ScoreRequest("bad", (10_000, 3), (Continuation("x", (1,)),))
    with pytest.raises(EngineError, match="onnxruntime failed"):
        list(backend.score([request]))
    requests = questions(n=2)
    assert_close(answers(backend, requests), expected(models["grouped"], requests))


def test_close_frees_the_model(models: dict[str, Path]) -> None:
    backend = OnnxBackend(models["grouped"])
    backend.close()
    backend.close()
