"""One window of questions: what is computed, what is kept, and when."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from cultev.backend.fake import FakeBackend
from cultev.backend.prefix import WINDOW
from cultev.backend.types import Continuation, ScoreRequest, ScoreResult
from cultev.errors import EngineError, Interrupted
from cultev.run.window import Request, Result, answer_window, windows


def asked(key: str) -> ScoreRequest:
    return ScoreRequest(key, (1, 2, *key.encode()), (Continuation("a", (97,)), Continuation("b", (98,))))


@dataclass(frozen=True)
class Question:
    """A question with a prior, or without one, or too long to be asked."""

    request: ScoreRequest | None
    prior: ScoreRequest | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(r.key for r in (self.request, self.prior) if r is not None)


@dataclass
class Spy(FakeBackend):
    """Computes one request a batch, and writes down which; leaves out ``mute`` and dies of ``deadly``."""

    mute: Container[str] = ()
    deadly: Container[str] = ()
    computed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def score(self, requests: Iterable[ScoreRequest], *, skip: Container[str] = ()) -> Iterator[list[ScoreResult]]:
        for request in requests:
            if request.key not in skip and request.key not in self.mute:
                self.computed.append(request.key)
                error = "died" if request.key in self.deadly else ""
                yield [ScoreResult(request.key, (), error=error)]


@dataclass
class Told:
    """What was kept and told, in order."""

    log: list[tuple[object, ...]] = field(default_factory=list)

    def keep(
        self, results: Sequence[Result], requests: Mapping[str, Request], complete: Sequence[Question], seconds: float
    ) -> None:
        assert requests.keys() >= {r.key for r in results} and seconds >= 0
        self.log.append(("kept", [r.key for r in results], [q.keys for q in complete]))

    def advance(self, answers: int, computed: int) -> None:
        self.log.append(("told", answers, computed))


FIRST, SECOND = Question(asked("one"), asked("free")), Question(asked("two"), asked("free"))


def answer(
    spy: Spy, window: Sequence[Question], todo: Sequence[Question], known: Container[str] = (),
    failed: dict[str, str] | None = None, stop: Callable[[], bool] = lambda: False,
) -> list[tuple[object, ...]]:  # fmt: skip
    told = Told()
    gone = {} if failed is None else failed
    answer_window(spy, known.__contains__, window, todo, told.keep, gone, told.advance, stop)
    return told.log


def test_an_answer_is_kept_with_what_completes_it_before_it_is_told_of() -> None:
    spy = Spy()
    log = answer(spy, [FIRST, SECOND], [FIRST, SECOND])
    assert spy.computed == ["one", "free", "two"]  # what both rest on is computed once
    assert log == [
        ("told", 0, 0),
        ("kept", ["one"], []), ("told", 0, 1),
        ("kept", ["free"], [("one", "free")]), ("told", 1, 1),
        ("kept", ["two"], [("two", "free")]), ("told", 1, 1),
    ]  # fmt: skip


def test_what_the_file_has_or_no_answer_waits_for_is_not_computed() -> None:
    spy, long = Spy(), Question(None)
    log = answer(spy, [FIRST, SECOND, long], [SECOND, long], known={"free", "two"})
    assert spy.computed == []
    assert log == [("told", 1, 0), ("kept", [], [("two", "free"), ()]), ("told", 2, 0)]


def test_what_the_engine_died_of_is_not_asked_again() -> None:
    spy, failed = Spy(deadly={"free"}), dict[str, str]()
    answer(spy, [FIRST], [FIRST], failed=failed)
    assert failed == {"free": "died"}
    log = answer(spy, [SECOND], [SECOND], failed=failed)
    assert spy.computed == ["one", "free", "two"] and log[-2] == ("kept", ["two"], [("two", "free")])


def test_an_engine_that_leaves_a_question_is_told_of() -> None:
    with pytest.raises(EngineError, match="left 1 questions"):
        answer(Spy(mute={"two"}), [FIRST, SECOND], [FIRST, SECOND])


def test_whoever_stops_it_has_what_is_kept() -> None:
    spy = Spy()
    with pytest.raises(Interrupted):
        answer(spy, [FIRST, SECOND], [FIRST, SECOND], stop=lambda: len(spy.computed) == 2)
    assert spy.computed == ["one", "free"]


def test_windows_hold_no_more_requests_than_an_engine_plans_at_once() -> None:
    sizes = [len(window) for window in windows(iter([FIRST] * (WINDOW + 1)))]
    assert sizes == [WINDOW // 2, WINDOW // 2, 1]
