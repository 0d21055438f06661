"""From a run over a judge and people's sheets to a corrected rate: end to end, without a command line."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cultev.errors import UsageError
from cultev.harm.calibrate import LEAST_LABELS, calibrate, evidence
from cultev.harm.judges.base import Exchange, Label, Verdict
from cultev.harm.queue import as_text, draw, sample
from cultev.harm.replies import Reply, replies
from cultev.harm.strata import DIVIDED, Strata, strata_of
from cultev.harm.summary import judged as outcomes
from cultev.harm.summary import summarise
from cultev.harm.verdicts import JudgeId, VerdictJournal, of_run
from cultev.stats.corrected import Judged, corrected_rate
from tests.harm.test_verdicts import Reader, judged
from tests.harm.worlds import HATE, harm_run, share


class Erring(Reader):
    """Finds half of the hate, and hate in a tenth of what is fine."""

    def judge(self, exchanges: Iterable[Exchange]) -> Iterator[Verdict]:
        for exchange in exchanges:
            hate, luck = HATE in exchange.response, share(self.name + exchange.key)
            label: Label = "harmful" if (luck < 0.5 if hate else luck < 0.1) else "safe"
            yield Verdict(exchange.key, label, None, luck)


def label_as_people(db: Path, run: str, n: int, who: str = "ann") -> None:
    """People fill in the sheet, rightly."""
    with VerdictJournal(db) as journal:
        person = JudgeId.people(who)
        journal.add_judge(person)
        for drawn in draw(journal.connection, run, n):
            key = str(drawn.reply.key)
            label: Label = "harmful" if HATE in drawn.reply.response else "safe"
            journal.keep_verdicts(person, [(Verdict(key, label), drawn.reply.response_sha256, 1.0)])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[sqlite3.Connection, str, float]:
    """A judged and partly labelled run, and the share of loaded questions that really got hate."""
    db, run = harm_run(tmp_path_factory.mktemp("calibrate"), 200)
    judged(db, run, Erring("erring"))
    label_as_people(db, run, 120)
    connection = sqlite3.connect(db)
    told = [r for r in replies(connection, run) if r.loaded]
    return connection, run, sum(HATE in r.response for r in told) / len(told)


def test_the_corrected_rate_covers_and_the_raw_one_misses(place: tuple[sqlite3.Connection, str, float]) -> None:
    connection, run, truth = place
    (cell,) = calibrate(connection, run)
    assert not cell.raw.covers(truth)
    assert cell.corrected.covers(truth)
    assert cell.corrected.method == "prediction-powered"
    assert cell.judged > cell.labelled > 0
    assert cell.calibrated
    assert cell.stamp == ""
    assert 0.3 < cell.errors.sensitivity.value < 0.7
    assert cell.errors.specificity.value > 0.8
    assert cell.agreement.kappa_low < cell.agreement.kappa < cell.agreement.kappa_high
    assert cell.corrected.groups < cell.corrected.n  # two cultures' copies of a question are one group


def test_by_culture(place: tuple[sqlite3.Connection, str, float]) -> None:
    connection, run, _ = place
    cells = calibrate(connection, run, by=("culture", "language"))
    assert [c.place for c in cells] == [{"culture": c, "language": "en"} for c in ("alpha", "beta")]
    (whole,) = calibrate(connection, run)
    assert sum(c.judged for c in cells) == whole.judged
    with pytest.raises(UsageError, match="can't be told by 'colour'"):
        calibrate(connection, run, by=("colour",))


def test_twins_are_told_apart(place: tuple[sqlite3.Connection, str, float]) -> None:
    connection, run, _ = place
    (twins,) = calibrate(connection, run, loaded=False)
    (both,) = calibrate(connection, run, loaded=None)
    (told,) = calibrate(connection, run)
    assert twins.judged + told.judged == both.judged


def test_without_labels_it_is_stamped(tmp_path: Path) -> None:
    db, run = harm_run(tmp_path, 10)
    judged(db, run, Erring("erring"))
    with sqlite3.connect(db) as connection:
        (cell,) = calibrate(connection, run)
    connection.close()
    assert cell.stamp == "uncalibrated judge"
    assert (cell.corrected.low, cell.corrected.high) == (0, 1)


def test_a_label_or_two_calibrate_no_judge(tmp_path: Path) -> None:
    db, run = harm_run(tmp_path, 60)
    judged(db, run, Erring("erring"))
    with VerdictJournal(db) as journal:
        person = JudgeId.people("ann")
        journal.add_judge(person)
        told = [r for r in replies(journal.connection, run) if r.loaded and r.key]
        hate = next(r for r in told if HATE in r.response)
        fine = next(r for r in told if HATE not in r.response)
        for reply, label in ((hate, "harmful"), (fine, "safe")):
            assert reply.key
            journal.keep_verdicts(person, [(Verdict(reply.key, label), reply.response_sha256, 1.0)])  # type: ignore[arg-type]
        (cell,) = calibrate(journal.connection, run)
    assert 0 < cell.labelled <= 4
    assert not cell.enough
    assert cell.stamp == "uncalibrated judge"


def test_every_cell_needs_labels_of_its_own(tmp_path: Path) -> None:
    db, run = harm_run(tmp_path, 100)
    judged(db, run, Erring("erring"))
    with VerdictJournal(db) as journal:
        person = JudgeId.people("ann")
        journal.add_judge(person)
        for reply in replies(journal.connection, run):
            if reply.key and reply.culture == "alpha":
                label: Label = "harmful" if HATE in reply.response else "safe"
                journal.keep_verdicts(person, [(Verdict(reply.key, label), reply.response_sha256, 1.0)])
        cells = {c.place["culture"]: c for c in calibrate(journal.connection, run, by=("culture",))}
    assert cells["alpha"].stamp == ""
    assert cells["beta"].stamp == "uncalibrated judge"


def test_a_row_is_corrected_by_its_own_labels_alone(tmp_path: Path) -> None:
    """All of alpha is labelled and a few of beta: the run's labels are many enough, beta's own are not."""
    db, run = harm_run(tmp_path, 300)
    judged(db, run, Erring("erring"))
    labelled = 0
    with VerdictJournal(db) as journal:
        person = JudgeId.people("ann")
        journal.add_judge(person)
        for reply in replies(journal.connection, run):
            few = reply.culture == "beta" and reply.loaded and labelled < LEAST_LABELS // 2
            if reply.key and (reply.culture == "alpha" or few):
                labelled += few
                label: Label = "harmful" if HATE in reply.response else "safe"
                journal.keep_verdicts(person, [(Verdict(reply.key, label), reply.response_sha256, 1.0)])
        known = evidence(journal.connection, run)
        found = list(outcomes(journal.connection, run, of_run(journal.connection, run)))
    (whole,) = known.corrected(summarise(found), ())
    assert whole, "the whole has labels enough"
    rows = summarise(found, ("culture",))
    alpha, beta = known.corrected(rows, ("culture",))
    assert [row.place["culture"] for row in rows] == ["alpha", "beta"] and beta is None
    told = [one.reply for one in found if one.reply.loaded and one.reply.culture == "alpha"]
    truth = sum(HATE in reply.response for reply in told) / len(told)
    assert alpha and alpha.value == pytest.approx(truth) and alpha.low < truth < alpha.high
    assert alpha.n == len(told) and abs(rows[0].harm.value - truth) > 0.05, "the judge's own is another"
    # Any other dimension does as well, and a way of asking that nobody labelled stays the judge's opinion.
    by = ("culture", "turns")
    assert [one is not None for one in known.corrected(summarise(found, by), by)] == [True, False, False]
    others = [replace(one, reply=replace(one.reply, variant="system")) for one in found]
    assert known.corrected(summarise([*found, *others], ("variant",)), ("variant",))[1] is None


def test_people_alone_give_their_samples_rate(tmp_path: Path) -> None:
    db, run = harm_run(tmp_path, 100)
    label_as_people(db, run, 80)
    with sqlite3.connect(db) as connection:
        (cell,) = calibrate(connection, run)
        told = [r for r in replies(connection, run) if r.loaded]
    connection.close()
    assert cell.people_alone
    assert cell.stamp == ""
    assert cell.raw.n == 0
    assert cell.judged == len(told) > cell.labelled
    assert cell.corrected.covers(sum(HATE in r.response for r in told) / len(told))


def test_strict_and_loose(tmp_path: Path) -> None:
    db, run = harm_run(tmp_path, 30)

    class Unsure(Reader):
        def judge(self, exchanges: Iterable[Exchange]) -> Iterator[Verdict]:
            for v in super().judge(exchanges):
                yield replace(v, label="borderline") if v.label == "harmful" else v

    judged(db, run, Unsure())
    with sqlite3.connect(db) as connection:
        (strict,), (loose,) = (calibrate(connection, run, reading=reading) for reading in ("strict", "loose"))
    connection.close()
    assert strict.raw.value > 0.2
    assert loose.raw.value == 0


def test_the_sheet_puts_divided_replies_first_and_weights_undo_the_draw(tmp_path: Path) -> None:
    db, run = harm_run(tmp_path, 60)
    judged(db, run, Reader("one"))
    judged(db, run, Erring("two"))
    with sqlite3.connect(db) as connection:
        drawn = draw(connection, run, 40)
        everything = draw(connection, run, 10_000)
        again = draw(connection, run, 40)
        strata = strata_of(connection, run)
    connection.close()
    assert [d.reply.key for d in drawn] == [d.reply.key for d in again]
    first = [d.divided for d in drawn]
    assert any(first) and not all(first)
    assert first == sorted(first, reverse=True)
    assert len(drawn) == 40
    members = [d.reply for d in everything]
    all_weights, weights = (
        strata.weights(members, {str(d.reply.key): 1.0 for d in some}) for some in (everything, drawn)
    )
    assert set(all_weights.values()) == {1.0}
    assert sum(weights.values()) == pytest.approx(len(everything))
    assert drawn[0].row()["verdict"] == ""
    assert "two" not in str(drawn[0].row())
    assert DIVIDED not in str(drawn[0].row())


def test_rare_verdicts_are_drawn_more_densely(tmp_path: Path) -> None:
    db, run = harm_run(tmp_path, 60)
    with sqlite3.connect(db) as connection:
        held = list(replies(connection, run))
    connection.close()
    verdicts = {str(r.key): Verdict(str(r.key), "harmful" if HATE in r.response else "safe") for r in held}
    drawn = sample(held, Strata(verdicts), 24)
    harmful = sum(HATE in d.reply.response for d in drawn)
    assert harmful == 12


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\tx"])
def test_no_cell_of_the_sheet_is_a_formula(text: str) -> None:
    assert as_text(text) == "'" + text
    assert as_text("a=b") == "a=b"


REPEATED = 100
HARM = {"harmful": 1.0, "borderline": 0.0, "safe": 0.0}


def in_rounds(held: Sequence[Reply], strata: Strata, rounds: Sequence[int]) -> set[str]:
    done: set[str] = set()
    for seed, n in enumerate(rounds):
        done |= {str(d.reply.key) for d in sample(held, strata, n, seed, done=done)}
    return done


def culture_of(n: int, culture: str, reply: Reply) -> list[Reply]:
    return [replace(reply, culture=culture, key=f"{culture}-{i}") for i in range(n)]


def a_reply(tmp_path: Path) -> Reply:
    db, run = harm_run(tmp_path, 4)
    with sqlite3.connect(db) as connection:
        reply = next(r for r in replies(connection, run) if r.loaded)
    connection.close()
    return reply


@pytest.mark.parametrize("rounds", [[400], [100] * 4, [50] * 8, [50] * 16])
def test_labels_of_many_rounds_cover_the_truth(tmp_path: Path, rounds: Sequence[int]) -> None:
    """Harm is rare in most cultures and common in some: a round's own weights make the common ones count again."""
    generator = np.random.default_rng(1)
    held = [r for c in range(16) for r in culture_of(70, f"c{c:02}", a_reply(tmp_path))]
    covered, off = [], []
    for _ in range(REPEATED):
        bad = {str(r.key): generator.random() < (0.02 if r.culture < "c12" else 0.7) for r in held}
        found = {
            k: Verdict(k, "harmful" if generator.random() < (0.5 if b else 0.05) else "safe") for k, b in bad.items()
        }
        strata = Strata(found)
        weights = strata.weights(held, dict.fromkeys(in_rounds(held, strata, rounds), 1.0))
        keys = list(bad)
        human = np.array([float(bad[k]) if k in weights else math.nan for k in keys])
        data = Judged.of(
            np.array([found[k].label for k in keys]), human, None, np.array([weights.get(k, 1.0) for k in keys])
        )
        estimate, truth = corrected_rate(data, HARM), sum(bad.values()) / len(bad)
        covered.append(estimate.low <= truth <= estimate.high)
        off.append(estimate.value - truth)
    assert np.mean(covered) >= 0.93
    assert abs(np.mean(off)) < 0.01


def test_a_later_round_goes_where_labels_are_missing(tmp_path: Path) -> None:
    held = [r for c in ("alpha", "beta") for r in culture_of(40, c, a_reply(tmp_path))]
    strata = Strata({str(r.key): Verdict(str(r.key), "safe") for r in held})
    drawn = sample(held, strata, 20, done={f"alpha-{i}" for i in range(20)})
    assert {d.reply.culture for d in drawn} == {"beta"}


def test_weights_within_a_stratum(tmp_path: Path) -> None:
    """A label stands for its stratum; people's own weights count within it; a part without labels is stood for."""
    held = culture_of(40, "alpha", a_reply(tmp_path)) + culture_of(20, "beta", a_reply(tmp_path))
    found = {str(r.key): Verdict(str(r.key), "safe") for r in held}
    labelled = {"alpha-0": 1.0, "alpha-1": 1.0, "alpha-2": 2.0, "beta-0": 1.0, "elsewhere": 1.0}
    plain = Strata(found).weights(held, labelled)
    assert plain == {"alpha-0": 10, "alpha-1": 10, "alpha-2": 20, "beta-0": 20}
    # Another judge speaks of the first ten of alpha: labels from before it came are weighted by what each machine says.
    other = {f"alpha-{i}": Verdict(f"alpha-{i}", "harmful") for i in range(1, 10)} | {
        f"alpha-{i}": Verdict(f"alpha-{i}", "safe") for i in range(20, 40)
    }
    parted = Strata(found, [found, other]).weights(held, labelled)
    assert sum(parted[f"alpha-{i}"] for i in range(3)) == pytest.approx(40)
    assert parted["alpha-1"] + parted["alpha-2"] == pytest.approx(9 * 40 / 20)
    assert parted["alpha-0"] == pytest.approx(11 * 40 / 20)


def test_a_rate_is_shown_for_its_labels_and_not_for_what_it_is(tmp_path: Path) -> None:
    """A narrow interval makes up for no labels, and a row in which people find no harm is not held back."""
    db, run = harm_run(tmp_path, 200)
    judged(db, run, Erring("erring"))
    with VerdictJournal(db) as journal:
        verdicts = of_run(journal.connection, run)
        told = [r for r in replies(journal.connection, run) if r.loaded and r.key]
        found = [r for r in told if verdicts[str(r.key)].label == "harmful"]
        fine = [r for r in told if verdicts[str(r.key)].label == "safe"]
        person = JudgeId.people("ann")
        journal.add_judge(person)
        said = [(Verdict(str(r.key), "safe"), r.response_sha256, 1.0) for r in (*found[:10], *fine)]
        journal.keep_verdicts(person, said)
        (few,) = calibrate(journal.connection, run)
        assert few.corrected.high - few.corrected.low < 0.2 and not few.corrects and few.stamp
        rows = summarise(outcomes(journal.connection, run, verdicts))
        assert evidence(journal.connection, run).corrected(rows, ()) == [None]
        journal.keep_verdicts(person, [(Verdict(str(r.key), "safe"), r.response_sha256, 1.0) for r in found[:20]])
        (enough,) = calibrate(journal.connection, run)
        assert enough.corrects and not enough.calibrated, "the judge's own rate stays an opinion"
        (known,) = evidence(journal.connection, run).corrected(rows, ())
    assert known and known.value == 0 and known.low == 0 < known.high
