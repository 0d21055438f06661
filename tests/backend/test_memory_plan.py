"""The memory plan: its arithmetic, and the peaks of processes that load, score and generate."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from cultev.backend import memory_plan
from cultev.backend.gguf_header import GgufHeader, TensorInfo, Value
from cultev.backend.memory_plan import MemoryPlan, plan_gguf, plan_onnx
from cultev.backend.onnx_folder import read_folder
from cultev.backend.onnx_past import GROWTH
from cultev.backend.onnx_sequences import CACHE_BYTES
from cultev.backend.onnx_tree import LOGITS_BYTES, PAST_BYTES
from cultev.backend.types import EngineSettings
from cultev.locate import reference_model
from cultev.models.onnx_quantize import quantize_onnx
from tests.backend import gguf_models
from tests.backend.gguf_models import write_tiny_gguf
from tests.backend.onnx_models import Spec, make_folder
from tools.bench_plan import compare

TOLERANCE = 0.15
MIB = 1 << 20


def header(architecture: str = "qwen2", tensors: tuple[TensorInfo, ...] = (), **more: Value) -> GgufHeader:
    """Qwen2.5-0.5B's numbers."""
    numbers = {
        "block_count": 24, "embedding_length": 896, "feed_forward_length": 4_864, "attention.head_count": 14,
        "attention.head_count_kv": 2, "vocab_size": 151_936,
    }  # fmt: skip
    numbers.update(more)
    return GgufHeader(
        path=Path("m.gguf"),
        version=3,
        metadata={"general.architecture": architecture} | {f"{architecture}.{k}": v for k, v in numbers.items()},
        tensors=tensors,
        alignment=32,
        file_bytes=400_000_000,
        expected_bytes=400_000_000,
        parts=(Path("m.gguf"),),
    )


def tensor(name: str, kind: str, n_bytes: int) -> TensorInfo:
    return TensorInfo(name, (256, 8), kind, 0, n_bytes)


def test_gguf_parts_are_what_llama_cpp_reports() -> None:
    plan = plan_gguf(header(), n_ctx=4_096)
    assert plan.kv_cache == 57 * MIB  # "KV buffer size = 57.00 MiB (4864 cells, 24 layers)"
    assert plan.weights == 400_000_000 + 420 * 151_936
    assert plan.total == plan.process + plan.weights + plan.kv_cache + plan.logits + plan.working
    assert plan.total_mb == plan.total / 1e6


def test_what_is_kept_twice_can_be_dropped() -> None:
    some = (tensor("blk.0.ffn_up.weight", "Q4_K", 1_000), tensor("token_embd.weight", "Q4_0", 500))
    plain = plan_gguf(header(), n_ctx=512)
    tied = plan_gguf(header(tensors=some), n_ctx=512)
    assert tied.droppable == tied.weights - plain.weights == 1_500
    assert tied.needed == plain.needed == plain.total
    own_output = plan_gguf(header(tensors=(*some, tensor("output.weight", "F16", 9))), n_ctx=512)
    assert own_output.droppable == 1_000


def test_arm_lays_out_more_types(monkeypatch: pytest.MonkeyPatch) -> None:
    some = header(tensors=(tensor("a", "Q8_0", 700),))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert plan_gguf(some, n_ctx=512).droppable == 0
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert plan_gguf(some, n_ctx=512).droppable == 700


def test_gguf_plan_grows_with_what_is_asked() -> None:
    least = plan_gguf(header(), n_ctx=512, batch=64)
    assert least.kv_cache < plan_gguf(header(), n_ctx=2_048, batch=64).kv_cache
    assert least.total < plan_gguf(header(), n_ctx=512).total
    few, many = (plan_gguf(header(), n_ctx=1_024, parallel=n, generate=True) for n in (2, 32))
    assert plan_gguf(header(), n_ctx=1_024).total <= few.total < many.total


def test_recurrent_states_count_instead_of_cells() -> None:
    numbers: dict[str, Value] = {
        "ssm.inner_size": 1_536, "ssm.state_size": 16, "ssm.conv_kernel": 4, "attention.head_count": 0,
        "attention.head_count_kv": 0,
    }  # fmt: skip
    mamba = header("mamba", **numbers)
    short, long = plan_gguf(mamba, n_ctx=512), plan_gguf(mamba, n_ctx=8_192)
    assert short.kv_cache == long.kv_cache
    state = 24 * 4 * (3 * 1_536 + 16 * 1_536)
    assert short.kv_cache % state == 0 and 1 < short.kv_cache // state <= 64


def test_only_layers_without_a_state_take_cells() -> None:
    numbers: dict[str, Value] = {"ssm.inner_size": 2_048, "ssm.state_size": 128, "ssm.conv_kernel": 4}
    names = [f"blk.{i}.{'attn_q' if i % 4 == 3 else 'ssm_out'}.weight" for i in range(24)]
    hybrid = header("qwen35", tensors=tuple(tensor(n, "F16", 9) for n in names), **numbers)
    assert hybrid.recurrent_layers == {str(i) for i in range(24) if i % 4 != 3}
    assert hybrid.kv_bytes_per_token * 4 == header().kv_bytes_per_token
    both = tuple(tensor(f"blk.{i}.{n}.weight", "F16", 9) for i in range(24) for n in ("attn_k", "ssm_out"))
    assert header("falcon-h1", tensors=both).kv_bytes_per_token == header().kv_bytes_per_token
    state = 18 * 4 * (3 * 2_048 + 128 * 2_048)
    plan = plan_gguf(hybrid, n_ctx=512)
    cells = 256 * -(-(512 + 512 + 64) // 256)
    assert plan.kv_cache == cells * hybrid.kv_bytes_per_token + (2**28 // state) * state


def test_a_gpu_takes_what_the_processor_need_not() -> None:
    host, gpu = plan_gguf(header(), n_ctx=512), plan_gguf(header(), n_ctx=512, gpu=True)
    assert host.device == 0 and gpu.device > gpu.weights - 100_000_000
    assert gpu.needed == gpu.total - gpu.device < host.needed


def test_onnx_plan() -> None:
    def plan(n_ctx: int = 1_024, batch: int = 1_024, generate: bool = False, **more: bool) -> MemoryPlan:
        return plan_onnx(
            80_000_000, 8, 4, 64, 32_000, n_ctx=n_ctx, heads=8, n_embd=512, ffn=2_048, batch=batch,
            generate=generate, tokenizer_bytes=1_000_000, **more,
        )  # fmt: skip

    whole = plan()
    assert whole.weights == 84_000_000 + 9_000_000
    read = 4 * 32_000 * 512
    assert whole.logits == 3 * LOGITS_BYTES + read + memory_plan.GATHER_BYTES
    seldom = 4 * 32_000 * (PAST_BYTES // (8 * 2 * 4 * 64 * 4) // memory_plan.READ_SHARE)
    assert plan(picks=True).logits == read + seldom + memory_plan.GATHER_BYTES
    assert whole.kv_cache == 1_024 * 16_384 + PAST_BYTES + 1_024 * 16_384
    assert plan(batch=64).total < whole.total and plan(n_ctx=256).total < whole.total
    assert plan(fused=True).working < whole.working
    assert plan(generate=True).total >= whole.total
    assert plan(n_ctx=8_192, generate=True).kv_cache > plan(n_ctx=1_024, generate=True).kv_cache
    texts = CACHE_BYTES // 16_384 // 6_144  # as many as grow at once: five, where sixteen are allowed
    assert texts == 5
    grown = 2 * texts * (6_144 + GROWTH) * 16_384
    assert plan(n_ctx=6_144, generate=True).kv_cache == 6_144 * 16_384 + 6_144 * 16_384 + grown


def test_onnx_plan_counts_what_the_processor_widens_and_lays_out() -> None:
    def plan(**more: int) -> MemoryPlan:
        return plan_onnx(100_000_000, 8, 4, 64, 1_000, n_ctx=256, batch=64, **more)

    plain, half, packed = plan(), plan(halves=40_000_000), plan(blocks=1_000_000)
    assert half.weights - plain.weights == 2 * 40_000_000
    assert packed.weights - plain.weights == memory_plan.BLOCK * 1_000_000
    # What is held only while loading counts as far as the questions' memory doesn't cover it.
    assert plan(halves=400_000_000).working > half.working
    assert plan(halves=400_000_000).total >= plan(halves=400_000_000).weights + 2 * 400_000_000
    assert plan(halves=40_000_000, gpu=True).weights == plain.weights


def test_fits() -> None:
    plan = MemoryPlan(1, 2, 3, 4, process=5, droppable=1, device=2)
    assert (plan.total, plan.needed) == (15, 12)
    assert plan.fits(12) is True
    assert plan.fits(11) is False
    assert plan.fits(None) is None


def model(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if kind == "delta nets gguf":  # whose states outweigh the rest
        monkeypatch.setattr(gguf_models, "DELTA", 128)
        return write_tiny_gguf(folder / "m.gguf", architecture="qwen35", embd=256, heads=8, layers=4, n_ctx=256)
    if kind == "hybrid gguf":
        return write_tiny_gguf(folder / "m.gguf", architecture="jamba", embd=256, layers=4, n_ctx=256)
    if kind == "tiny gguf":
        return write_tiny_gguf(folder / "tiny.gguf", n_ctx=256)
    if kind == "tiny onnx":
        return make_folder(folder / "tiny", Spec())
    if "float16" in kind or "packed" in kind:
        large = Spec(vocab=2_000, dim=2_048, layers=4 if "packed" in kind else 1)
        spec = large if kind.startswith("large") else Spec(vocab=12_000, dim=1_024, layers=2)
        path = make_folder(folder / "tiny", spec)
        if "packed" in kind:
            quantize_onnx(path, folder / "packed", "int4")
            return folder / "packed"
        float16 = pytest.importorskip("onnxruntime.transformers.float16")
        onnx = pytest.importorskip("onnx")
        whole = onnx.load(path / "model.onnx")
        onnx.save(float16.convert_float_to_float16(whole, disable_shape_infer=True), path / "model.onnx")
        return path
    if kind.startswith("many words"):
        path = make_folder(folder / "tiny", Spec(vocab=150_000))
        if kind.endswith("all logits"):  # dynamically quantized products are left as they are
            quantization = pytest.importorskip("onnxruntime.quantization")
            quantization.quantize_dynamic(path / "model.onnx", path / "small.onnx")
            (path / "small.onnx").replace(path / "model.onnx")
        return path
    return reference_model(kind.split()[1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("term", ["halves", "blocks"])
def test_what_is_laid_out_anew_shows_in_the_peak(term: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights large enough that a plan without the term for them would be wrong."""
    pytest.importorskip("onnxruntime")
    path = model(f"large {'float16' if term == 'halves' else 'packed'} onnx", tmp_path, monkeypatch)
    found = compare(path, EngineSettings(n_ctx=256, threads=2), False)
    peak, planned = max(found["peak"].values()), found["plan"]["total"]
    folder = read_folder(path)
    count = getattr(folder.facts, term)
    without = planned - (2 * count if term == "halves" else memory_plan.BLOCK * count)
    assert peak == pytest.approx(planned, rel=TOLERANCE), found
    assert peak != pytest.approx(without, rel=TOLERANCE), found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("generate", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        "tiny gguf", "delta nets gguf", "hybrid gguf", "tiny onnx", "many words onnx", "many words onnx, all logits",
        "float16 onnx", "packed onnx", "reference gguf", "reference onnx",
    ],
)  # fmt: skip
def test_the_peak_is_the_plan_s(kind: str, generate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llama_cpp" if kind.endswith("gguf") else "onnxruntime")
    path, peak = model(kind, tmp_path, monkeypatch), 0
    for _ in range(3):  # a busy machine may take pages back while loading lasts, which only ever lowers a peak
        found = compare(path, EngineSettings(n_ctx=256, threads=2), generate)
        peak = max(peak, *found["peak"].values())
        if peak == pytest.approx(found["plan"]["total"], rel=TOLERANCE):
            break
    assert peak == pytest.approx(found["plan"]["total"], rel=TOLERANCE), found
