"""``cultev lsk eval``: what every way of choosing a language is worth, on the same items that none learned from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cultev.cli.lsk_session import session, tell_outcomes
from cultev.cli.lsk_show import outcome_lines
from cultev.cli.lsk_words import Words, table_words
from cultev.cli.options import db_option, table_options

if TYPE_CHECKING:
    from cultev.cli.lsk_session import Session
    from cultev.lsk.evaluate import Standing
    from cultev.lsk.study import Planted, Study
    from cultev.lsk.table import OutcomeTable


@click.command("eval")
@click.argument("model", required=False)
@table_words
@db_option
@table_options
def evaluate(model: str | None, words: Words, db: Path, as_json: bool, as_csv: bool) -> None:
    """Compare all ways of choosing a language on the items kept for the test.

    Every choice is made on the training items. What `cultev lsk fit` with the same words has asked is not asked
    again; the test items are asked in every language.
    """
    from cultev.cli.output import output_form
    from cultev.errors import UsageError
    from cultev.lsk.keep import keep_map

    form = output_form(as_json, as_csv)
    if words.held_out == 0:
        raise UsageError("Without held-out items there is nothing to test on.", "Leave --held-out at 0.5.")
    with session(model, words, db, tried=True) as at:
        training = at.learn()
        facts, found = _facts(at, training)
        keep_map(at.journal, at.make_map(training, found.gated))
    _print(facts, found, form)


def _facts(at: Session, training: OutcomeTable) -> tuple[dict[str, Any], Study]:
    """Ask the test items, try every policy, and sum up."""
    from cultev.lsk.collect import items_of
    from cultev.lsk.cultures import culture_languages
    from cultev.lsk.keep import keep_table
    from cultev.lsk.picked import ask_picked
    from cultev.lsk.study import join, planted_truth, study

    filler, words = at.filler, at.words
    filler.fill(at.test)
    testing = filler.table(at.test)
    keep_table(at.journal, filler.run.id, at.suite.content_hash, testing)
    tell_outcomes(testing, words)
    with filler.meter(len(at.test)) as advance:
        picked = ask_picked(
            filler.backend, at.suite, at.test, filler.design.languages, filler.protocol, at.journal, filler.run,
            filler.stop, advance,
        )  # fmt: skip
    table, test = join(items_of(at.items, filler.vectors), training, testing)
    found = study(
        table, test, at.maker, culture_languages(at.suite), picked, words.share, halved_already=words.halving,
        prior=at.prior,
    )  # fmt: skip
    info = filler.backend.info
    truth = planted_truth(at.suite.name, at.suite.version) if info.reference else None
    return summarise(at, found, table.take(test), training, truth), found


def summarise(
    at: Session, found: Study, testing: OutcomeTable, training: OutcomeTable, truth: Planted | None
) -> dict[str, Any]:
    """All figures, as plain values: shares between 0 and 1, None where unknown."""
    from cultev.lsk.ask import expected_full
    from cultev.lsk.languagemap import outcome_shares

    evaluation, info = found.evaluation, at.filler.backend.info
    accuracy: dict[str, float | None] = {s.policy: s.accuracy.value for s in evaluation.standings}
    best = max(s.accuracy.value for s in evaluation.standings)
    accuracy |= {"oracle": found.ceiling.oracle, "oracle-corrected": found.ceiling.told(best)}
    facts: dict[str, Any] = {
        "model": {"name": info.name, "sha256": info.sha256, "quantization": info.quantization, "format": info.format},
        "suite": {"name": at.suite.name, "version": at.suite.version, "content_hash": at.suite.content_hash},
        "run": at.filler.run.id,
        "mode": at.words.mode,
        "translate": at.words.translate,
        "languages": testing.languages,
        "n": {"training": evaluation.training, "test": evaluation.test, "counted": evaluation.counted},
        "shipped": found.gated.shipped,
        "reason": found.gated.reason,
        "accuracy": accuracy,
    }
    if truth is not None:
        languages = testing.languages
        recall, kept = truth.recall(found.gated, languages)
        accuracy["truth"] = truth.accuracy(testing)
        gated = accuracy["gated"]
        facts |= {
            "planted_recall": recall,
            "planted_english": kept,
            "oracle_gap": (accuracy["truth"] or 0.0) - (gated or 0.0),
        }
        if found.halved is not None:
            facts["planted_recall_halving"] = truth.recall(found.halved.gated, languages)[0]
    spent = int(training.tokens.sum())
    full = expected_full(training, at.filler.costs(at.training)) if at.words.halving else spent
    if found.halved is not None:
        spent = found.halved.tokens_spent
        if spent:
            facts["halving_agrees"] = found.halved.same
    facts |= {
        "tokens_full": full,
        "tokens_spent": spent,
        "tokens_share": spent / max(1, full),
        "off_language": testing.shares("off_language"),
        "outcomes": outcome_shares(testing),
        "policies": [standing_row(standing) for standing in evaluation.standings],
        "left_out": dict(found.left_out),
    }
    return facts


def standing_row(standing: Standing) -> dict[str, object]:
    """A policy's standing as plain values."""
    a, c = standing.accuracy, standing.against
    return {
        "policy": standing.policy, "accuracy": a.value, "low": a.low, "high": a.high, "n": a.n, "groups": a.groups,
        "difference": c.difference, "difference_low": c.low, "difference_high": c.high, "gained": c.gained,
        "lost": c.lost, "p": c.p, "p_holm": standing.adjusted, "test": c.method, "verdict": standing.verdict,
        "tokens": standing.tokens, "english": standing.english,
    }  # fmt: skip


def _print(facts: dict[str, Any], found: Study, form: str) -> None:
    from cultev.cli.output import Column, emit_record, emit_table

    if form == "json":
        emit_record(facts, json=True)
        return
    columns = [
        Column("policy", whole=True),
        Column("accuracy", title="right", align="right", show=lambda v: f"{100 * v:.0f} %"),
        Column("difference", title="vs en", align="right", show=_points),
        Column("range", title="95 %", align="right", whole=True),
        Column("p_holm", title="p", align="right", show=lambda v: f"{v:.2g}"),
        Column("verdict"),
        Column("tokens", align="right", show=lambda v: f"{v:.0f}"),
    ]
    rows = []
    for row in facts["policies"]:
        low, high = _points(row["difference_low"]), _points(row["difference_high"])
        rows.append(row | {"range": f"{low} to {high}" if low else ""})
    if form == "csv":
        columns = [Column(key) for key in facts["policies"][0]]
        emit_table(columns, rows, csv=True)
        return
    n, model = facts["n"], facts["model"]
    title = f"{model['name']} {model['quantization']} ({model['format']}) on {facts['suite']['name']}:"
    emit_table(columns, rows, title=f"{title} {n['test']} test items, learned from {n['training']}")
    click.echo()
    for line in _sentences(facts, found):
        click.echo(line)


def _sentences(facts: dict[str, Any], found: Study) -> list[str]:
    ceiling, corrected = found.ceiling, facts["accuracy"]["oracle-corrected"]
    lines = [
        f"Any language right: {_percent(ceiling.oracle)} of the items; guessing alone would reach"
        f" {_percent(ceiling.chance)}; corrected for that: "
        + ("can't be told." if corrected is None else f"{_percent(corrected)}."),
        f"What ships: {found.gated.shipped} ({found.gated.reason}).",
        f"Tokens: halving takes {facts['tokens_spent']:,} of {facts['tokens_full']:,}"
        f" ({100 * facts['tokens_share']:.0f} %)"
        + (
            f" and sends {100 * found.halved.same:.0f} % of the items the same way."
            if found.halved and "halving_agrees" in facts
            else "."
        ),
    ]
    if "planted_recall" in facts:
        lines.append(
            f"Planted experts found: {_percent(facts['planted_recall'])}; English kept where it is the expert or"
            f" nothing is known: {_percent(facts['planted_english'])}; behind the policy that knows the truth:"
            f" {100 * facts['oracle_gap']:.1f} points."
        )
    for name, reason in facts["left_out"].items():
        lines.append(f"Left out: {name} ({reason}).")
    lines += outcome_lines(facts["outcomes"])
    lines.append("p: exact McNemar (or sign flips of whole groups) against English, corrected for all comparisons.")
    return lines


def _points(share: float | None) -> str:
    return "" if share is None or share != share else f"{100 * share:+.0f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share == share else "unknown"
