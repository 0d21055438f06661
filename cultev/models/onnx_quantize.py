"""ONNX folders made smaller: weights only, so that a score never depends on what else is in a batch.

Products become onnxruntime's MatMulNBits, whose weights are integers of 8 or 4 bits in blocks with a scale each; the
embedding becomes eight-bit rows with a scale each. Activations are rounded to eight bits within a product, each row's
blocks by a scale of their own, as llama.cpp does it: quantizing them dynamically as a whole would scale them by all
that is computed together.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cultev.backend.memory import available_memory
from cultev.backend.onnx_folder import OnnxFolder, read_folder
from cultev.errors import CultevError, MissingExtra, ModelUnsupported, UsageError
from cultev.models.files import require_new, require_room, whole

BITS = {"int8": 8, "int4": 4}
"""What --to takes for an ONNX model."""

BLOCK_SIZES = (16, 32, 64, 128, 256)
"""Weights that share a scale: what MatMulNBits takes."""

ACCURACY_LEVEL = 4
"""onnxruntime's word for products in eight bits. Level 0 unpacks all weights into floats at every run: measured on one
576 x 6144 product, 100 times as slow for one row, 1.7 times for 512."""

INLINE_BYTES = 1_500_000_000
"""Weights of more bytes go into a file beside the graph: a protobuf message ends at 2 GiB."""

_SKIPPED = (".onnx", ".data", ".part", ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack")
_EMBEDDING = 2**15
"""A table that tokens are looked up in has at least this many numbers; smaller ones are shapes and positions."""


def quantize_onnx(source: Path, target: Path, to: str, *, block_size: int = 32, force: bool = False) -> None:
    """Write a whole folder: graph, tokenizer, config, template.

    Args:
        source: an ONNX folder, or one graph in it.
        target: the folder to write.
        to: 'int8' or 'int4', in whatever case.
        block_size: weights that share a scale; one of ``BLOCK_SIZES``.
        force: replace an existing ``target``.

    Raises:
        MissingExtra, ModelError, UsageError, NoRoom: see ``cultev.errors``.
    """
    bits = BITS.get(to.lower())
    if bits is None:
        raise UsageError(f"An ONNX model can't become '{to}'.", f"Name {' or '.join(BITS)}; other types are GGUF's.")
    if block_size not in BLOCK_SIZES:
        raise UsageError(f"A block of {block_size} weights is not possible.", f"Take one of {BLOCK_SIZES}.")
    if not all(map(importlib.util.find_spec, ("onnx", "onnx_ir", "onnxruntime"))):
        raise MissingExtra("quantize", "Quantizing an ONNX model")
    folder = read_folder(source)
    if folder.quantization.startswith(("int", "uint")):
        raise ModelUnsupported(
            f"{source} is quantized already ({folder.quantization}): what was rounded off can't be had back.",
            "Start from the model's fp32 or fp16 graph.",
        )
    home = folder.config_file.parent
    if target.exists() and target.samefile(home):
        raise UsageError("The result would replace its own source.", "Name another folder with -o.")
    require_new(target, force=force)
    kept = _side_files(folder)
    require_room(target.parent, folder.n_bytes * bits // 16 + sum(file.stat().st_size for file in kept))
    _require_memory(folder, bits)
    with whole(target) as part:
        part.mkdir()
        for file in kept:
            shutil.copyfile(file, part / file.name)
        _point_genai(part)
        quantize_graph(folder.graph, part / "model.onnx", bits, block_size)


def quantize_graph(source: Path, target: Path, bits: int, block_size: int = 32) -> None:
    """Write one graph with quantized weights; those of more than 1.5 GB go into ``<target>.data``.

    Raises:
        ModelUnsupported: there is no product with constant weights in it.
        CultevError: onnxruntime's quantizer failed.
    """
    import onnx

    with quiet_logging():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        model = onnx.load(str(source))
        _plain_weights(model.graph)
        # Eight bits leave no visible bias; four bits do unless each block has a zero point of its own.
        quantizer = MatMulNBitsQuantizer(
            model, bits=bits, block_size=block_size, is_symmetric=bits == 8, accuracy_level=ACCURACY_LEVEL
        )
        try:
            quantizer.process()
        except Exception as error:  # the quantizer has no error class of its own
            raise CultevError(
                f"onnxruntime could not quantize {source}: {error}.", "Export it again as fp32."
            ) from error
        model = quantizer.model.model
    if not any(node.op_type == "MatMulNBits" for graph in _graphs(model.graph) for node in graph.node):
        raise ModelUnsupported(
            f"{source} has no product with weights that could be quantized.",
            "Start from a graph exported as fp32 with optimum: cultev models export",
        )
    for graph in _graphs(model.graph):
        _quantize_embeddings(model.graph, graph)
    _drop_unused(model.graph)
    save_graph(model, target)


def save_graph(model: Any, target: Path) -> None:
    """Write a graph; weights of more than ``INLINE_BYTES`` go into ``<target>.data``."""
    import onnx

    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    beside = target.with_name(f"{target.name}.data")
    onnx.save_model(model, str(target), save_as_external_data=size > INLINE_BYTES, location=beside.name)
    if beside.exists():
        beside.chmod(target.stat().st_mode)  # onnx makes it readable for its owner only


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its nodes (the branches of a merged decoder)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _graphs(inner)


def _plain_weights(graph: Any) -> None:
    """Make weights initializers of their own where exporters wrote a constant node or a shared, transposed matrix."""
    import onnx
    from onnx import numpy_helper

    known = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        values = None
        if node.op_type == "Constant" and node.attribute[0].name == "value" and len(node.attribute[0].t.dims) == 2:
            values = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Transpose" and node.input[0] in known and len(known[node.input[0]].dims) == 2:
            swapped = next((list(a.ints) for a in node.attribute if a.name == "perm"), [1, 0]) == [1, 0]
            array = numpy_helper.to_array(known[node.input[0]])
            values = np.ascontiguousarray(array.T) if swapped else array
        if values is not None:
            tensor: onnx.TensorProto = numpy_helper.from_array(values, node.output[0])
            graph.node.remove(node)
            graph.initializer.append(tensor)
            known[tensor.name] = tensor


def _quantize_embeddings(top: Any, graph: Any) -> None:
    """Turn look-ups in a large table into look-ups of eight-bit rows and of their scales, multiplied.

    A row's scale is its largest magnitude / 127, in the table's own type.
    """
    from onnx import helper, numpy_helper

    tables = {tensor.name: tensor for tensor in top.initializer}
    for position, node in reversed(list(enumerate(graph.node))):
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or len(table.dims) != 2 or table.dims[0] * table.dims[1] < _EMBEDDING:
            continue
        if any(attribute.name == "axis" and attribute.i != 0 for attribute in node.attribute):
            continue
        values = numpy_helper.to_array(table)
        if values.dtype not in (np.float32, np.float16):
            continue
        rows, scales = f"{table.name}_rows", f"{table.name}_scales"
        if rows not in tables:
            wide = np.abs(values.astype(np.float32)).max(axis=1, keepdims=True) / 127
            scale = np.where(wide == 0, 1, wide).astype(values.dtype)
            whole_numbers = np.clip(np.rint(values.astype(np.float32) / scale), -127, 127).astype(np.int8)
            for tensor in (numpy_helper.from_array(whole_numbers, rows), numpy_helper.from_array(scale, scales)):
                top.initializer.append(tensor)
                tables[tensor.name] = tensor
        at, out = node.input[1], node.output[0]
        found = [f"{out}_{part}" for part in ("row", "number", "scale")]
        new = [
            helper.make_node("Gather", [rows, at], [found[0]], axis=0),
            helper.make_node("Cast", [found[0]], [found[1]], to=table.data_type),
            helper.make_node("Gather", [scales, at], [found[2]], axis=0),
            helper.make_node("Mul", [found[1], found[2]], [out]),
        ]
        graph.node.remove(node)
        for offset, made in enumerate(new):
            graph.node.insert(position + offset, made)


def _drop_unused(top: Any) -> None:
    """Remove weights that nothing takes any more."""
    used = {name for graph in _graphs(top) for node in graph.node for name in node.input}
    used.update(output.name for output in top.output)
    for tensor in [tensor for tensor in top.initializer if tensor.name not in used]:
        top.initializer.remove(tensor)


def _side_files(folder: OnnxFolder) -> list[Path]:
    """What belongs to the model beside its graphs: tokenizer, configs, template, licence."""
    home = folder.config_file.parent
    graphs = {folder.graph, *folder.external}
    return [
        file
        for file in sorted(home.iterdir())
        if file.is_file()
        and file not in graphs
        and not file.name.startswith(".")
        and not file.name.endswith(_SKIPPED)
        and "onnx_data" not in file.name
    ]


def _point_genai(folder: Path) -> None:
    """Name the new graph in onnxruntime-genai's own configuration."""
    file = folder / "genai_config.json"
    if file.is_file():
        config = json.loads(file.read_text(encoding="utf-8"))
        decoder = (config.get("model") or {}).get("decoder")
        if isinstance(decoder, dict):
            decoder["filename"] = "model.onnx"
            file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _require_memory(folder: OnnxFolder, bits: int) -> None:
    free, needed = available_memory(), folder.n_bytes + folder.n_bytes * bits // 16
    if free is not None and needed > free:
        raise CultevError(
            f"Quantizing takes about {needed / 1e6:,.0f} MB of memory, and {free / 1e6:,.0f} MB are free.",
            "Close other programs, or do it on a larger machine: the result runs here.",
        )


@contextmanager
def quiet_logging() -> Iterator[None]:
    """Keep what libraries say through ``logging`` off the terminal, and undo how they set it up."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.disable(disabled)
