"""Tiny random-weight GGUF files that llama.cpp loads, for tests: under 1 MB, made in well under a second.

The tokenizer is byte-level (gpt2 type), so that any text in any script encodes and decodes: 256 byte tokens,
a few merges (common English pieces with their leading space), four special tokens, the rest unused. The same
arguments give the same bytes.
"""

from __future__ import annotations

import ctypes
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


_PIECES = ("▁", *"abcdefghijklmnopqrstuvwxyz", "th", "the", "▁the", "▁t", "▁a", "▁b", "▁bread", "br", "ea", "ead")


def _add_spaced_tokenizer(writer: gguf.GGUFWriter, vocab: int) -> None:
    """A SentencePiece vocabulary (Llama 2, Mistral, Gemma), which puts a space before every text."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *_PIECES]
    kinds = [int(gguf.TokenType.UNKNOWN), *[int(gguf.TokenType.CONTROL)] * 2, *[int(gguf.TokenType.BYTE)] * 256]
    kinds += [int(gguf.TokenType.NORMAL)] * len(_PIECES)
    unused = vocab - len(tokens)
    tokens += [f"<|unused_{k}|>" for k in range(unused)]
    kinds += [int(gguf.TokenType.UNUSED)] * unused
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(len(tokens)) + 10 * len(t) for t in tokens])  # longer pieces first
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)


ARCHITECTURES = ("llama", "qwen2", "gemma2", "olmoe", "mamba", "mamba2", "jamba", "qwen35", "lfm2", "bert")
"""What ``write_tiny_gguf`` knows: plain attention (with and without biases), attention of which every other layer
has a sliding window of WINDOW tokens, a mixture of experts, two recurrent kinds, three hybrids (whose even layers are
mamba's, gated delta nets, and short convolutions, the odd ones attention), and an encoder for embeddings."""

HYBRIDS = ("jamba", "qwen35", "lfm2")

WINDOW = 16
"""Tokens that gemma2's sliding layers see."""

EXPERTS = 4
"""Of which 2 compute each token."""

STATE, CONVOLUTION, DELTA = 8, 4, 16
"""Width of a recurrent layer's state, of the convolution before it, and of a delta net's heads."""


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
    spaced: bool = False,
) -> Path:
    """Write a model with random f16 weights and return its path.

    Args:
        path: where; an existing file is replaced.
        architecture: one of ``ARCHITECTURES``.
        layers: blocks; hybrids' odd ones are attention, the others recurrent.
        embd: width; a multiple of 2 * heads.
        heads: attention heads.
        kv_heads: heads of keys and values; divides ``heads`` (olmoe and bert: always as many).
        vocab: tokens, at least 273; those beyond the tokenizer's own are unused.
        n_ctx: longest context in tokens, as the header states it.
        seed: of the weights.
        chat_template: Jinja text; None leaves the model without one.
        add_bos: whether the header asks for a BOS before every text.
        name: general.name in the header.
        spaced: take a SentencePiece vocabulary instead of the byte-level one.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {ARCHITECTURES}, not {architecture}")
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name(name)
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(embd)
    writer.add_block_count(layers)
    writer.add_vocab_size(vocab)
    if spaced:
        _add_spaced_tokenizer(writer, vocab)
    else:
        _add_tokenizer(writer, vocab, add_bos, "qwen2" if architecture == "qwen2" else "gpt-2")
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    model = _Tiny(writer, architecture, layers, embd, heads, kv_heads, np.random.default_rng(seed))
    model.add_sizes()
    model.add_tensors(vocab, n_ctx)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def quantize(source: Path, target: Path, kind: str) -> Path:
    """Quantize a model with llama.cpp's own quantizer, every matrix that can be; ``kind``: 'Q4_0', 'Q8_0', 'Q4_K_M'.

    Q4_K needs rows that are multiples of 256 wide.
    """
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    params.nthread = 2
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    assert code == 0
    return target


class _Tiny:
    """Puts one model's sizes and random tensors into a writer, under llama.cpp's names."""

    def __init__(
        self,
        writer: gguf.GGUFWriter,
        architecture: str,
        layers: int,
        embd: int,
        heads: int,
        kv_heads: int,
        random: np.random.Generator,
    ) -> None:
        self.writer, self.architecture, self.random = writer, architecture, random
        self.layers, self.embd, self.heads, self.kv_heads = layers, embd, heads, kv_heads
        if architecture in ("olmoe", "bert"):
            self.kv_heads = heads  # these have no grouped heads
        self.ffn, self.kv_dim, self.inner = 2 * embd, embd // heads * self.kv_heads, 2 * embd
        self.rank = 4
        """Of the recurrent layers' time step; mamba2's heads."""

    def is_recurrent(self, layer: int) -> bool:
        return self.architecture in ("mamba", "mamba2") or (self.architecture in HYBRIDS and layer % 2 == 0)

    def add_sizes(self) -> None:
        w = self.writer
        recurrent = [self.is_recurrent(layer) for layer in range(self.layers)]
        w.add_feed_forward_length(0 if all(recurrent) else self.ffn)
        w.add_head_count(0 if all(recurrent) else self.heads)
        per_layer = [0 if r else self.kv_heads for r in recurrent]
        w.add_head_count_kv(per_layer if any(recurrent) and self.architecture != "qwen35" else self.kv_heads)
        if self.architecture == "lfm2":
            w.add_shortconv_l_cache(CONVOLUTION)
        elif self.architecture == "qwen35":
            quarter = self.embd // self.heads // 4
            w.add_full_attention_interval(2)
            w.add_rope_dimension_sections([quarter, quarter // 2, quarter // 2, 0])
            w.add_key_length(self.embd // self.heads)
            w.add_value_length(self.embd // self.heads)
            w.add_ssm_conv_kernel(CONVOLUTION)
            w.add_ssm_inner_size(DELTA * self.heads)
            w.add_ssm_state_size(DELTA)
            w.add_ssm_time_step_rank(self.heads)
            w.add_ssm_group_count(self.kv_heads)
        elif any(recurrent):
            w.add_ssm_conv_kernel(CONVOLUTION)
            w.add_ssm_inner_size(self.inner)
            w.add_ssm_state_size(STATE)
            w.add_ssm_time_step_rank(self.rank)
            w.add_ssm_group_count(1)
        if self.architecture == "bert":
            w.add_layer_norm_eps(1e-5)
            w.add_causal_attention(False)
            w.add_token_type_count(1)
            w.add_pooling_type(gguf.PoolingType.MEAN)
            return
        w.add_layer_norm_rms_eps(1e-5)
        w.add_rope_dimension_count(self.embd // self.heads)
        w.add_rope_freq_base(10000.0)
        if self.architecture == "gemma2":
            w.add_sliding_window(WINDOW)
            w.add_key_length(self.embd // self.heads)
            w.add_value_length(self.embd // self.heads)
            w.add_attn_logit_softcapping(50.0)
            w.add_final_logit_softcapping(30.0)
        if self.architecture == "olmoe":
            w.add_expert_count(EXPERTS)
            w.add_expert_used_count(2)

    def add_tensors(self, vocab: int, n_ctx: int) -> None:
        # Gain 3 on what makes the logits: an answer's probability should differ visibly from 1 / vocab.
        self.matrix("token_embd", vocab, self.embd, gain=3.0)
        if self.architecture not in ("qwen2", "gemma2", "bert"):  # the others' output matrix is token_embd
            self.matrix("output", vocab, self.embd, gain=3.0)
        if self.architecture == "bert":
            self.matrix("token_types", 1, self.embd, kind=np.float32)
            self.matrix("position_embd", n_ctx, self.embd, kind=np.float32)
            self.norm("token_embd_norm", bias=True)
        else:
            self.norm("token_embd_norm" if self.architecture == "lfm2" else "output_norm")
        for layer in range(self.layers):
            block = f"blk.{layer}"
            if self.architecture == "bert":
                self.encoder(block)
                continue
            self.norm(f"{block}.attn_norm")
            if self.is_recurrent(layer):
                {"qwen35": self.delta_net, "lfm2": self.short_convolution}.get(self.architecture, self.recurrent)(block)
            else:
                self.attention(block)
            if self.architecture not in ("mamba", "mamba2"):
                self.norm(f"{block}.{'post_attention_norm' if self.architecture == 'qwen35' else 'ffn_norm'}")
                self.experts(block) if self.architecture == "olmoe" else self.feed_forward(block)
            if self.architecture == "gemma2":
                self.norm(f"{block}.post_attention_norm")
                self.norm(f"{block}.post_ffw_norm")

    def matrix(self, tensor: str, *shape: int, gain: float = 1.0, kind: type = np.float16) -> None:
        weights = self.random.standard_normal(shape) * (gain / np.sqrt(shape[-1]))
        self.writer.add_tensor(f"{tensor}.weight", weights.astype(kind))

    def vector(self, tensor: str, values: np.ndarray) -> None:
        self.writer.add_tensor(tensor, values.astype(np.float32))  # llama.cpp wants norms and biases in f32

    def norm(self, tensor: str, width: int = 0, *, bias: bool = False) -> None:
        self.vector(f"{tensor}.weight", np.ones(width or self.embd))
        if bias:
            self.vector(f"{tensor}.bias", np.zeros(width or self.embd))

    def bias(self, tensor: str, width: int, mean: float = 0.0) -> None:
        self.vector(f"{tensor}.bias", mean + 0.1 * self.random.standard_normal(width))

    def attention(self, block: str) -> None:
        gate = self.architecture == "qwen35"
        self.matrix(f"{block}.attn_q", 2 * self.embd if gate else self.embd, self.embd)
        self.matrix(f"{block}.attn_k", self.kv_dim, self.embd)
        self.matrix(f"{block}.attn_v", self.kv_dim, self.embd)
        self.matrix(f"{block}.attn_output", self.embd, self.embd)
        if self.architecture == "qwen2":
            for part, width in (("q", self.embd), ("k", self.kv_dim), ("v", self.kv_dim)):
                self.bias(f"{block}.attn_{part}", width)
        if self.architecture == "olmoe":
            self.norm(f"{block}.attn_q_norm")
            self.norm(f"{block}.attn_k_norm", self.kv_dim)
        if self.architecture in ("qwen35", "lfm2"):
            self.norm(f"{block}.attn_q_norm", self.embd // self.heads)
            self.norm(f"{block}.attn_k_norm", self.embd // self.heads)

    def feed_forward(self, block: str) -> None:
        self.matrix(f"{block}.ffn_gate", self.ffn, self.embd)
        self.matrix(f"{block}.ffn_up", self.ffn, self.embd)
        self.matrix(f"{block}.ffn_down", self.embd, self.ffn)

    def experts(self, block: str) -> None:
        self.matrix(f"{block}.ffn_gate_inp", EXPERTS, self.embd, kind=np.float32)
        self.matrix(f"{block}.ffn_gate_exps", EXPERTS, self.ffn, self.embd)
        self.matrix(f"{block}.ffn_up_exps", EXPERTS, self.ffn, self.embd)
        self.matrix(f"{block}.ffn_down_exps", EXPERTS, self.embd, self.ffn)

    def recurrent(self, block: str) -> None:
        # Slow decay (small a and time step), little that passes the state by (d): what lies far back shows.
        two = self.architecture == "mamba2"
        mixed = self.inner + 2 * STATE if two else self.inner
        self.matrix(f"{block}.ssm_in", self.inner + mixed + self.rank if two else 2 * self.inner, self.embd)
        self.matrix(f"{block}.ssm_conv1d", mixed, CONVOLUTION, kind=np.float32)
        self.bias(f"{block}.ssm_conv1d", mixed)
        if two:
            self.bias(f"{block}.ssm_dt", self.rank, -2.0)
            self.vector(f"{block}.ssm_a", -0.1 * np.arange(1.0, self.rank + 1)[:, None])
            self.vector(f"{block}.ssm_d", np.full((self.rank, 1), 0.1))
            self.vector(f"{block}.ssm_norm.weight", np.ones((1, self.inner)))
        else:
            self.matrix(f"{block}.ssm_x", self.rank + 2 * STATE, self.inner, gain=3.0)
            self.matrix(f"{block}.ssm_dt", self.inner, self.rank)
            self.bias(f"{block}.ssm_dt", self.inner, -2.0)
            self.vector(f"{block}.ssm_a", -0.1 * np.tile(np.arange(1.0, STATE + 1), (self.inner, 1)))
            self.vector(f"{block}.ssm_d", np.full(self.inner, 0.1))
        if self.architecture == "jamba":
            self.norm(f"{block}.ssm_dt_norm", self.rank)
            self.norm(f"{block}.ssm_b_norm", STATE)
            self.norm(f"{block}.ssm_c_norm", STATE)
        self.matrix(f"{block}.ssm_out", self.embd, self.inner)

    def delta_net(self, block: str) -> None:
        keys, values = DELTA * self.kv_heads, DELTA * self.heads
        self.matrix(f"{block}.attn_qkv", 2 * keys + values, self.embd)
        self.matrix(f"{block}.attn_gate", values, self.embd)
        self.matrix(f"{block}.ssm_conv1d", 2 * keys + values, CONVOLUTION, kind=np.float32)
        self.bias(f"{block}.ssm_dt", self.heads, -2.0)
        self.vector(f"{block}.ssm_a", -0.1 * np.arange(1.0, self.heads + 1))
        self.matrix(f"{block}.ssm_alpha", self.heads, self.embd)
        self.matrix(f"{block}.ssm_beta", self.heads, self.embd)
        self.norm(f"{block}.ssm_norm", DELTA)
        self.matrix(f"{block}.ssm_out", self.embd, values)

    def short_convolution(self, block: str) -> None:
        self.matrix(f"{block}.shortconv.in_proj", 3 * self.embd, self.embd)
        self.matrix(f"{block}.shortconv.conv", self.embd, CONVOLUTION, kind=np.float32)
        self.matrix(f"{block}.shortconv.out_proj", self.embd, self.embd)

    def encoder(self, block: str) -> None:
        for part in ("q", "k", "v", "output"):
            self.matrix(f"{block}.attn_{part}", self.embd, self.embd)
            self.bias(f"{block}.attn_{part}", self.embd)
        self.norm(f"{block}.attn_output_norm", bias=True)
        self.matrix(f"{block}.ffn_up", self.ffn, self.embd)
        self.bias(f"{block}.ffn_up", self.ffn)
        self.matrix(f"{block}.ffn_down", self.embd, self.ffn)
        self.bias(f"{block}.ffn_down", self.embd)
        self.norm(f"{block}.layer_output_norm", bias=True)
