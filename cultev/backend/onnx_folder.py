"""What an ONNX folder holds, found out without loading the model.

A folder is what exporters write: a graph, its weights beside it, ``tokenizer.json``, ``config.json``
(or onnxruntime-genai's ``genai_config.json``) and maybe a chat template. A path may also name one graph of a
folder that holds several.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

from cultev.backend.hashes import once
from cultev.backend.onnx_edit import find_edits
from cultev.backend.onnx_head import find_head
from cultev.backend.onnx_proto import GraphFacts, read_graph
from cultev.errors import ModelDamaged, ModelNotFound, ModelUnsupported, NotAModel

_VARIANTS = ("", "_quantized", "_int8", "_uint8", "_q4", "_q4f16", "_bnb4", "_fp16")
GRAPH_NAMES = tuple(f"{stem}{variant}.onnx" for variant in _VARIANTS for stem in ("model", "decoder_model_merged"))
"""Graphs in order of preference, transformers.js's names among them: the unquantized one, then eight bits, four bits,
half precision. Each is looked for in the folder, then in its ``onnx`` folder. A path may name any other."""

_WINDOWS = ("sliding_window", "window_size", "attention_window_size", "attention_chunk_size", "local_attention")
"""What configs call the tokens that a layer sees of what came before."""

_LAYERS = ("layer_types", "attention_layers", "attention_types")
"""What they call the list of what each layer sees."""

_PARTS = {
    "encoder_model": "an encoder-decoder model",
    "vision_encoder": "a model of images and text",
    "audio_encoder": "a model of audio and text",
    "embed_tokens": "a model in parts, as multimodal ones are",
    "decoder_with_past_model": "a decoder in two graphs",
}
"""Graphs beside which a decoder can't be run alone."""

_FETCH = "Fetch or export the model again, with all its files."


@dataclass(frozen=True)
class OnnxFolder:
    """A model's files and what they say of it. Numbers are 0 and texts '' where nothing says them."""

    path: Path
    graph: Path
    external: tuple[Path, ...]
    """Files that hold the graph's weights."""
    tokenizer: Path
    config_file: Path
    config: Mapping[str, Any]
    template: str
    """The chat template's text."""
    bos: str
    """The text of the token that begins a sequence."""
    eos: str
    ends: tuple[int, ...]
    """Tokens that end the model's turn, as the configs say."""
    add_bos: bool | None
    """Whether a BOS belongs before a text; None: as tokenizer.json's post-processor does."""
    facts: GraphFacts

    @property
    def architecture(self) -> str:
        """Such as 'llama'."""
        names = self.config.get("architectures") or [""]
        return str(self.config.get("model_type") or names[0])

    @property
    def n_ctx(self) -> int:
        """The longest context, in tokens, that the model was made for."""
        return self._number("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")

    @property
    def n_vocab(self) -> int:
        """Rows of the vocabulary."""
        return self._number("vocab_size", "padded_vocab_size")

    @property
    def n_layers(self) -> int:
        """Layers of the decoder."""
        return self._number("num_hidden_layers", "n_layer", "num_layers")

    @property
    def n_heads(self) -> int:
        """Attention heads."""
        return self._number("num_attention_heads", "n_head", "num_heads")

    @property
    def n_kv_heads(self) -> int:
        """Heads of keys and values."""
        return self._number("num_key_value_heads", "num_kv_heads") or self.n_heads

    @property
    def head_dim(self) -> int:
        """Numbers per head."""
        return self._number("head_dim") or self._number("hidden_size", "n_embd") // max(1, self.n_heads)

    @property
    def n_embd(self) -> int:
        """Width of the residual stream."""
        return self._number("hidden_size", "n_embd")

    @property
    def ffn(self) -> int:
        """Width of the feed-forward layers."""
        return self._number("intermediate_size", "n_inner", "ffn_dim")

    @property
    def has_window(self) -> bool:
        """Whether some layers see a sliding window only."""
        kinds = [str(kind) for config in self._configs for key in _LAYERS for kind in config.get(key) or ()]
        if kinds:
            return any("local" in kind or not ("full" in kind or "global" in kind) for kind in kinds)
        return bool(self.window) and all(config.get("use_sliding_window") is not False for config in self._configs)

    @property
    def window(self) -> int:
        """Tokens that the narrowest sliding window sees, 0 where nothing says it."""
        found = [config.get(key) for config in self._configs for key in _WINDOWS]
        sizes = [size for value in found for size in (value if isinstance(value, list) else [value])]
        return min((size for size in sizes if _counts(size)), default=0)

    @property
    def quantization(self) -> str:
        """Type of most weights, such as 'int8'; 'unknown' rather than a guess."""
        return self.facts.quantization

    @cached_property
    def picks(self) -> bool:
        """Whether its graph can be made to compute logits only where they are read."""
        return find_edits(self.graph, [find_head]) != [None]

    @property
    def reference(self) -> bool:
        """Whether this is cultev's own reference model."""
        return self.config.get("cultev_reference") is True

    @property
    def n_bytes(self) -> int:
        """Bytes of the graph and its weights."""
        return sum(p.stat().st_size for p in (self.graph, *self.external))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all that decides an answer: graph, weights, tokenizer, template, config.

        Each part is its role's name and its bytes, both preceded by their length; parts are sorted by name.
        Where a file lies and what its folder is called don't matter.
        """
        files = {f"external/{p.name}": p for p in self.external}
        files |= {"config": self.config_file, "graph": self.graph, "tokenizer": self.tokenizer}
        specials = json.dumps([self.bos, self.eos, self.add_bos])
        texts = {"template": self.template.encode(), "specials": specials.encode()}
        if self.ends != _ends(self.config, {}, {}):  # what generation_config.json adds decides where texts end
            texts["ends"] = json.dumps(self.ends).encode()
        beside = json.dumps([sorted(files), sorted((name, text.hex()) for name, text in texts.items())]).encode()
        return once([files[name] for name in sorted(files)], lambda: _sha256(files, texts), beside)

    @property
    def _configs(self) -> list[Mapping[str, Any]]:
        """The config, and the part of it on the language model where it has others."""
        nested = self.config.get("text_config")
        return [self.config, nested] if isinstance(nested, Mapping) else [self.config]

    def _number(self, *keys: str) -> int:
        for config in self._configs:
            for key in keys:
                if _counts(value := config.get(key)):
                    return value
        return 0


def read_folder(path: str | Path) -> OnnxFolder:
    """Look into a folder, or beside a graph.

    Raises:
        ModelNotFound: there is nothing at ``path``.
        NotAModel: no graph, or several and no telling which.
        ModelUnsupported: the parts of an encoder-decoder or multimodal model.
        ModelDamaged: a file is missing, cut short or no JSON.
    """
    path = Path(path)
    try:
        graph = _find_graph(path)
        folder = path if path.is_dir() else path.parent
        if graph.parent.name == "onnx" and not (graph.parent / "tokenizer.json").is_file():
            folder = graph.parent.parent
        return _read(path, folder, graph)
    except OSError as error:
        raise ModelDamaged(
            f"{error.filename or path} can't be read: {error.strerror or error}.", "Check who may read it."
        ) from error


def _read(path: Path, folder: Path, graph: Path) -> OnnxFolder:
    try:
        facts = read_graph(graph)
    except ValueError as error:
        raise ModelDamaged(f"{graph} is no sound ONNX graph: {error}.", _FETCH) from error
    external = tuple(graph.parent / name for name in facts.external)
    for file in external:
        _require(file, f"{graph.name} keeps its weights in it")
    tokenizer = _require(folder / "tokenizer.json", "it turns text into tokens")
    config_file, config = _config(folder)
    settings = _json(folder / "tokenizer_config.json")
    specials = _json(folder / "special_tokens_map.json")
    add_bos = settings.get("add_bos_token")
    return OnnxFolder(
        path=path,
        graph=graph,
        external=external,
        tokenizer=tokenizer,
        config_file=config_file,
        config=config,
        template=_template(folder, settings),
        bos=_token(settings, specials, "bos_token"),
        eos=_token(settings, specials, "eos_token"),
        ends=_ends(config, _json(folder / "generation_config.json"), _json(folder / "genai_config.json")),
        add_bos=add_bos if isinstance(add_bos, bool) else None,
        facts=facts,
    )


def _find_graph(path: Path) -> Path:
    if not path.exists():
        raise ModelNotFound(f"There is no {path}.", "Give the path of an ONNX folder or of a .gguf file.")
    if not path.is_dir():
        if path.suffix == ".onnx":
            return path
        raise NotAModel(f"{path} is no ONNX graph.", "Give the folder that holds the .onnx file.")
    rooms = (path, path / "onnx")
    for part, what in _PARTS.items():
        if found := next((g for room in rooms for g in sorted(room.glob(f"{part}*.onnx"))), None):
            if part == "decoder_with_past_model" and any((found.parent / name).is_file() for name in GRAPH_NAMES):
                continue
            raise ModelUnsupported(
                f"{path} holds {what} ({found.name}), which can't be run here.",
                "Export it as one text-generation graph with past keys and values, or use its GGUF.",
            )
    for room in rooms:
        for name in GRAPH_NAMES:
            if (room / name).is_file():
                return room / name
    for room in rooms:
        graphs = sorted(room.glob("*.onnx")) if room.is_dir() else []
        if len(graphs) == 1:
            return graphs[0]
        if graphs:
            names = ", ".join(g.name for g in graphs)
            raise NotAModel(f"{room} holds several graphs: {names}.", f"Name one: {graphs[0]}")
    raise NotAModel(f"{path} holds no .onnx file.", "Give the folder of an exported ONNX model, or a GGUF file.")


def _counts(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _require(file: Path, why: str) -> Path:
    if not file.is_file():
        raise ModelDamaged(f"{file} is missing: {why}.", f"Put {file.name} from the model's source into {file.parent}.")
    return file


def _config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """config.json, or genai_config.json put into the same words."""
    genai = folder / "genai_config.json"
    if (folder / "config.json").is_file() or not genai.is_file():
        file = _require(folder / "config.json", "it says how the model is built")
        return file, _json(file)
    model = _json(genai).get("model")
    model = model if isinstance(model, dict) else {}
    decoder = model.get("decoder")
    decoder = decoder if isinstance(decoder, dict) else {}
    window = decoder.get("sliding_window")  # a number, or what newer builders say of it
    return genai, {
        "model_type": model.get("type"),
        "vocab_size": model.get("vocab_size"),
        "max_position_embeddings": model.get("context_length"),
        "bos_token_id": model.get("bos_token_id"),
        "head_dim": decoder.get("head_size"),
        "sliding_window": window.get("window_size") if isinstance(window, dict) else window,
        **{key: decoder.get(key) for key in ("hidden_size", "num_attention_heads", "num_key_value_heads")},
        "num_hidden_layers": decoder.get("num_hidden_layers"),
    }


def _json(file: Path) -> dict[str, Any]:
    """A JSON object; {} where there is no such file."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # bad JSON and bad UTF-8 both
        raise ModelDamaged(f"{file} is no valid JSON: {error}.", _FETCH) from error
    if not isinstance(value, dict):
        raise ModelDamaged(f"{file} holds no JSON object.", _FETCH)
    return value


def _ends(config: Mapping[str, Any], generation: Mapping[str, Any], genai: Mapping[str, Any]) -> tuple[int, ...]:
    """All ids under 'eos_token_id', a number or a list."""
    found: set[int] = set()
    for source in (config, config.get("text_config"), generation, genai.get("model")):
        value = source.get("eos_token_id") if isinstance(source, Mapping) else None
        found.update(i for i in (value if isinstance(value, list) else [value]) if type(i) is int)
    return tuple(sorted(found))


def _template(folder: Path, settings: Mapping[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ModelDamaged(f"{file} is no UTF-8 text.", _FETCH) from error
    value = settings.get("chat_template")
    if isinstance(value, list):
        named = [v for v in value if isinstance(v, dict)]
        value = next((v.get("template") for v in named if v.get("name") == "default"), "")
    return value if isinstance(value, str) else ""


def _token(settings: Mapping[str, Any], specials: Mapping[str, Any], key: str) -> str:
    value = settings.get(key) or specials.get(key)
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _sha256(files: Mapping[str, Path], texts: Mapping[str, bytes]) -> str:
    """See ``OnnxFolder.sha256``."""
    digest = hashlib.sha256()
    for name in sorted([*files, *texts]):
        size = len(texts[name]) if name in texts else files[name].stat().st_size
        digest.update(len(name.encode()).to_bytes(8, "big") + name.encode() + size.to_bytes(8, "big"))
        if name in texts:
            digest.update(texts[name])
            continue
        with files[name].open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
