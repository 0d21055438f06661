"""What a GGUF file says of itself, as ``gguf_read`` found it in the file's header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""Number -> name, elements in a block, bytes of a block (ggml.h)."""

FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}  # fmt: skip
"""general.file_type -> the word that llama.cpp's quantizer takes for it (llama.h)."""

_RECURRENT = ("ssm_", "time_mix_", "shortconv")
"""How tensors of state-space layers and delta nets, RWKV and short convolutions begin."""

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class SkippedArray:
    """An array that was counted and not kept, such as the vocabulary."""

    count: int


Value = Scalar | tuple[Scalar, ...] | SkippedArray


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor. ``shape`` is in the file's order: the contiguous dimension (columns) first."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    """Bytes from where the tensors begin."""
    n_bytes: int
    """Without padding; 0 for a type that is not in TENSOR_TYPES ('type57')."""

    @property
    def n_elements(self) -> int:
        """Product of the shape."""
        product = 1
        for size in self.shape:
            product *= size
        return product


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A GGUF model's header. Numbers that the file doesn't state are 0, texts '', token ids None.

    Of a split model this is the first part's header with the tensors of all ``parts``. Texts are the file's own
    words: whoever shows one must escape what a terminal would obey.
    """

    path: Path
    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    file_bytes: int
    """Real size, all parts together."""
    expected_bytes: int
    """Where the last tensor ends, all parts together: a sound file has this many bytes or a little more."""
    parts: tuple[Path, ...]
    """The files, in order; one unless the model is split."""

    def text(self, key: str) -> str:
        """A metadata text, '' when absent or no text."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        """A metadata count, 0 when absent or no such number; of a per-layer array the largest element."""
        return max(_counts(self.metadata.get(key)), default=0)

    def _of_model(self, key: str) -> str:
        return f"{self.architecture}.{key}"

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, such as 'llama' or 'qwen2'."""
        return self.text("general.architecture")

    @property
    def name(self) -> str:
        """general.name."""
        return self.text("general.name")

    @property
    def license(self) -> str:
        """general.license, an SPDX expression where the author kept to the specification."""
        return self.text("general.license") or self.text("general.license.name")

    @property
    def chat_template(self) -> str:
        """The Jinja source of the chat template."""
        return self.text("tokenizer.chat_template")

    @property
    def n_ctx(self) -> int:
        """Longest context the model was made for, in tokens."""
        return self.number(self._of_model("context_length"))

    @property
    def n_layers(self) -> int:
        """Transformer blocks."""
        return self.number(self._of_model("block_count"))

    @property
    def n_embd(self) -> int:
        """Width of the residual stream."""
        return self.number(self._of_model("embedding_length"))

    @property
    def n_heads(self) -> int:
        """Attention heads; the most of any layer where layers differ."""
        return self.number(self._of_model("attention.head_count"))

    @property
    def n_kv_heads(self) -> int:
        """Heads of keys and values; as many as ``n_heads`` where the file doesn't say."""
        return self.number(self._of_model("attention.head_count_kv")) or self.n_heads

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, tuple):
            return len(tokens)
        if isinstance(tokens, SkippedArray):
            return tokens.count
        return self.number(self._of_model("vocab_size"))

    @property
    def n_params(self) -> int:
        """Weights, summed over tensors."""
        return sum(tensor.n_elements for tensor in self.tensors)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of an f16 KV cache per token and sequence: 2 * sum over layers of kv_heads * (d_k + d_v).

        d_k and d_v are attention.key_length and value_length, n_embd / n_heads where not stated. Where the file gives
        one number of heads for all layers, those count that have no recurrent state instead. An upper bound for models
        whose layers share caches.
        """
        per_layer = _counts(self.metadata.get(self._of_model("attention.head_count_kv")))
        keys = {t.name.split(".")[1] for t in self.tensors if t.name.endswith(".attn_k.weight")}
        attention = self.n_layers - len(self.recurrent_layers - keys)
        heads = sum(per_layer) if len(per_layer) > 1 else self.n_kv_heads * attention
        head_dim = self.n_embd // self.n_heads if self.n_heads else 0
        d_k = self.number(self._of_model("attention.key_length")) or head_dim
        d_v = self.number(self._of_model("attention.value_length")) or head_dim
        return 2 * heads * (d_k + d_v)

    @property
    def recurrent_layers(self) -> frozenset[str]:
        """Numbers of the blocks that keep a recurrent state, by what their tensors are called."""
        names = (tensor.name.split(".") for tensor in self.tensors)
        return frozenset(n[1] for n in names if len(n) > 2 and n[0] == "blk" and n[2].startswith(_RECURRENT))

    @property
    def tensor_types(self) -> dict[str, tuple[int, int]]:
        """Tensor type -> how many tensors, how many bytes; the type with most bytes first."""
        found: dict[str, tuple[int, int]] = {}
        for tensor in self.tensors:
            count, size = found.get(tensor.type, (0, 0))
            found[tensor.type] = (count + 1, size + tensor.n_bytes)
        return dict(sorted(found.items(), key=lambda entry: -entry[1][1]))

    @property
    def quantization(self) -> str:
        """The quantizer's word (Q4_K_M, F16, ...), or the type that most bytes have where the file has none."""
        kind = self.metadata.get("general.file_type")
        word = FILE_TYPES.get(kind) if isinstance(kind, int) else None
        return word or next(iter(self.tensor_types), "")

    @property
    def bos_token_id(self) -> int | None:
        """Token id that opens a text."""
        return self._token("bos")

    @property
    def eos_token_id(self) -> int | None:
        """Token id that ends a text or a turn."""
        return self._token("eos")

    def _token(self, which: str) -> int | None:
        value = self.metadata.get(f"tokenizer.ggml.{which}_token_id")
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def _counts(value: Value | None) -> list[int]:
    """The counts in a metadata value: bools, negatives and anything else are none."""
    values = value if isinstance(value, tuple) else (value,)
    return [v for v in values if isinstance(v, int) and not isinstance(v, bool) and v >= 0]
