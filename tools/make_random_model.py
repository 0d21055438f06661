"""Write a GGUF model of real shape with random weights: what benchmarks run where no weights can be had.

    python tools/make_random_model.py --shape qwen2.5-0.5b --quant q4_k_m -o model.gguf

Speed, memory and file size are those of a real model of that shape; what it says is noise. The weights are
written as f16 and then quantized by llama.cpp's own quantizer. The tokenizer is a working byte-level BPE. Its
first merges are learned from this repository's suites and prompts, so that a prompt has about as many tokens
as with a real vocabulary; the others are made up, and never apply. The same seed and the same text give the
same file.

Needs numpy, gguf, tokenizers and llama-cpp-python (the ``dev`` extra). Disk: the f16 file beside the
output for as long as quantizing takes (2 bytes a weight). Memory: about 2 GB.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # run from a checkout that is not installed

from cultev.models.gguf_quantize import run_quantizer  # noqa: E402

TEXT = ("suites/*/items.jsonl", "cultev/prompt/languages/*.toml")
LEARNED = 8_000
"""Tokens that merges learned from text may make; gives about 3.5 characters a token in English."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama-like transformer. ``qkv_bias`` makes it qwen2, without it is llama."""

    layers: int
    embd: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    n_ctx: int
    rope_base: float
    tied: bool = True
    qkv_bias: bool = False
    eps: float = 1e-5

    @property
    def architecture(self) -> str:
        """llama.cpp's name for it."""
        return "qwen2" if self.qkv_bias else "llama"

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape (rows, columns) of every tensor, in the order of the file."""
        kv = self.embd // self.heads * self.kv_heads
        yield "token_embd.weight", (self.vocab, self.embd)
        if not self.tied:
            yield "output.weight", (self.vocab, self.embd)
        yield "output_norm.weight", (self.embd,)
        for layer in range(self.layers):
            block = f"blk.{layer}"
            yield f"{block}.attn_norm.weight", (self.embd,)
            for part, width in (("q", self.embd), ("k", kv), ("v", kv)):
                yield f"{block}.attn_{part}.weight", (width, self.embd)
                if self.qkv_bias:
                    yield f"{block}.attn_{part}.bias", (width,)
            yield f"{block}.attn_output.weight", (self.embd, self.embd)
            yield f"{block}.ffn_norm.weight", (self.embd,)
            yield f"{block}.ffn_gate.weight", (self.ffn, self.embd)
            yield f"{block}.ffn_up.weight", (self.ffn, self.embd)
            yield f"{block}.ffn_down.weight", (self.embd, self.ffn)

    @property
    def n_params(self) -> int:
        """Weights in all."""
        return sum(int(np.prod(shape)) for _, shape in self.tensors())


SHAPES = {
    # Small enough for a test, and wide enough (256) for the k-quants.
    "tiny-llama": Shape(2, 256, 4, 2, 512, 6_000, 512, 10_000.0),
    "smollm2-135m": Shape(30, 576, 9, 3, 1_536, 49_152, 8_192, 100_000.0),
    "qwen2.5-0.5b": Shape(24, 896, 14, 2, 4_864, 151_936, 32_768, 1e6, qkv_bias=True, eps=1e-6),
    "tinyllama-1.1b": Shape(22, 2_048, 32, 4, 5_632, 32_000, 2_048, 10_000.0, tied=False),
}
QUANTS = ("f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_k_s", "q4_0", "q3_k_m", "q2_k")


def read_texts(paths: Iterable[Path]) -> Iterator[str]:
    """The texts to learn merges from: every string inside a .jsonl, whole files otherwise."""

    def strings(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for inner in value.values():
                yield from strings(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from strings(inner)

    for path in paths:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            for line in text.splitlines():
                yield from strings(json.loads(line))
        else:
            yield text


def make_vocabulary(texts: Iterable[str], n_vocab: int, seed: int) -> tuple[list[str], list[str]]:
    """A byte-level BPE vocabulary of exactly ``n_vocab`` tokens, ``SPECIAL`` last, and its merges.

    What text doesn't teach is filled up with merges of two learned tokens where a letter or digit would meet
    the space before a word. The word splitter never lets these two meet, so that such a merge costs what it
    costs in a real vocabulary (memory, loading) and changes no tokenization.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    room = n_vocab - len(SPECIAL)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if room < len(alphabet):
        raise ValueError(f"a byte-level vocabulary has at least {len(alphabet) + len(SPECIAL)} tokens")
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=min(room, LEARNED), initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    tokens = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    merges = [" ".join(merge) for merge in learned["merges"]]
    ends = [token for token in tokens if token[-1].isascii() and token[-1].isalnum()]
    starts = [token for token in tokens if token.startswith("Ġ")]
    if len(ends) * len(starts) < 4 * (room - len(tokens)):
        raise ValueError(f"too little text to fill a vocabulary of {n_vocab} tokens")
    known, pick = set(tokens), random.Random(seed)
    while len(tokens) < room:
        left, right = pick.choice(ends), pick.choice(starts)
        if left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
            merges.append(f"{left} {right}")
    return [*tokens, *SPECIAL], merges


def write_f16(path: Path, name: str, shape: Shape, texts: Iterable[str], seed: int) -> None:
    """Write the model with f16 matrices, one tensor in memory at a time.

    Weights are normal with variance 1 / columns, which keeps activations of order 1 through all layers.
    Embeddings have a deviation of 3 / sqrt(embd), which gives logits one of about 3: neither flat nor sure.
    """
    import gguf

    tokens, merges = make_vocabulary(texts, shape.vocab, seed)
    writer = gguf.GGUFWriter(str(path), shape.architecture)
    try:
        writer.add_name(f"{name} with random weights")
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        writer.add_context_length(shape.n_ctx)
        writer.add_embedding_length(shape.embd)
        writer.add_block_count(shape.layers)
        writer.add_feed_forward_length(shape.ffn)
        writer.add_head_count(shape.heads)
        writer.add_head_count_kv(shape.kv_heads)
        writer.add_rope_dimension_count(shape.embd // shape.heads)
        writer.add_rope_freq_base(shape.rope_base)
        writer.add_layer_norm_rms_eps(shape.eps)
        writer.add_vocab_size(shape.vocab)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2" if shape.qkv_bias else "gpt-2")
        writer.add_token_list(tokens)
        writer.add_token_types(
            [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens]
        )
        writer.add_token_merges(merges)
        writer.add_bos_token_id(tokens.index("<|endoftext|>"))
        writer.add_eos_token_id(tokens.index("<|im_end|>"))
        writer.add_pad_token_id(tokens.index("<|endoftext|>"))
        writer.add_add_bos_token(False)
        writer.add_chat_template(CHATML)
        for tensor, size in shape.tensors():
            kind = np.dtype(np.float16 if len(size) == 2 else np.float32)
            writer.add_tensor_info(tensor, size, kind, int(np.prod(size)) * kind.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        source = np.random.default_rng(seed)
        for tensor, size in shape.tensors():
            writer.write_tensor_data(_weights(source, tensor, size))
    finally:
        writer.close()


def _weights(source: np.random.Generator, tensor: str, size: tuple[int, ...]) -> np.ndarray:
    if tensor.endswith("norm.weight"):
        return np.ones(size, dtype=np.float32)
    values = source.standard_normal(size, dtype=np.float32)
    if len(size) == 1:
        return 0.1 * values
    gain = 3.0 if tensor in ("token_embd.weight", "output.weight") else 1.0
    values *= gain / np.sqrt(np.float32(size[1]))
    return values.astype(np.float16)


def probe(path: Path, text: str) -> dict[str, float]:
    """Load the model, decode a text, and measure it.

    Returns:
        characters a token, the deviation of the last token's logits, and their largest probability.

    Raises:
        RuntimeError: when it doesn't load, or its logits are not finite or all equal.
    """
    import llama_cpp

    try:
        model = llama_cpp.Llama(str(path), n_ctx=512, verbose=False)
    except ValueError as error:
        raise RuntimeError(f"llama.cpp can't load {path}: {error}") from error
    try:
        tokens = model.tokenize(text.encode(), add_bos=False, special=True)
        model.eval(tokens[:512])
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(model.ctx, -1), shape=(model.n_vocab(),)).astype(
            np.float64
        )
    finally:
        model.close()
    if not np.isfinite(logits).all() or logits.std() < 0.1:
        raise RuntimeError(f"{path} loads, but its logits are not finite or flat")
    return {
        "characters a token": len(text) / len(tokens),
        "deviation of the logits": float(logits.std()),
        "largest probability": float(1.0 / np.exp(logits - logits.max()).sum()),
    }


def make_model(
    output: Path,
    shape_name: str,
    quant: str,
    *,
    seed: int = 0,
    threads: int = 0,
    texts: Iterable[str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Write ``output``; an existing file is replaced only by a whole new one.

    Args:
        output: the .gguf to write.
        shape_name: a key of ``SHAPES``.
        quant: one of ``QUANTS``.
        seed: of the weights and of the made-up merges.
        threads: for quantizing; 0 takes every core.
        texts: to learn merges from; None takes the repository's own (``TEXT``).
        say: called with one line per step.
    """
    shape = SHAPES[shape_name]
    if texts is None:
        texts = read_texts(sorted(path for pattern in TEXT for path in ROOT.glob(pattern)))
    output.parent.mkdir(parents=True, exist_ok=True)
    plain, part = (output.with_name(f"{output.name}.{end}") for end in ("f16.part", "part"))
    start = time.monotonic()
    try:
        write_f16(plain, shape_name, shape, texts, seed)
        say(f"{shape.n_params:,} weights written as f16, {time.monotonic() - start:.0f} s")
        if quant == "f16":
            plain.replace(output)
        else:
            run_quantizer(plain, part, quant, threads=threads)
            say(f"quantized to {quant}, {time.monotonic() - start:.0f} s")
            part.replace(output)
    finally:
        plain.unlink(missing_ok=True)
        part.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Write a GGUF model of real shape with random weights.")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen2.5-0.5b")
    parser.add_argument("--quant", type=str.lower, choices=QUANTS, default="q4_k_m")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="for quantizing; 0: every core")
    options = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    make_model(options.output, options.shape, options.quant, seed=options.seed, threads=options.threads, say=say)
    text = "Is it polite to arrive an hour late when a friend invites you to dinner? Answer with one word."
    for name, value in probe(options.output, text).items():
        say(f"{name}: {value:.3g}")
    say(f"{options.output}: {options.output.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
