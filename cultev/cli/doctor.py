"""``cultev doctor``: is this machine, and this model on it, to be trusted?"""

from __future__ import annotations

import platform
import sys

import click

from cultev.cli.options import engine_options

PROOF_ITEMS = 12


@click.command()
@click.argument("model", required=False)
@click.option(
    "--items",
    type=click.IntRange(1, 500),
    default=PROOF_ITEMS,
    show_default=True,
    help="Questions to prove prefix reuse on.",
)
@engine_options
def doctor(model: str | None, items: int, threads: int | None, n_ctx: int | None) -> None:
    """Say what is installed, and prove on MODEL that sharing prefixes equals computing again.

    Exits with 1 when the proof fails. MODEL as in `cultev run`; nothing checks the reference model when an
    engine is there.
    """  # fmt: skip
    from cultev import __version__
    from cultev.backend import machine
    from cultev.backend.memory import available_memory

    line = _Lines()
    line("cultev", __version__)
    line("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    line("processor", f"{machine.cpu_name()}, {machine.cores()} cores usable")
    line("instructions", " ".join(machine.cpu_features()) or "not told by this system")
    free = available_memory()
    line("free memory", f"{free / 1e6:,.0f} MB" if free else "not told by this system")
    versions = machine.engine_versions()
    for package, version in versions.items():
        if version or package != "onnxruntime-gpu":
            line(package, version or f'not installed: pip install "cultev[{machine.ENGINES[package]}]"')
    line("accelerators", ", ".join(machine.accelerators()) or "none: models run on the processor")
    if model is None and not (versions["llama-cpp-python"] or versions["onnxruntime"] or versions["onnxruntime-gpu"]):
        return
    if not _prove(line, model, items, threads, n_ctx):
        sys.exit(1)


class _Lines:
    """Aligned 'name: value' lines."""

    def __call__(self, name: str, value: str) -> None:
        click.echo(f"{name:<18}{value}")


def _prove(line: _Lines, model: str | None, items: int, threads: int | None, n_ctx: int | None) -> bool:
    from itertools import islice

    from cultev.backend.load import find_model, open_backend
    from cultev.backend.proof import prove_reuse
    from cultev.backend.types import EngineSettings, ScoreRequest
    from cultev.report.text import printable
    from cultev.run.plan import asks
    from cultev.run.protocol import Protocol
    from cultev.suite import builtin_suites
    from cultev.suite.store import open_suite

    backend = open_backend(find_model(model), EngineSettings(n_ctx=n_ctx, threads=threads))
    try:
        info = backend.info
        size = f"{info.n_params / 1e6:,.1f} M parameters"
        line("model", f"{printable(info.name)}: {info.architecture}, {info.quantization}, {size}")
        line("context", f"{backend.n_ctx:,} tokens used of {info.n_ctx:,}")
        line("chat template", "its own" if backend.has_template else "none: plain text")
        line("engine", ", ".join(v if k == "engine" else f"{k} {v}" for k, v in info.extra.items()))
        name = "planted" if info.reference else "norms-core"
        with open_suite(name if name in builtin_suites() else next(iter(builtin_suites()))) as suite:
            some = islice(asks(suite, Protocol(limit=items), backend), items)
            requests = [ask.request for ask in some if isinstance(ask.request, ScoreRequest)]
        if not requests:
            line("prefix reuse", "NOT PROVEN: no question fits the context")
            return False
        proof = prove_reuse(backend, requests)
        verdict = "agrees with computing again" if proof.holds else "DIFFERS from computing again"
        line("prefix reuse", f"{verdict}: {proof.n_requests} questions, {proof.n_options} options")
        line("", f"largest difference {proof.worst_per_token:.2g} nats per token, {proof.worst_total:.2g} per option")
        line("", f"(allowed: {proof.tolerance:.2g}; what else is in a batch moves {proof.noise_per_token:.2g})")
        line("", f"same choice {proof.same_choice} of {proof.n_requests} times")
        return proof.holds
    finally:
        backend.close()
