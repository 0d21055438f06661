"""Small open models worth testing, as ``catalogue.toml`` lists them, and what each would take on this machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from cultev.backend.gguf_header import GgufHeader, TensorInfo, Value
from cultev.backend.memory_plan import MemoryPlan, plan_gguf, plan_onnx
from cultev.errors import UsageError
from cultev.models.pull import ENDPOINT
from cultev.models.sizes import UNALIGNED_BITS, WEIGHT_BITS

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library has it from 3.11 on
    import tomli as tomllib

QUANTIZATIONS = {"gguf": ("Q8_0", "Q4_K_M"), "onnx": ("int8", "int4")}
"""By format, the larger first."""

SOURCES = {"license": "README.md", "languages": "README.md", "shape": "config.json", "parameters": "config.json"}
"""The file of a model's repository that a fact is from, unless the catalogue says otherwise."""


_TUNED = re.compile(r"-(?:instruct|chat|it)(?:-v\d[\d.]*)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Shape:
    """Sizes of a transformer, as config.json gives them. ``tied``: the embedding is the output matrix too."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    tied: bool

    @property
    def embedding(self) -> int:
        """Weights of the embedding."""
        return self.vocabulary * self.width


@dataclass(frozen=True)
class Suggestion:
    """One model of the catalogue."""

    repo: str
    license: str
    languages: tuple[str, ...]
    """BCP-47 codes of the languages that its card names."""
    parameters: int
    architecture: str
    shape: Shape
    more_languages: bool = False
    """Whether the card claims languages that ``languages`` doesn't list."""
    kv_layers: int = 0
    """Layers with a key-value cache; 0: all."""
    gguf: str = ""
    """Repository with GGUF files, '' where none is known."""
    onnx: str = ""
    """Repository with ONNX files, '' where none is known."""
    gated: bool = False
    """Whether the original is given only to those who accept its terms."""
    chat: bool = True
    """Whether it is tuned to instructions and has a chat template."""
    unverified: tuple[str, ...] = ()
    """Facts that were not seen at their source."""
    source: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repo.rsplit("/", 1)[-1]

    @property
    def short_name(self) -> str:
        """The name without what says only that it is tuned to instructions."""
        return _TUNED.sub("", self.name)

    def size(self, quantization: str) -> int:
        """About how many bytes its file has: an estimate from bits per weight (``cultev.models.sizes``)."""
        shape = self.shape
        aligned = WEIGHT_BITS[quantization]
        unaligned = UNALIGNED_BITS.get(quantization, aligned)
        by_width = unaligned if shape.width % 256 else aligned
        by_ffn = unaligned if shape.ffn % 256 else aligned
        down = shape.layers * shape.ffn * shape.width
        apart = 1 if shape.tied else 2
        rest = self.parameters - apart * shape.embedding - down
        bits = rest * by_width[0] + down * by_ffn[1]
        if shape.tied and quantization in QUANTIZATIONS["gguf"]:
            bits += shape.embedding * by_width[3]  # one matrix, kept as finely as an output matrix
        else:
            bits += shape.embedding * (by_width[2] + by_width[3])  # an ONNX graph holds both, tied or not
        return int(bits / 8)

    def memory(self, quantization: str, n_ctx: int = 4096) -> MemoryPlan:
        """What running it takes with a context of ``n_ctx`` tokens, by the plan that loading makes too."""
        shape, size = self.shape, self.size(quantization)
        kv_layers = self.kv_layers or shape.layers
        if quantization in QUANTIZATIONS["onnx"]:
            return plan_onnx(
                size, kv_layers, shape.kv_heads, shape.head_dim, shape.vocabulary,
                n_ctx=n_ctx, heads=shape.heads, n_embd=shape.width, ffn=shape.ffn,
                halves=self.parameters if quantization == "fp16" else 0,
                blocks=self.parameters // 32 if quantization in ("int8", "int4") else 0,
            )  # fmt: skip
        return plan_gguf(_header(self, quantization, size, kv_layers), n_ctx=n_ctx)

    def source_of(self, fact: str) -> str:
        """Where a fact can be looked up."""
        file = self.source.get(fact) or SOURCES[fact]
        return f"{ENDPOINT}/{self.repo}/blob/main/{file}"


def _header(model: Suggestion, quantization: str, size: int, kv_layers: int) -> GgufHeader:
    """The header that a GGUF file of the model would have, as far as the memory plan reads it."""
    shape = model.shape
    key = model.architecture
    body = 0 if shape.width % 256 else max(0, model.parameters - 2 * shape.embedding) * 9 // 16
    tensors = (TensorInfo("body", (shape.width,), "Q4_K", 0, body),) if quantization == "Q4_K_M" else ()
    metadata: dict[str, Value] = {
        "general.architecture": key,
        f"{key}.block_count": kv_layers,
        f"{key}.embedding_length": shape.width,
        f"{key}.feed_forward_length": shape.ffn,
        f"{key}.attention.head_count": shape.heads,
        f"{key}.attention.head_count_kv": shape.kv_heads,
        f"{key}.attention.key_length": shape.head_dim,
        f"{key}.attention.value_length": shape.head_dim,
        f"{key}.vocab_size": shape.vocabulary,
    }
    return GgufHeader(Path(model.name), 3, metadata, tensors, 32, size, size, ())


@cache
def catalogue() -> tuple[Suggestion, ...]:
    """All models, the smallest first."""
    text = resources.files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8")
    return tuple(sorted(map(_suggestion, tomllib.loads(text)["model"]), key=lambda model: model.parameters))


def _suggestion(entry: dict[str, Any]) -> Suggestion:
    shape = Shape(**entry.pop("shape"))
    languages = tuple(entry.pop("languages").split())
    return Suggestion(
        shape=shape, languages=languages, unverified=tuple(entry.pop("unverified", ())), **entry
    )  # fmt: skip


def find(name: str) -> Suggestion:
    """A model by its repository, or by its name, short or long.

    Raises:
        UsageError: the catalogue has none of that name.
    """
    wanted = name.lower()
    for model in catalogue():
        if wanted in (model.repo.lower(), model.name.lower(), model.short_name.lower()):
            return model
    near = [model.name for model in catalogue() if wanted in model.repo.lower()]
    raise UsageError(
        f"The catalogue has no model '{name}'.",
        f"Near it: {', '.join(near)}." if near else "List all: cultev models suggest",
    )


@dataclass(frozen=True)
class Fit:
    """A model with the finest quantization that fits."""

    model: Suggestion
    quantization: str
    size: int
    """Bytes of the file, estimated."""
    memory: int
    """Bytes that running it takes, planned."""


def speaks(model: Suggestion, language: str) -> bool:
    """Whether a model's card names a language; a region or script in its BCP-47 code doesn't matter."""
    return language.split("-")[0].lower() in model.languages


def suggest(
    *, memory: int | None = None, language: str = "", max_params: float | None = None, format: str = "gguf"
) -> list[Fit]:
    """The models that fit, the smallest first, each with the finest quantization that does.

    Args:
        memory: bytes there are; None: everything fits.
        language: a BCP-47 code that the model's card must name; a region or script in it doesn't matter.
        max_params: most parameters, in billions.
        format: 'gguf' or 'onnx'.
    """
    fits = []
    for model in catalogue():
        if language and not speaks(model, language):
            continue
        if max_params is not None and model.parameters > max_params * 1e9:
            continue
        for quantization in QUANTIZATIONS[format]:
            needed = model.memory(quantization).total
            if memory is None or needed <= memory:
                fits.append(Fit(model, quantization, model.size(quantization), needed))
                break
    return fits
