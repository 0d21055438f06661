"""Tiny random-weight GGUF files that llama.cpp loads, for tests: under 1 MB, made in well under a second.

The tokenizer is byte-level (gpt2 type), so that any text in any script encodes and decodes: 256 byte tokens,
a few merges (common English pieces with their leading space), four special tokens, the rest unused. The same
arguments give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The default chat template."""

SPECIAL = ("<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>")
"""Control tokens; their ids follow the bytes and the merged tokens (see ``special_ids``)."""

_MERGES = ("t h", "th e", "Ġ the", "i n", "a n", "Ġ a", "e r", "o n", "r e", "Ġ t", "Ġ s", "an d", "Ġ and")


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each byte 0..255, as byte-level BPE vocabularies spell it."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    symbols, spare = [], 0
    for byte in range(256):
        if byte in printable:
            symbols.append(chr(byte))
        else:
            symbols.append(chr(0x100 + spare))
            spare += 1
    return symbols


def special_ids() -> dict[str, int]:
    """Token id of each of ``SPECIAL``."""
    return {text: 256 + len(_MERGES) + k for k, text in enumerate(SPECIAL)}


def _add_tokenizer(writer: gguf.GGUFWriter, vocab: int, add_bos: bool, pre: str) -> None:
    tokens = byte_symbols() + [merge.replace(" ", "") for merge in _MERGES]
    kinds = [int(gguf.TokenType.NORMAL)] * len(tokens)
    tokens += SPECIAL
    kinds += [int(gguf.TokenType.CONTROL)] * len(SPECIAL)
    if vocab < len(tokens):
        raise ValueError(f"vocab must be at least {len(tokens)}, not {vocab}")
    unused = vocab - len(tokens)
    tokens += [f"<|unused_{k}|>" for k in range(unused)]
    kinds += [int(gguf.TokenType.UNUSED)] * unused
    ids = special_ids()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(list(_MERGES))
    writer.add_bos_token_id(ids["<|bos|>"])
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|eos|>"])
    writer.add_add_bos_token(add_bos)


def write_tiny_gguf(
    path: Path | str,
    *,
    architecture: str = "llama",
    layers: int = 2,
    embd: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    vocab: int = 320,
    n_ctx: int = 256,
    seed: int = 0,
    chat_template: str | None = CHATML,
    add_bos: bool = True,
    name: str = "tiny",
) -> Path:
    """Write a model with random f16 weights and return its path.

    Args:
        path: where; an existing file is replaced.
        architecture: 'llama' (own output matrix) or 'qwen2' (tied embeddings, biases on q, k and v).
        layers: transformer blocks.
        embd: width; a multiple of 2 * heads.
        heads: attention heads.
        kv_heads: heads of keys and values; divides ``heads``.
        vocab: tokens, at least 273; those beyond the tokenizer's own are unused.
        n_ctx: longest context in tokens, as the header states it.
        seed: of the weights.
        chat_template: Jinja text; None leaves the model without one.
        add_bos: whether the header asks for a BOS before every text.
        name: general.name in the header.
    """
    if architecture not in ("llama", "qwen2"):
        raise ValueError(f"architecture must be llama or qwen2, not {architecture}")
    random = np.random.default_rng(seed)
    ffn, kv_dim = 2 * embd, embd // heads * kv_heads
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name(name)
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(embd)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(embd // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(vocab)
    _add_tokenizer(writer, vocab, add_bos, "qwen2" if architecture == "qwen2" else "gpt-2")
    if chat_template is not None:
        writer.add_chat_template(chat_template)

    def matrix(tensor: str, rows: int, columns: int, gain: float = 1.0) -> None:
        weights = random.standard_normal((rows, columns)) * (gain / np.sqrt(columns))
        writer.add_tensor(f"{tensor}.weight", weights.astype(np.float16))

    def vector(tensor: str, values: np.ndarray) -> None:
        writer.add_tensor(tensor, values.astype(np.float32))  # llama.cpp wants norms and biases in f32

    # Gain 3 on what makes the logits: an answer's probability should differ visibly from 1 / vocab.
    matrix("token_embd", vocab, embd, 3.0)
    if architecture == "llama":
        matrix("output", vocab, embd, 3.0)
    vector("output_norm.weight", np.ones(embd))
    for layer in range(layers):
        block = f"blk.{layer}"
        vector(f"{block}.attn_norm.weight", np.ones(embd))
        matrix(f"{block}.attn_q", embd, embd)
        matrix(f"{block}.attn_k", kv_dim, embd)
        matrix(f"{block}.attn_v", kv_dim, embd)
        matrix(f"{block}.attn_output", embd, embd)
        if architecture == "qwen2":
            for part, width in (("q", embd), ("k", kv_dim), ("v", kv_dim)):
                vector(f"{block}.attn_{part}.bias", 0.1 * random.standard_normal(width))
        vector(f"{block}.ffn_norm.weight", np.ones(embd))
        matrix(f"{block}.ffn_gate", ffn, embd)
        matrix(f"{block}.ffn_up", ffn, embd)
        matrix(f"{block}.ffn_down", embd, ffn)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)
