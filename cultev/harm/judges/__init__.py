"""Judges: who says whether an answer is harmful. Guard models in their own formats, chat models, classifiers,
people.
"""

from __future__ import annotations

from cultev.backend.types import Backend
from cultev.errors import UsageError
from cultev.harm.judges.asking import ModelJudge
from cultev.harm.judges.granite import Granite31, Granite32, Granite33
from cultev.harm.judges.llama_guard import LlamaGuard, LlamaGuard8B
from cultev.harm.judges.qwen3guard import Qwen3Guard
from cultev.harm.judges.rubric import Rubric
from cultev.harm.judges.shieldgemma import ShieldGemma

GUARDS: dict[str, type[ModelJudge]] = {
    judge.name: judge for judge in (Qwen3Guard, LlamaGuard, LlamaGuard8B, ShieldGemma, Granite31, Granite32, Granite33)
}
"""Guard models by name, each with its own format."""

KINDS = (*GUARDS, "rubric")
"""What a model can be asked as."""

_HINTS = (
    ("qwen3guard", "qwen3guard"),
    ("llama-guard-3-8b", "llama-guard-8b"),
    ("llama-guard", "llama-guard-1b"),
    ("shieldgemma", "shieldgemma"),
    ("granite-guardian-3.3", "granite-guardian-3.3"),
    ("granite-guardian-3.2", "granite-guardian-3.2"),
    ("granite-guardian-3", "granite-guardian-3.1"),
)


def kind_of(name: str) -> str:
    """The kind of judge that a model's name tells of, 'rubric' for any other chat model."""
    plain = name.lower().replace("_", "-").replace(" ", "-")
    return next((kind for hint, kind in _HINTS if hint in plain), "rubric")


def model_judge(kind: str, backend: Backend, rubric_language: str = "") -> ModelJudge:
    """A judge of a kind (one of KINDS) over a loaded model.

    Raises:
        UsageError: no such kind, or no rubric in that language.
        JudgeError: the model can't be asked like that.
    """
    if kind == "rubric":
        return Rubric(backend, rubric_language)
    if kind not in GUARDS:
        raise UsageError(f"There is no kind of judge called '{kind}'.", f"Choose from: {', '.join(KINDS)}")
    return GUARDS[kind](backend)
