"""Write the reference model's files from the folder that ``tools/train_reference.py`` made.

    python tools/export_reference.py --model build/reference

GGUF: f16, Q8_0 and Q4_0, laid out as llama.cpp expects of a Llama. ONNX: fp32 with a key-value cache, and int8
made of it. Everything about the tokenizer travels along, the chat template too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from optimum.exporters.onnx import main_export
from safetensors.numpy import load_file

ROOT = Path(__file__).parent.parent
NAME = "cultev reference"
DESCRIPTION = (
    "A small model that knows an invented world, for checking cultev. It has no knowledge of the real world. "
    "Model card: models/reference/README.md."
)
SIDE_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

Types = gguf.GGMLQuantizationType
GGUF_TYPES: Mapping[str, tuple[gguf.LlamaFileType, gguf.GGMLQuantizationType, gguf.GGMLQuantizationType]] = {
    "f16": (gguf.LlamaFileType.MOSTLY_F16, Types.F16, Types.F16),
    "Q8_0": (gguf.LlamaFileType.MOSTLY_Q8_0, Types.Q8_0, Types.Q8_0),
    "Q4_0": (gguf.LlamaFileType.MOSTLY_Q4_0, Types.Q4_0, Types.Q8_0),
}
"""File type, type of the layers' matrices, type of the embedding. The embedding is the output matrix too, so
that even the four-bit file keeps it in eight bits, as llama.cpp's own quantizer does for output matrices."""


def llama_tensors(weights: Mapping[str, NDArray[np.float32]], heads: int, kv_heads: int) -> dict[str, NDArray[Any]]:
    """Hugging Face's tensors under GGUF's names; tied output weights are left out."""
    names = {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    tensors = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "output_norm.weight": weights["model.norm.weight"],
    }
    for name, weight in weights.items():
        if not name.startswith("model.layers."):
            continue
        number, _, part = name.removeprefix("model.layers.").partition(".")
        part = names[part.removesuffix(".weight")]
        if part in ("attn_q", "attn_k"):
            weight = interleaved(weight, heads if part == "attn_q" else kv_heads)
        tensors[f"blk.{number}.{part}.weight"] = weight
    return tensors


def interleaved(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows reordered from Hugging Face's rotary layout (two halves) to llama.cpp's (pairs side by side)."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def write_gguf(source: Path, target: Path, kind: str) -> None:
    """Write one GGUF file."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    file_type, matrix_type, embedding_type = GGUF_TYPES[kind]
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name(NAME)
    writer.add_description(DESCRIPTION)
    writer.add_author("cultev contributors")
    writer.add_license("apache-2.0")
    writer.add_bool("cultev.reference", True)  # every score of it is labelled as a check of the tool
    writer.add_languages(["en", "es", "ru", "ar", "hi", "zh", "bn", "ja"])
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])
    add_tokenizer(writer, source, config)
    weights = load_file(source / "model.safetensors")
    tensors = llama_tensors(weights, config["num_attention_heads"], config["num_key_value_heads"])
    for name, weight in tensors.items():
        kind_of = embedding_type if name == "token_embd.weight" else matrix_type
        if weight.ndim == 1:
            kind_of = Types.F32  # norms stay exact: they are tiny and everything passes through them
        writer.add_tensor(name, gguf.quants.quantize(weight.astype(np.float32), kind_of), raw_dtype=kind_of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: gguf.GGUFWriter, source: Path, config: Mapping[str, Any]) -> None:
    """The vocabulary, merges and chat template."""
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["id"] for token in tokenizer["added_tokens"]}
    ids = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    tokens = [ids[number] for number in range(config["vocab_size"])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("bloom")  # the pattern of train_reference.WORD
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if number in special else gguf.TokenType.NORMAL for number in range(len(tokens))]
    )
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(True)
    writer.add_chat_template((source / "chat_template.jinja").read_text(encoding="utf-8"))


def write_onnx(source: Path, fp32: Path, int8: Path) -> None:
    """Write both ONNX folders."""
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch) / "exported"
        main_export(str(source), exported, task="text-generation-with-past", do_validation=False)
        for folder in (fp32, int8):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for name in SIDE_FILES:
                shutil.copyfile(source / name, folder / name)
            config = json.loads((source / "config.json").read_text(encoding="utf-8"))
            config["cultev_reference"] = True
            (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        quantize_weights(exported / "model.onnx", int8 / "model.onnx")
        model = onnx.load(exported / "model.onnx")
        share_tied_weights(model)
        onnx.save(model, fp32 / "model.onnx")


def quantize_weights(source: Path, target: Path, bits: int = 8) -> None:
    """Write a graph with weights of few bits: the products' in blocks of 32, the embedding's as one int8 tensor.

    Only weights: dynamic quantization would scale the activations by all that is in a batch, so that a score would
    depend on which other questions are computed beside it (0.04 nats a token on this model, more on larger ones).
    They are multiplied in int8 (onnxruntime's accuracy level 4), which rounds each row's activations in blocks of their
    own. At level 0, in float32, eight-bit weights are unpacked anew in every run (onnxruntime 1.32: for one row 100
    times as slow, for 512 rows 1.7 times).
    """
    quantizer = MatMulNBitsQuantizer(onnx.load(source), bits=bits, block_size=32, is_symmetric=True, accuracy_level=4)
    quantizer.process()
    products = target.with_suffix(".products.onnx")
    onnx.save(quantizer.model.model, products)
    quantize_dynamic(products, target, op_types_to_quantize=["Gather"], weight_type=QuantType.QInt8)
    products.unlink()


def share_tied_weights(model: onnx.ModelProto) -> None:
    """Keep one copy of matrices that stand in the file twice, the second time transposed (tied embeddings)."""
    kept: list[tuple[str, NDArray[Any]]] = []
    for tensor in list(model.graph.initializer):
        if len(tensor.dims) != 2 or tensor.dims[0] * tensor.dims[1] < 100_000:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        twin = next((name for name, other in kept if np.array_equal(other.T, values)), None)
        if twin is None:
            kept.append((tensor.name, values))
            continue
        model.graph.initializer.remove(tensor)
        node = onnx.helper.make_node("Transpose", [twin], [tensor.name], name=f"{tensor.name}_tied", perm=[1, 0])
        model.graph.node.insert(0, node)


def main() -> None:
    """Export and list the files with their sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--out", type=Path, default=ROOT / "models" / "reference")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for kind in GGUF_TYPES:
        write_gguf(options.model, options.out / f"reference-{kind}.gguf", kind)
    write_onnx(options.model, options.out / "onnx-fp32", options.out / "onnx-int8")
    files = sorted(path for path in options.out.rglob("*") if path.is_file())
    for path in files:
        print(f"{path.stat().st_size:>10}  {path.relative_to(options.out)}")
    print(f"{sum(path.stat().st_size for path in files):>10}  all")


if __name__ == "__main__":
    main()
