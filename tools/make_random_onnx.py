"""Write an ONNX folder of real shape with random weights: what benchmarks run where no weights can be had.

    python tools/make_random_onnx.py --shape smollm2-135m --quant int8 -o folder

Speed, memory and file size are those of a real model of that shape as optimum exports it; what it says is noise.
``int8`` and ``int4`` quantize weights only, in blocks of 32 as ``tools/export_reference.py`` does, the embedding in
eight bits; they are multiplied in int8, as onnxruntime-genai's builder has it. ``--attention fused`` writes attention
as that builder does, too (``tools/fuse_attention.py``). The tokenizer is the working byte-level BPE of
``tools/make_random_model.py``.

Needs torch, transformers and optimum-onnx (the ``export`` extra) besides the ``dev`` extra. Disk and memory: about
three times the float32 weights while it runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parent.parent))

from tools.make_random_model import CHATML, ROOT, SHAPES, SPECIAL, TEXT, Shape, make_vocabulary, read_texts

QUANTS = ("fp32", "int8", "int4")
ATTENTION = ("plain", "fused")


def write_tokenizer(folder: Path, shape: Shape, seed: int) -> None:
    """tokenizer.json, tokenizer_config.json and the chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    texts = read_texts(sorted(path for pattern in TEXT for path in ROOT.glob(pattern)))
    tokens, merges = make_vocabulary(texts, shape.vocab, seed)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(m.split()[0], m.split()[1]) for m in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>", "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")


def write_graph(folder: Path, shape: Shape, quant: str, seed: int, attention: str = "plain") -> None:
    """model.onnx and config.json, of a freshly drawn Llama."""
    import onnx
    import torch
    from optimum.exporters.onnx import main_export
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    end = shape.vocab - len(SPECIAL) + SPECIAL.index("<|im_end|>")
    config = LlamaConfig(
        vocab_size=shape.vocab, hidden_size=shape.embd, intermediate_size=shape.ffn, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, max_position_embeddings=shape.n_ctx,
        rms_norm_eps=shape.eps, rope_theta=shape.rope_base, tie_word_embeddings=shape.tied,
        initializer_range=shape.embd**-0.5, eos_token_id=end, bos_token_id=shape.vocab - len(SPECIAL),
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # logits one of about 3, neither flat nor sure, as make_random_model's
        model.model.embed_tokens.weight.mul_(3.0)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        source, exported = Path(scratch) / "source", Path(scratch) / "exported"
        model.save_pretrained(source)
        del model
        main_export(str(source), exported, task="text-generation-with-past", do_validation=False)
        (folder / "config.json").write_bytes((source / "config.json").read_bytes())
        graph = exported / "model.onnx"
        if attention == "fused":
            from tools.fuse_attention import fuse_attention

            plain = onnx.load(graph)
            fuse_attention(
                plain, layers=shape.layers, heads=shape.heads, kv_heads=shape.kv_heads,
                head_dim=shape.embd // shape.heads, rope_base=shape.rope_base, n_ctx=shape.n_ctx,
            )  # fmt: skip
            onnx.save_model(plain, str(graph))
        if quant == "fp32":
            onnx.save_model(
                onnx.load(graph), str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx.data"
            )
        else:
            from tools.export_reference import quantize_weights

            logging.disable(logging.INFO)  # the quantizer reports every node
            quantize_weights(graph, folder / "model.onnx", bits=8 if quant == "int8" else 4)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write an ONNX folder of real shape with random weights.")
    parser.add_argument("--shape", choices=sorted(n for n, s in SHAPES.items() if not s.qkv_bias), required=True)
    parser.add_argument("--quant", choices=QUANTS, default="int8")
    parser.add_argument("--attention", choices=ATTENTION, default="plain")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    write_tokenizer(options.output, SHAPES[options.shape], options.seed)
    write_graph(options.output, SHAPES[options.shape], options.quant, options.seed, options.attention)
    size = sum(f.stat().st_size for f in options.output.iterdir())
    print(f"{options.output}: {size / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
