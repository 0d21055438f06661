"""Is the memory plan true? Each model's plan beside the peak of a process that scores and generates with it.

    python tools/bench_plan.py MODEL... [--n-ctx 1024] [--no-generate] [--json]

For each model, in a process of its own (the engine's, as a worker's would be): loads it, scores packs that fill the
limits and a prompt of the whole context, generates with all sequences, and reads the process's peak resident memory
(VmHWM, Linux) after each stage. Prints MB: the plan by its parts, what was reached after each stage, and plan / peak.
What a model says is never looked at: random weights will do.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parent.parent))

from cultev.backend.types import Backend, Continuation, EngineSettings, GenerateRequest, ScoreRequest

STAGES = ("start", "load", "score", "generate")
PARTS = ("process", "weights", "kv_cache", "logits", "working")


def peak() -> int:
    """The process's peak resident memory in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return int(found[1]) * 1024


def score_all(backend: Backend, n_ctx: int) -> None:
    """Packs of tokens that later rows continue, of positions read, of rows after a long prefix, of long answers."""
    source, n_vocab = random.Random(0), backend.info.n_vocab

    def tokens(n: int) -> tuple[int, ...]:
        return tuple(source.randrange(3, n_vocab) for _ in range(n))

    def request(prompt: tuple[int, ...], n: int, length: int) -> ScoreRequest:
        return ScoreRequest(str(source.random()), prompt, tuple(Continuation("x", tokens(length)) for _ in range(n)))

    trunk = tokens(min(64, n_ctx // 4))
    long, longest = tokens(n_ctx - 24), tokens(n_ctx - 6)
    rounds = (
        [request(trunk + tokens(24), 4, 8) for _ in range(20)],
        [request(trunk + tokens(4), 4, min(64, n_ctx // 4)) for _ in range(2)],
        [request(tokens(n_ctx // 4), 4, 4) for _ in range(max(2, 4_096 // n_ctx))],
        [request(long + tokens(8), 4, 6) for _ in range(72)],
        [request(longest + tokens(1), 1, 4) for _ in range(72)],  # no room for two of them in one row
        [request(tokens(n_ctx - 12), 4, 8)],
        [request(tokens(n_ctx // 8), 4, n_ctx // 2)],
    )
    for requests in rounds:
        for _ in backend.score(requests):
            pass


def generate_all(backend: Backend, n_ctx: int) -> None:
    """More texts than grow at once, on a prefix that leaves them little more than their own tokens."""
    source, n_vocab = random.Random(1), backend.info.n_vocab

    def tokens(n: int) -> tuple[int, ...]:
        return tuple(source.randrange(3, n_vocab) for _ in range(n))

    long = tokens(n_ctx - 24)
    requests = [GenerateRequest(str(i), long + tokens(8), 8) for i in range(24)]
    for _ in backend.generate(requests):
        pass


def measure(model: Path, settings: EngineSettings, generate: bool) -> Iterator[tuple[str, int]]:
    """In the measured process: (stage, peak in bytes)."""
    from cultev.backend.load import model_format, open_backend

    if model_format(model) == "onnx":
        engines = ("onnxruntime", "tokenizers", "cultev.backend.onnx")
    else:
        engines = ("llama_cpp", "cultev.backend.llama")
    for name in engines:
        importlib.import_module(name)
    yield "start", peak()
    backend = open_backend(model, settings)
    yield "load", peak()
    score_all(backend, backend.n_ctx)
    yield "score", peak()
    if generate:
        generate_all(backend, backend.n_ctx)
        yield "generate", peak()
    backend.close()


def compare(model: Path, settings: EngineSettings, generate: bool = True) -> dict[str, dict[str, int]]:
    """The plan's parts and the peaks of a process of its own, in bytes."""
    from cultev.backend.fit import fit

    fitted = fit(model, settings, generate=generate)
    words = {**asdict(fitted.settings), "model": str(model), "generate": generate}
    done = subprocess.run(
        [sys.executable, __file__, "--measure", json.dumps(words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{model}: {done.stderr[-2000:]}")
    peaks = json.loads(done.stdout)
    return {"plan": {**{part: getattr(fitted.plan, part) for part in PARTS}, "total": fitted.plan.total}, "peak": peaks}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL")
    parser.add_argument("--n-ctx", type=int)
    parser.add_argument("--parallel", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-generate", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        words = json.loads(args.measure)
        model, generate = Path(words.pop("model")), words.pop("generate")
        print(json.dumps(dict(measure(model, EngineSettings(**words), generate))))
        return
    settings = EngineSettings(n_ctx=args.n_ctx, parallel=args.parallel, threads=args.threads)
    if not args.json:
        heads = [*PARTS, "plan", *STAGES, "plan/peak"]
        print(f"{'model':<36}" + "".join(f"{head.replace('_', ' '):>10}" for head in heads))
    for model in args.models:
        found = compare(model, settings, not args.no_generate)
        if args.json:
            print(json.dumps({"model": model.name, **found}), flush=True)
            continue
        plan, peaks = found["plan"], found["peak"]
        figures = [*plan.values(), *(peaks.get(stage, 0) for stage in STAGES)]
        ratio = plan["total"] / max(peaks.values())
        print(f"{model.name[:35]:<36}" + "".join(f"{n / 1e6:>10.1f}" for n in figures) + f"{ratio:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
