"""Settings that fit: what is made smaller, in which order, what is said, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cultev.backend import fit as fitting
from cultev.backend.fit import LEAST_BATCH, LEAST_CONTEXT, concrete, fit, plan_for
from cultev.backend.memory import LIMIT_VARIABLE
from cultev.backend.types import CONTEXT_CAP, EngineSettings
from cultev.errors import NotAModel, NotEnoughMemory
from tests.backend.gguf_models import write_tiny_gguf
from tests.backend.onnx_models import Spec, make_folder

PLENTY = 10**12
OPEN = EngineSettings()


@pytest.fixture(scope="module", params=["gguf", "onnx"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    if request.param == "gguf":
        return write_tiny_gguf(folder / "wide.gguf", layers=8, embd=256, kv_heads=4, vocab=8_000, n_ctx=8_192)
    return make_folder(folder / "wide", Spec(vocab=8_000, layers=8, kv_heads=4, context=8_192))


def needed(path: Path, generate: bool = False, **more: object) -> int:
    return plan_for(path, EngineSettings(**more), generate=generate).needed  # type: ignore[arg-type]


def test_plenty_of_memory_changes_nothing(path: Path) -> None:
    fitted = fit(path, OPEN, available=PLENTY)
    assert fitted.notes == ()
    assert fitted.settings == concrete(path, OPEN)
    assert fitted.settings.n_ctx == CONTEXT_CAP
    assert (fitted.settings.batch, fitted.settings.parallel) == ({".gguf": 512}.get(path.suffix, 1_024), 16)
    assert fitted.plan == plan_for(path, OPEN)


def test_the_model_s_own_limit(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "short.gguf", n_ctx=256)
    assert fit(path, OPEN, available=PLENTY).settings.n_ctx == 256
    assert fit(path, EngineSettings(n_ctx=9_999), available=PLENTY).settings.n_ctx == 256


def test_context_that_no_question_needs_goes_first(path: Path) -> None:
    room = needed(path) - 1
    fitted = fit(path, OPEN, needs=lambda: 700, available=room)
    assert 768 <= (fitted.settings.n_ctx or 0) < CONTEXT_CAP
    assert fitted.settings.batch == concrete(path, OPEN).batch
    assert fitted.plan.needed <= room
    (note,) = fitted.notes
    assert f"a context of {fitted.settings.n_ctx:,} tokens instead of 4,096" in note and "batches" not in note


def test_the_longest_context_that_fits_is_chosen(path: Path) -> None:
    room = needed(path, n_ctx=2_048)
    fitted = fit(path, OPEN, needs=lambda: 512, available=room)
    assert fitted.settings.n_ctx == 2_048
    assert needed(path, n_ctx=2_048 + 256) > room


def test_batches_go_before_context_that_questions_need(path: Path) -> None:
    room = needed(path, n_ctx=CONTEXT_CAP, batch=128)
    fitted = fit(path, OPEN, needs=lambda: CONTEXT_CAP, available=room)
    assert (fitted.settings.n_ctx, fitted.settings.batch) == (CONTEXT_CAP, 128)
    assert "batches of 128 tokens instead of" in fitted.notes[0]


def test_context_that_questions_may_need_goes_last(path: Path) -> None:
    room = needed(path, n_ctx=LEAST_CONTEXT, batch=LEAST_BATCH)
    fitted = fit(path, OPEN, needs=lambda: CONTEXT_CAP, available=room)
    assert (fitted.settings.n_ctx, fitted.settings.batch) == (LEAST_CONTEXT, LEAST_BATCH)
    assert "too_long" in fitted.notes[0]
    with pytest.raises(NotEnoughMemory, match="1 MB of memory are missing"):
        fit(path, OPEN, available=room - 1)


def test_fewer_texts_at_once_when_texts_are_generated(path: Path) -> None:
    whole, room = needed(path, True), needed(path, True, parallel=4)
    assert room < whole
    fitted = fit(path, OPEN, generate=True, available=room)
    n = fitted.settings.parallel or 0
    assert 4 <= n < 16 and fitted.settings.n_ctx == CONTEXT_CAP
    assert needed(path, True, parallel=2 * n) > room
    assert f"{n} texts at once instead of 16" in fitted.notes[0]
    assert fit(path, OPEN, generate=True, available=whole).notes == ()


def test_what_the_user_set_stays(path: Path) -> None:
    asked = EngineSettings(n_ctx=4_000, batch=512, parallel=8)
    room = plan_for(path, asked).needed
    assert fit(path, asked, available=room).settings == asked
    with pytest.raises(NotEnoughMemory) as refused:
        fit(path, asked, available=room - 2_000_000)
    assert "with --n-ctx 4000 does not fit: 2 MB of memory are missing" in refused.value.message
    fits = int(refused.value.next_step.removeprefix("It fits with --n-ctx ").rstrip("."))
    assert needed(path, n_ctx=fits, batch=512, parallel=8) <= room - 2_000_000
    assert needed(path, n_ctx=fits + 256, batch=512, parallel=8) > room - 2_000_000


def test_strict_batches_do_not_depend_on_free_memory(path: Path) -> None:
    strict = EngineSettings(strict=True)
    room = needed(path, n_ctx=CONTEXT_CAP) - 1
    fitted = fit(path, strict, needs=lambda: 700, available=room)
    assert fitted.settings.batch == concrete(path, strict).batch and 768 <= (fitted.settings.n_ctx or 0) < CONTEXT_CAP
    assert not fitted.shortened


@pytest.mark.parametrize("needs", [None, lambda: CONTEXT_CAP])
def test_what_strict_answers_may_need_is_never_taken(path: Path, needs: Callable[[], int] | None) -> None:
    strict, room = EngineSettings(strict=True), needed(path, n_ctx=2_048)
    with pytest.raises(NotEnoughMemory, match="are missing") as refused:
        fit(path, strict, needs=needs, available=room)
    fits = int(refused.value.next_step.removeprefix("It fits with --n-ctx ").rstrip("."))
    assert fits == 2_048 and not fit(path, replace(strict, n_ctx=fits), available=room).shortened


def test_it_is_told_when_questions_may_be_too_long(path: Path) -> None:
    room = needed(path) - 1
    assert not fit(path, OPEN, available=room + 1).shortened
    assert not fit(path, OPEN, needs=lambda: 700, available=room).shortened
    least = needed(path, n_ctx=LEAST_CONTEXT, batch=LEAST_BATCH)
    assert fit(path, OPEN, needs=lambda: CONTEXT_CAP, available=least).shortened
    assert fit(path, OPEN, available=least).shortened


def test_what_comes_of_a_shortened_context_is_the_caller_s_word(path: Path) -> None:
    least, words = needed(path, n_ctx=LEAST_CONTEXT, batch=LEAST_BATCH), "Longer ones wait."
    assert fit(path, OPEN, available=least, longer=words).notes[0].endswith(f". {words}")
    assert words not in fit(path, OPEN, needs=lambda: 700, available=needed(path) - 1, longer=words).notes[0]
    assert fit(path, OPEN, available=least, longer="").notes[0].endswith(".")


def test_far_too_little_is_refused_with_what_is_missing(path: Path) -> None:
    with pytest.raises(NotEnoughMemory) as refused:
        fit(path, OPEN, available=5_000_000)
    least = needed(path, n_ctx=LEAST_CONTEXT, batch=LEAST_BATCH)
    assert f"{-(-(least - 5_000_000) // 10**6)} MB of memory are missing" in refused.value.message
    assert "smaller model or quantization" in refused.value.next_step


def test_unknown_memory_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "usable_memory", lambda: None)
    assert fit(path, OPEN).settings == concrete(path, OPEN)


def test_the_variable_is_heeded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, str((needed(path) - 1) / 1e6))
    fitted = fit(path, OPEN, needs=lambda: 300)
    assert fitted.notes and fitted.plan.needed < needed(path)


def test_a_gpu_s_memory_counts_apart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = EngineSettings(device="gpu")
    monkeypatch.setattr(fitting, "gpu_memory", lambda: 1)
    with pytest.raises(NotEnoughMemory, match="of GPU memory are missing"):
        fit(path, asked, available=PLENTY)
    monkeypatch.setattr(fitting, "gpu_memory", lambda: None)
    assert fit(path, asked, available=PLENTY).notes == ()


def test_no_model(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("no model at all")
    with pytest.raises(NotAModel):
        fit(tmp_path / "text.gguf", OPEN, available=PLENTY)
