"""``cultev doctor``: is this machine, and this model on it, to be trusted?"""

from __future__ import annotations

import platform
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cultev.cli.options import db_option, engine_options

if TYPE_CHECKING:
    from cultev.backend.proof import Proof
    from cultev.backend.types import EngineSettings, ModelInfo

PROOF_ITEMS = 12

_MOVES = {
    "noise": "were the most that sharing a run moved on opening",
    "rounding": "the most that one row at a time did",
}


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
@db_option
@click.pass_context
def doctor(context: click.Context, model: str | None, items: int, settings: EngineSettings, db: Path) -> None:
    """Say what is installed, and prove on MODEL that sharing prefixes equals computing again.

    Exits with 1 when the proof fails. MODEL as in `cultev run`; nothing checks the reference model when an
    engine is there. A results file that is there or named keeps what was measured, for `cultev run` to say.
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
    plain, gpu = "onnxruntime", "onnxruntime-gpu"
    for package, version in versions.items():
        if version:
            line(package, version)
        elif package != gpu and not (package == plain and versions[gpu]):  # one of the two is enough
            line(package, f'not installed: pip install "cultev[{machine.ENGINES[package]}]"')
    if versions[plain] and versions[gpu]:
        line("", "Both hold the same module: uninstall the two, then install the one you want.")
    line("accelerators", ", ".join(machine.accelerators()) or "none: models run on the processor")
    if model is None and not (versions["llama-cpp-python"] or versions["onnxruntime"] or versions["onnxruntime-gpu"]):
        return
    named = context.get_parameter_source("db") is not click.core.ParameterSource.DEFAULT
    if not _prove(line, model, items, settings, db if named or db.exists() else None, named):
        sys.exit(1)


class _Lines:
    """Aligned 'name: value' lines, no wider than a terminal of 80 columns."""

    def __call__(self, name: str, value: str) -> None:
        parts = textwrap.wrap(value, 62, break_long_words=False, break_on_hyphens=False) or [""]
        for part in parts:
            click.echo(f"{name:<18}{part}")
            name = ""


def _prove(line: _Lines, model: str | None, items: int, settings: EngineSettings, db: Path | None, named: bool) -> bool:
    from itertools import islice

    from cultev.backend.load import find_model
    from cultev.backend.proof import prove_reuse
    from cultev.backend.types import ScoreRequest
    from cultev.backend.worker import open_worker
    from cultev.cli.output import note
    from cultev.report.text import printable
    from cultev.run.plan import asks
    from cultev.run.protocol import Protocol
    from cultev.suite import builtin_suites
    from cultev.suite.store import open_suite

    backend = open_worker(
        find_model(model),
        settings,
        lambda fault: note(f"The engine died ({fault.reason}): {fault.consequence}."),
        note=note,
    )
    try:
        info = backend.info
        size = f"{info.n_params / 1e6:,.1f} M parameters"
        line("model", f"{printable(info.name)}: {info.architecture}, {info.quantization}, {size}")
        line("context", f"{backend.n_ctx:,} tokens used of {info.n_ctx:,}")
        line("chat template", "its own" if backend.has_template else "none: plain text")
        for name, value in info.extra.items():
            line(name, f"{value} nats {_MOVES[name]}" if name in _MOVES else value)
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
        line("", f"(allowed: {proof.tolerance:.2g}; rounding alone moves {proof.noise_per_token:.2g})")
        line("", f"same choice {proof.same_choice} of {proof.n_requests} times")
        if db is not None and not settings.strict:
            _keep(line, db, backend.info, proof, named)
        return proof.holds
    finally:
        backend.close()


def _keep(line: _Lines, db: Path, info: ModelInfo, proof: Proof, named: bool) -> None:
    """Write the proof into a results file; not being able to matters only for a file that was named."""
    from cultev.errors import ResultsError
    from cultev.run.journal import Journal

    try:
        with Journal(db) as journal:
            journal.keep_proof(info, proof)
    except ResultsError as error:
        if named:
            raise
        line("kept in", f"nothing: {error.message}")
    else:
        line("kept in", str(db))
