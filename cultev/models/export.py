"""From a Hugging Face folder to an ONNX folder with a key-value cache, by optimum, and proof that both say the same.

torch, transformers and optimum run in a process of their own, which never reaches a network and whose chatter goes
into a file that is read only when it fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cultev.backend.onnx_folder import read_folder
from cultev.errors import EngineError, MissingExtra, ModelNotFound, ModelUnsupported, NotAModel, UsageError
from cultev.models.files import require_new, require_room, whole
from cultev.models.onnx_quantize import BITS, quantize_graph, quiet_logging, save_graph

TYPES = ("fp32", "fp16", *BITS)
"""What --to takes."""

SIDE_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip
"""Taken from the source as they are: a tokenizer saved again is not always the same tokenizer."""

PROMPT = "When guests come, we take off our shoes and share bread."
"""What torch and the graph are both asked, to compare their logits."""

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class Exported:
    """How near the graph is to the original, over a short prompt."""

    prompt_tokens: int
    logits_difference: float
    """The largest difference of any logit between torch (float32) and the graph."""
    largest_logit: float
    """The largest magnitude of torch's logits, to judge the difference by."""
    same_top_token: float
    """Share of positions where both find the same token most probable."""


def export_folder(
    source: str | Path,
    target: Path,
    to: str = "fp32",
    *,
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Exported:
    """Write an ONNX folder, whole or not at all.

    Args:
        source: a folder with config.json, weights (safetensors) and tokenizer.json.
        target: the folder to write.
        to: one of ``TYPES``.
        force: replace an existing ``target``.
        say: told what goes on, a line each.

    Raises:
        MissingExtra, ModelError, UsageError, NoRoom, EngineError: see ``cultev.errors``.
    """
    to = to.lower()
    if to not in TYPES:
        raise UsageError(f"A model can't be exported as '{to}'.", f"Name one of: {', '.join(TYPES)}.")
    folder = check_source(source)
    if not all(map(importlib.util.find_spec, ("torch", "transformers", "optimum", "onnx", "onnx_ir", "onnxruntime"))):
        raise MissingExtra("export", "Exporting a model")
    require_new(target, force=force)
    weights = sum(file.stat().st_size for pattern in _WEIGHTS for file in folder.glob(pattern))
    require_room(target.parent, 4 * weights)  # float32 of bfloat16, and one copy while it is worked on
    with whole(target) as part:
        part.mkdir()
        exported = _in_own_process(folder, part, to, say)
        for name in SIDE_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, part / name)
        read_folder(part)
    return exported


def check_source(source: str | Path) -> Path:
    """The folder that ``source`` names, found to hold a model that can be exported.

    Raises:
        ModelNotFound: no such folder.
        NotAModel: no Hugging Face model in it.
    """
    folder = Path(source)
    if not folder.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
            raise ModelNotFound(
                f"There is no folder {source}; exporting never downloads.",
                f"If it is a repository, fetch it first: cultev models pull {source} '*.safetensors' '*.json'",
            )
        raise ModelNotFound(f"There is no folder {source}.", "Give the path of a downloaded Hugging Face model.")
    if not folder.is_dir() or not (folder / "config.json").is_file():
        raise NotAModel(
            f"{source} is no Hugging Face model: it is no folder with a config.json.",
            "Give the folder that holds config.json, the weights and tokenizer.json.",
        )
    if not any(file for pattern in _WEIGHTS for file in folder.glob(pattern)):
        raise NotAModel(
            f"{source} holds no weights: no .safetensors file.", "Fetch the model's .safetensors files too."
        )
    if not (folder / "tokenizer.json").is_file():
        raise NotAModel(
            f"{source} holds no tokenizer.json, which turns text into tokens.",
            "Fetch it too, or save the tokenizer as a fast one with transformers.",
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotAModel(f"{folder / 'config.json'} is no valid JSON: {error}.", "Fetch it again.") from error
    if not isinstance(config, dict) or not config.get("model_type"):
        raise NotAModel(f"{folder / 'config.json'} doesn't say what kind of model it is.", "Fetch it again.")
    return folder


def _in_own_process(folder: Path, part: Path, to: str, say: Callable[[str], None]) -> Exported:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.NamedTemporaryFile(prefix="cultev-export-", suffix=".log", delete=False) as log:
        pass
    before = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(_OFFLINE)  # the child inherits it; huggingface_hub reads it once, on import
    try:
        child = context.Process(target=_child, args=(theirs, str(folder), str(part), to, log.name), daemon=True)
        child.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
    theirs.close()
    result: Any = None
    try:
        with contextlib.suppress(EOFError):
            while True:
                message = ours.recv()
                if isinstance(message, str):
                    say(message)
                else:
                    result = message
        child.join()
        if isinstance(result, Exported):
            return result
        if isinstance(result, Exception):
            raise result
        raise EngineError(
            f"Exporting {folder} ended its process (code {child.exitcode}): it may have run out of memory.",
            "Free some memory: exporting takes about five bytes a weight and more.",
        )
    finally:
        ours.close()
        if child.is_alive():
            child.terminate()
        child.join()
        Path(log.name).unlink(missing_ok=True)


def _child(pipe: Connection, source: str, part: str, to: str, log: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C too, and ends this process
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    try:
        pipe.send(run_export(Path(source), Path(part), to, pipe.send))
    except (EngineError, ModelUnsupported) as error:
        pipe.send(error)
    except Exception as error:  # whatever torch and optimum throw: one sentence of it
        line = next((text.strip() for text in str(error).splitlines() if text.strip()), type(error).__name__)
        pipe.send(
            EngineError(f"optimum could not export {source}: {line.rstrip('.')}.", "Use the model's GGUF instead.")
        )
    pipe.close()


def run_export(source: Path, part: Path, to: str, say: Callable[[str], None]) -> Exported:
    """Export in this process: graph, conversion, comparison.

    Raises:
        ModelUnsupported: optimum can't export this architecture.
        EngineError: the graph doesn't say what the model says.
    """
    import onnx
    from optimum.exporters.onnx import main_export
    from optimum.exporters.tasks import TasksManager

    kind = json.loads((source / "config.json").read_text(encoding="utf-8"))["model_type"]
    task = "text-generation-with-past"
    try:
        known = TasksManager.get_supported_tasks_for_model_type(kind, exporter="onnx", library_name="transformers")
    except KeyError:
        known = {}
    if task not in known:
        raise ModelUnsupported(
            f"The installed optimum can't export a model of type '{kind}' that generates text.",
            "Use the model's GGUF, or a newer optimum-onnx.",
        )
    say("exporting the graph")
    scratch = part / "scratch"
    main_export(
        str(source), scratch, task=task, do_validation=False, local_files_only=True, trust_remote_code=False,
        device="cpu", dtype="fp32", library_name="transformers",
    )  # fmt: skip
    graph = scratch / "model.onnx"
    if to in BITS:
        say(f"quantizing to {to}")
        quantize_graph(graph, part / "model.onnx", BITS[to])
    else:
        model = onnx.load(str(graph))
        if to == "fp16":
            say("converting to fp16")
            model = _half(model)
        share_tied_weights(model)
        save_graph(model, part / "model.onnx")
    for name in SIDE_FILES:
        if (scratch / name).is_file():
            shutil.copyfile(scratch / name, part / name)
    shutil.rmtree(scratch)
    say("comparing with torch")
    found = compare(source, part / "model.onnx")
    # Rounding weights moves logits; a wrong graph moves them by about their own size.
    bound = {"fp32": 1e-3, "fp16": 0.02}.get(to, 1.0) * max(1.0, found.largest_logit)
    if not found.logits_difference <= bound:
        raise EngineError(
            f"The exported graph is wrong: a logit differs from torch's by {found.logits_difference:.3g} "
            f"(the largest is {found.largest_logit:.3g}).",
            "Use the model's GGUF, or another version of optimum-onnx.",
        )
    return found


def _half(model: Any) -> Any:
    """The graph with float16 weights and cache."""
    with quiet_logging():
        from onnxruntime.transformers.float16 import convert_float_to_float16

        return convert_float_to_float16(model, keep_io_types=["logits"])


def share_tied_weights(model: Any) -> None:
    """Keep one copy of matrices that stand in a graph twice, the second time transposed (tied embeddings)."""
    import numpy as np
    from onnx import helper, numpy_helper

    kept: dict[tuple[int, ...], list[tuple[str, Any]]] = {}
    for tensor in list(model.graph.initializer):
        if len(tensor.dims) != 2 or tensor.dims[0] * tensor.dims[1] < 100_000:
            continue
        values = numpy_helper.to_array(tensor)
        others = kept.get(values.shape[::-1], [])
        twin = next((name for name, other in others if np.array_equal(other.T, values)), None)
        if twin is None:
            kept.setdefault(values.shape, []).append((tensor.name, values))
            continue
        model.graph.initializer.remove(tensor)
        node = helper.make_node("Transpose", [twin], [tensor.name], name=f"{tensor.name}_tied", perm=[1, 0])
        model.graph.node.insert(0, node)


def compare(source: Path, graph: Path) -> Exported:
    """Ask torch and the graph the same prompt, the graph once as a whole and once in two steps over its cache."""
    import numpy as np
    import onnxruntime
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    ids = np.array([Tokenizer.from_file(str(source / "tokenizer.json")).encode(PROMPT).ids[:32]], dtype=np.int64)
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(source), local_files_only=True, trust_remote_code=False, dtype=torch.float32
    )
    model.eval()
    with torch.no_grad():
        wanted = model(input_ids=torch.from_numpy(ids)).logits[0].numpy()
    del model
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    cut = ids.shape[1] // 2
    whole_run, _ = _run(session, ids, {})
    first, cache = _run(session, ids[:, :cut], {})
    second, _ = _run(session, ids[:, cut:], cache)
    differences = [np.abs(whole_run - wanted).max(), np.abs(np.concatenate([first, second]) - wanted).max()]
    same = float((whole_run.argmax(-1) == wanted.argmax(-1)).mean())
    return Exported(int(ids.shape[1]), float(max(differences)), float(np.abs(wanted).max()), same)


def _run(session: Any, ids: Any, cache: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Logits of one row, and the cache after it, by the names that its inputs have."""
    import numpy as np

    past = next(iter(cache.values())).shape[2] if cache else 0
    feeds: dict[str, Any] = {}
    for port in session.get_inputs():
        if port.name == "input_ids":
            feeds[port.name] = ids
        elif port.name == "attention_mask":
            feeds[port.name] = np.ones((1, past + ids.shape[1]), dtype=np.int64)
        elif port.name == "position_ids":
            feeds[port.name] = np.arange(past, past + ids.shape[1], dtype=np.int64)[None]
        elif cache:
            feeds[port.name] = cache[port.name]
        else:
            kind = np.float16 if port.type == "tensor(float16)" else np.float32
            feeds[port.name] = np.zeros((1, port.shape[1], 0, port.shape[3]), dtype=kind)
    names = [port.name for port in session.get_outputs()]
    values = dict(zip(names, session.run(names, feeds), strict=True))
    logits = values.pop("logits")[0].astype(np.float32)
    return logits, {name.replace("present", "past_key_values"): value for name, value in values.items()}
