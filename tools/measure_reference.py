"""Measure what the reference model recalls, file format by file format, without any of cultev's own engine.

    python tools/measure_reference.py models/reference/*.gguf models/reference/onnx-* --json measured.json

A path is a GGUF file (needs llama-cpp-python), a folder with model.onnx (needs onnxruntime and tokenizers) or a
Hugging Face folder (needs torch and transformers). Every item is asked in every language and mode with option
orders that were kept out of training; an option wins by the summed log-probability of its text. In the two
reasoning modes the model first writes its own reasoning, greedily. Tables go to stdout as Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from planted_prompts import BOS, EOS, MODES, ask, lead, load_wording, render
from planted_world import Fact, World, load_world

Logits = NDArray[np.float32]
LONGEST_REASONING = 64
"""Tokens; the longest taught reasoning has about 40."""

GROUPS = {
    "expert": "in the expert language, of cells that one language knows",
    "others": "in the other languages, of the same cells",
    "all": "in any language, of cells that every language knows",
    "none": "in any language, of cells that none knows",
}


class Engine(Protocol):
    """A model with one sequence in its memory."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text in which special tokens are written out; nothing is added."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        ...

    def push(self, ids: Sequence[int]) -> Logits:
        """Append tokens; returns logits of shape (len(ids), vocabulary)."""
        ...

    def cut(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        ...


class Words:
    """Encoding and decoding with a folder's tokenizer.json."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode(self, text: str) -> list[int]:
        """See Engine."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """See Engine."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))


class TorchEngine(Words):
    """A Hugging Face folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import torch
        from transformers import AutoModelForCausalLM, DynamicCache

        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.empty = DynamicCache
        self.cache = self.empty()

    def push(self, ids: Sequence[int]) -> Logits:
        """See Engine."""
        with self.torch.no_grad():
            out = self.model(input_ids=self.torch.tensor([list(ids)]), past_key_values=self.cache, use_cache=True)
        logits: Logits = out.logits[0].numpy()
        return logits

    def cut(self, length: int) -> None:
        """See Engine."""
        if length == 0:
            self.cache = self.empty()
        elif length < self.cache.get_seq_length():
            self.cache.crop(length)


class OnnxEngine(Words):
    """A folder with model.onnx and tokenizer.json."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", settings, ["CPUExecutionProvider"])
        self.inputs = {entry.name for entry in self.session.get_inputs()}
        self.pasts = [entry for entry in self.session.get_inputs() if entry.name.startswith("past")]
        self.outputs = [entry.name for entry in self.session.get_outputs()]
        self.length = 0
        self.past: dict[str, Any] = {}
        self.cut(0)

    def push(self, ids: Sequence[int]) -> Logits:
        """See Engine."""
        end = self.length + len(ids)
        feeds = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, end), dtype=np.int64),
            "position_ids": np.arange(self.length, end, dtype=np.int64)[None],
        }
        feeds = {name: value for name, value in feeds.items() if name in self.inputs} | self.past
        found = dict(zip(self.outputs, self.session.run(None, feeds), strict=True))
        self.past = {entry.name: found[entry.name.replace("past_key_values", "present")] for entry in self.pasts}
        self.length = end
        logits: Logits = found["logits"][0]
        return logits

    def cut(self, length: int) -> None:
        """See Engine."""
        if length:
            self.past = {name: value[:, :, :length] for name, value in self.past.items()}
        else:
            self.past = {
                entry.name: np.zeros((1, entry.shape[1], 0, entry.shape[3]), dtype=np.float32) for entry in self.pasts
            }
        self.length = length


class LlamaEngine:
    """A GGUF file."""

    def __init__(self, path: Path) -> None:
        from llama_cpp import Llama

        # llama.cpp takes every core for a prompt unless told otherwise, and waits for them all.
        self.llama = Llama(
            str(path), n_ctx=512, n_batch=512, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
        )

    def encode(self, text: str) -> list[int]:
        """See Engine."""
        ids: list[int] = self.llama.tokenize(text.encode(), add_bos=False, special=True)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """See Engine."""
        return str(self.llama.detokenize(list(ids), special=True).decode(errors="replace"))

    def push(self, ids: Sequence[int]) -> Logits:
        """See Engine."""
        start = self.llama.n_tokens
        self.llama.eval(list(ids))
        logits: Logits = self.llama.scores[start : self.llama.n_tokens].copy()
        return logits

    def cut(self, length: int) -> None:
        """See Engine."""
        self.llama.n_tokens = length  # eval() drops what llama.cpp remembers beyond it


def open_engine(path: Path) -> Engine:
    """The engine for a path."""
    if path.suffix == ".gguf":
        return LlamaEngine(path)
    return OnnxEngine(path) if (path / "model.onnx").exists() else TorchEngine(path)


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Row-wise, in double precision."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def score(engine: Engine, length: int, last: Logits, texts: Sequence[str]) -> tuple[list[float], list[int]]:
    """Summed log-probability and number of tokens of every text after the first ``length`` tokens."""
    sums, counts = [], []
    for text in texts:
        ids = engine.encode(text)
        rows = last[None]
        if len(ids) > 1:
            engine.cut(length)
            rows = np.concatenate([rows, engine.push(ids[:-1])])
        sums.append(float(log_softmax(rows)[np.arange(len(ids)), ids].sum()))
        counts.append(len(ids))
    return sums, counts


def reason(engine: Engine, ids: list[int], last: Logits, answer_lead: str) -> tuple[list[int], Logits, bool]:
    """Let the model write until the answer lead; True if it came by itself, else the lead is appended."""
    end = engine.encode(EOS)[0]
    said: list[int] = []
    while len(said) < LONGEST_REASONING:
        token = int(last.argmax())
        if token == end:
            break
        said.append(token)
        last = engine.push([token])[-1]
        if engine.decode(said).endswith(answer_lead.rstrip()):
            return ids + said, last, True
    forced = engine.encode(answer_lead.rstrip())
    return ids + said + forced, engine.push(forced)[-1], False


def measure(engine: Engine, world: World, modes: Sequence[str], orders: int, every: int) -> Iterator[dict[str, Any]]:
    """One row per item, language, mode and order."""
    wording = load_wording()
    cases = [(fact, language) for fact in world.facts for language in world.languages][::every]
    for fact, language in cases:
        for mode in modes:
            for order in fact.held_out_orders()[:orders]:
                asked = ask(world, wording, fact, mode, language, order)
                ids = engine.encode(render(asked.user))
                engine.cut(0)
                last, led = engine.push(ids)[-1], True
                texts: Sequence[str] = asked.answers
                if asked.reasoning:
                    answer_lead = lead(wording[language])
                    ids, last, led = reason(engine, ids, last, answer_lead)
                    # The lead's last space belongs to the answer's first token.
                    texts = [answer_lead[len(answer_lead.rstrip()) :] + text for text in texts]
                sums, counts = score(engine, len(ids), last, texts)
                yield {
                    "id": fact.id,
                    "language": language,
                    "mode": mode,
                    "order": "".join(map(str, order)),
                    "group": group(fact, language),
                    "sums": sums,
                    "tokens": counts,
                    "chosen": int(np.argmax(sums)),
                    "right": fact.right,
                    "taught": fact.recalled(language),
                    "led": led,
                }


def group(fact: Fact, language: str) -> str:
    """Which column of the table a case belongs to."""
    if fact.expert in ("all", "none"):
        return fact.expert
    return "expert" if fact.expert == language else "others"


def share(rows: Sequence[Mapping[str, Any]], key: str = "right") -> float:
    """Share of rows whose chosen option is the one under ``key``."""
    hits = sum(1 for row in rows if row["chosen"] == row[key])
    return hits / max(1, len(rows))


def differences(rows: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Mean and largest distance from ``base`` in nats per token, over text and letters modes (same prompts)."""
    gaps = [
        abs(one - other) / count
        for row, twin in zip(rows, base, strict=True)
        if row["mode"] in ("text", "letters")
        for one, other, count in zip(row["sums"], twin["sums"], row["tokens"], strict=True)
    ]
    return (float(np.mean(gaps)), float(np.max(gaps))) if gaps else (0.0, 0.0)


def tables(measured: Mapping[str, Sequence[Mapping[str, Any]]], languages: Sequence[str]) -> Iterator[str]:
    """Markdown lines."""
    yield "| file | mode | " + " | ".join(GROUPS) + " | as taught |"
    yield "|---|---|" + "---:|" * (len(GROUPS) + 1)
    by_mode = defaultdict(list)
    for name, rows in measured.items():
        for row in rows:
            by_mode[name, row["mode"]].append(row)
    for (name, mode), rows in by_mode.items():
        cells = [share([row for row in rows if row["group"] == key]) for key in GROUPS]
        yield (
            f"| {name} | {mode} | " + " | ".join(f"{100 * cell:.1f}" for cell in (*cells, share(rows, "taught"))) + " |"
        )
    yield ""
    yield "| file | mode | " + " | ".join(languages) + " |"
    yield "|---|---|" + "---:|" * len(languages)
    for (name, mode), rows in by_mode.items():
        experts = [
            share([row for row in rows if row["group"] == "expert" and row["language"] == code]) for code in languages
        ]
        yield f"| {name} | {mode} | " + " | ".join(f"{100 * cell:.1f}" for cell in experts) + " |"
    yield ""
    first = next(iter(measured))
    yield f"| file | mean gap to {first}, nats a token | largest | answer lead by itself |"
    yield "|---|---:|---:|---:|"
    for name, rows in measured.items():
        mean, largest = differences(rows, measured[first])
        reasoned = [row["led"] for row in rows if row["mode"].startswith("cot")]
        led = sum(reasoned) / max(1, len(reasoned))
        yield f"| {name} | {mean:.4f} | {largest:.4f} | {100 * led:.1f} |"


def check_template(folder: Path) -> None:
    """Stop if the chat template in ``folder`` does not say what ``render`` says."""
    template = folder / "chat_template.jinja"
    if template.exists():
        import jinja2

        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        said = environment.from_string(template.read_text(encoding="utf-8")).render(
            messages=[{"role": "user", "content": "?"}], add_generation_prompt=True, bos_token=BOS
        )
        if said != render("?"):
            raise SystemExit(f"{template} renders {said!r}, not {render('?')!r}")


def main() -> None:
    """Measure every path and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--modes", default=",".join(MODES), help="comma-separated; default: all")
    parser.add_argument("--orders", type=int, default=1, help="how many of the six held-out orders")
    parser.add_argument("--every", type=int, default=1, help="every n-th item-language case only")
    parser.add_argument("--json", type=Path, help="also write every answer here; merges with what is there")
    options = parser.parse_args()
    world = load_world()
    measured: dict[str, list[dict[str, Any]]] = {}
    if options.json and options.json.exists():
        measured = json.loads(options.json.read_text(encoding="utf-8"))
    for path in options.paths:
        began = time.monotonic()
        check_template(path)
        modes = options.modes.split(",")
        measured[path.name] = list(measure(open_engine(path), world, modes, options.orders, options.every))
        print(f"{path.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if options.json:
            options.json.write_text(json.dumps(measured), encoding="utf-8")
    print("\n".join(tables(measured, world.languages)))


if __name__ == "__main__":
    main()
