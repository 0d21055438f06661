"""An engine in a process of its own: the same answers, and a run that outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cultev.backend.load import open_backend
from cultev.backend.proof import prove_reuse
from cultev.backend.types import (
    Continuation,
    EngineSettings,
    Fault,
    FollowUp,
    GenerateRequest,
    ScoreRequest,
    ScoreResult,
)
from cultev.backend.worker import WorkerBackend, open_worker
from cultev.backend.worker_host import LEAST_BATCH
from cultev.errors import EngineError, MissingExtra, ModelDamaged, ModelUnsupported
from tests.backend.worker_fakes import Acting, generate_request, questions, score_request
from tests.cli.command import alive, environment, wait_until

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class Opened:
    """Opens workers over the acting fake, keeps what they tell, and closes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[Fault] = []
        self.all: list[WorkerBackend] = []

    def __call__(self, opener: str = "open_acting", **settings: object) -> WorkerBackend:
        worker = WorkerBackend(
            f"tests.backend.worker_fakes:{opener}", self.folder, settings=EngineSettings(**settings),  # type: ignore[arg-type]
            name="acting", on_fault=self.faults.append,
        )  # fmt: skip
        self.all.append(worker)
        return worker


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(tmp_path)
    yield opened
    for worker in opened.all:
        worker.close()


def scored(backend: WorkerBackend | Acting, requests: list[ScoreRequest], **more: object) -> dict[str, ScoreResult]:
    return {r.key: r for batch in backend.score(requests, **more) for r in batch}  # type: ignore[arg-type]


def here(folder: Path) -> Acting:
    return Acting(folder, EngineSettings())


def test_the_same_batches_and_bits_as_in_this_process(opened: Opened, tmp_path: Path) -> None:
    requests = [score_request(f"Question {i % 37} {i}") for i in range(2500)]  # more than one window
    skip = {r.key for r in requests if int(r.key.rsplit(" ", 1)[1]) % 3}
    worker, plain = opened(), here(tmp_path)
    starts: list[list[str]] = []
    worker.on_start = lambda keys: starts.append(list(keys))
    batches = list(worker.score(iter(requests), skip=skip))
    assert batches == list(plain.score(requests, skip=skip))
    assert starts == [[r.key for r in batch] for batch in batches]
    assert not opened.faults


def test_generating_is_the_same(opened: Opened, tmp_path: Path) -> None:
    follow = FollowUp(tuple(b" so "), score_request("x").continuations)
    requests = [replace(generate_request(f"Tell me {i}"), follow_up=follow) for i in range(600)]
    skip = {requests[3].key, requests[400].key}
    worker = opened()
    assert list(worker.generate(iter(requests), skip=skip)) == list(here(tmp_path).generate(requests, skip=skip))


def test_single_calls(opened: Opened, tmp_path: Path) -> None:
    worker, plain = opened(n_ctx=100), Acting(tmp_path, EngineSettings(n_ctx=100))
    messages = [{"role": "user", "content": "Grüße"}]
    assert worker.render(messages) == plain.render(messages)
    assert worker.encode("Grüße") == plain.encode("Grüße")
    assert worker.encode_all(["a", "b"]) == plain.encode_all(["a", "b"])
    assert worker.decode([65, 66]) == "AB"
    assert worker.token_text(256) == "<s>"
    assert np.array_equal(worker.embed(["a", "bc"]), plain.embed(["a", "bc"]))
    assert worker.raw_prompt_rate() == worker.raw_decode_rate([(1,), (2,)]) == float("inf")
    assert (worker.info, worker.n_ctx, worker.has_template) == (plain.info, 100, False)


def test_requests_may_be_made_while_a_stream_runs(opened: Opened) -> None:
    """A generator of requests asks the engine itself, between batches and when it is asked for more."""
    worker = opened()

    def made() -> Iterator[ScoreRequest]:
        for i in range(3000):
            yield score_request(worker.decode(worker.encode(f"Question {i}")[1:]))

    n = 0
    for batch in worker.score(made()):
        n += len(batch)
        assert worker.token_text(65) == "A"
    assert n == 3000
    texts = worker.generate(generate_request(worker.decode([66, i % 60 + 60])) for i in range(700))
    assert sum(len(batch) for batch in texts) == 700


@pytest.mark.parametrize(
    ("word", "said", "code"),
    [
        pytest.param("ABORT", "SIGABRT: some.cpp:1: GGML_ASSERT(false) failed", 0, marks=posix),
        pytest.param("KILL", "SIGKILL, out of memory?", 0, marks=posix),
        pytest.param("MEMORY", "exit code 73, out of memory?: MemoryError", 0, marks=posix),
        ("EXIT", "exit code 7", 0),
    ],
)
def test_what_kills_twice_is_set_aside(opened: Opened, tmp_path: Path, word: str, said: str, code: int) -> None:
    worker, requests = opened(), questions(200, word)
    results = scored(worker, requests)
    (killer,) = [r.key for r in requests if word in r.key]
    assert results.keys() == {r.key for r in requests}
    assert results[killer].error.startswith(said)
    assert results[killer].scores == ()
    plain = scored(here(tmp_path), [r for r in requests if r.key != killer])
    assert {k: r for k, r in results.items() if k != killer} == plain
    first, second = opened.faults
    assert killer in first.keys and len(first.keys) > 1 and "one by one" in first.consequence
    assert second.keys == (killer,) and "engine_error" in second.consequence
    assert first.reason.startswith(said)
    assert worker.restarts == 2
    # It goes on with the next stream as if nothing had been.
    assert scored(worker, requests[:20]) == scored(here(tmp_path), requests[:20])


def test_what_kills_once_is_answered(opened: Opened, tmp_path: Path) -> None:
    results = scored(opened(), questions(200, "EXIT ONCE"))
    assert len(results) == 201
    assert not any(r.error for r in results.values())
    assert len(opened.faults) == 1


def test_several_killers(opened: Opened, tmp_path: Path) -> None:
    """Each is found, though they are neighbours in the order of computing: the engine does answer others."""
    requests = [
        *questions(300, "EXIT a", "EXIT b", "EXIT c", "EXIT d", "EXIT e"),
        score_request("A " + "long one " * 30),
    ]
    results = scored(opened(), requests)
    assert {k for k, r in results.items() if r.error} == {r.key for r in requests if "EXIT" in r.key}
    assert len(results) == 306


def test_answered_ones_in_a_dead_pack_are_not_asked_again(opened: Opened) -> None:
    """``skip`` holds after a death: what was answered before is computed with its pack only."""
    requests = questions(30, "EXIT")
    skip = {r.key for r in requests[:10]} | {requests[-1].key}
    started: list[str] = []
    worker = opened()
    worker.on_start = lambda keys: started.extend(keys) if len(keys) == 1 else None
    results = scored(worker, requests, skip=skip)
    assert results.keys() | skip == {r.key for r in requests}
    assert not skip.intersection(started)


def test_an_engine_that_dies_of_everything(opened: Opened) -> None:
    worker = opened()
    got = []
    with pytest.raises(EngineError, match="can't run acting: it died of 3 questions in a row"):
        for batch in worker.score([score_request(f"EXIT {i}") for i in range(50)]):
            got.append(batch)
    assert got == []  # no item is blamed
    assert len(opened.faults) == 3


def test_one_killer_alone_and_nothing_else(opened: Opened) -> None:
    (result,) = scored(opened(), [score_request("EXIT")]).values()
    assert result.error == "exit code 7"


def test_a_proof_on_an_engine_that_dies_says_so(opened: Opened) -> None:
    with pytest.raises(EngineError, match=r"died of a plain question, twice \(exit code 7\)"):
        prove_reuse(opened(), questions(5, "EXIT"))


def test_generating_past_a_killer(opened: Opened, tmp_path: Path) -> None:
    requests = [generate_request(f"Tell me {i}{' EXIT' * (i in (3, 301))}") for i in range(700)]
    results = {r.key: r for batch in opened().generate(iter(requests)) for r in batch}
    assert results.keys() == {r.key for r in requests}
    bad = [r for r in results.values() if r.error]
    assert [(r.finish, r.text, r.error) for r in bad] == [("error", "", "exit code 7")] * 2
    good = {r.key: r for b in here(tmp_path).generate(q for q in requests if "EXIT" not in q.key) for r in b}
    assert {k: r for k, r in results.items() if not r.error} == good


def test_batches_shrink_when_only_they_kill(opened: Opened) -> None:
    """Packs die, their questions alone do not: smaller batches are the cure."""
    worker = opened()
    results = scored(worker, [score_request(f"BIG question {i}" + "x" * 400) for i in range(100)])
    assert len(results) == 100 and not any(r.error for r in results.values())
    assert "batches are made smaller: 256 tokens" in [f.consequence for f in opened.faults]
    assert "batches are made smaller: 128 tokens" in [f.consequence for f in opened.faults]


def test_strict_batches_never_shrink(opened: Opened) -> None:
    results = scored(opened(strict=True), [score_request(f"BIG question {i}" + "x" * 400) for i in range(100)])
    assert len(results) == 100 and not any(r.error for r in results.values())
    assert not any("smaller" in f.consequence for f in opened.faults)


def test_prints_and_reads_do_not_reach_the_protocol(opened: Opened) -> None:
    results = scored(opened(), questions(50, "PRINT"))
    assert len(results) == 51 and not any(r.error for r in results.values())
    assert not opened.faults


def test_errors_cross_whole(opened: Opened) -> None:
    worker = opened()
    with pytest.raises(ModelUnsupported, match="Not with this model") as refused:
        scored(worker, questions(20, "REFUSE"))
    assert refused.value.next_step == "Use another."
    with pytest.raises(RuntimeError, match=r"(?s)worker_fakes.*ZeroDivisionError: a bug"):
        scored(worker, questions(20, "RAISE"))
    with pytest.raises(AttributeError):
        worker.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert len(scored(worker, questions(20))) == 20
    assert worker.restarts == 0


def test_errors_of_opening(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match="needs the 'gguf' extra") as missing:
        opened("open_missing")
    assert missing.value.extra == "gguf" and "pip install" in missing.value.next_step
    with pytest.raises(RuntimeError, match="no_such"):
        opened("no_such")


@pytest.mark.parametrize(("word", "kind"), [("EXIT", ModelDamaged), pytest.param("KILL", EngineError, marks=posix)])
def test_dying_while_loading(tmp_path: Path, word: str, kind: type[Exception]) -> None:
    folder = tmp_path / word
    folder.mkdir()
    told: list[Fault] = []
    with pytest.raises(kind, match=f"died while it loaded {word}"):
        WorkerBackend("tests.backend.worker_fakes:open_dying", folder, name=word, on_fault=told.append)
    assert len(told) == (word == "KILL")  # once more where memory may be the cause


@posix
def test_loading_again_with_smaller_batches(opened: Opened) -> None:
    worker = opened("open_large")
    assert len(scored(worker, questions(10))) == 10
    assert [f.consequence for f in opened.faults] == ["the model is loaded again with batches of 256 tokens"]


def test_dying_of_a_single_call(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    worker = opened()
    assert "EXIT ONCE" in worker.render([{"role": "user", "content": "EXIT ONCE"}])
    with pytest.raises(EngineError, match="died twice of one call, render"):
        worker.render([{"role": "user", "content": "EXIT"}])
    assert worker.encode("a") == [256, 97]


def test_stopping_early_brings_it_to_rest(opened: Opened) -> None:
    worker = opened()
    pid = worker.pid
    for make in (lambda: worker.score(questions(300)), lambda: worker.generate([generate_request("a b")] * 40)):
        stream = make()
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert len(scored(worker, questions(20))) == 20
    left = worker.score(questions(300))
    next(left)
    assert len(scored(worker, questions(20))) == 20  # one that was left open is given up
    with pytest.raises(RuntimeError, match="another stream"):
        next(left)
    assert (worker.pid, worker.restarts) == (pid, 0)


def test_a_consumer_that_fails_brings_it_to_rest(opened: Opened) -> None:
    worker = opened()

    def broken() -> Iterator[ScoreRequest]:
        yield score_request("one")
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(worker.score(broken()))
    with pytest.raises(OSError, match="no more"):
        list(worker.generate(r for r in map(_fails_at, range(400))))
    assert len(scored(worker, questions(20))) == 20
    assert worker.restarts == 0


def _fails_at(i: int) -> object:
    if i == 350:
        raise OSError("no more")
    return generate_request(f"Tell {i}")


@posix
def test_an_interrupt_ends_a_hanging_engine(opened: Opened, tmp_path: Path) -> None:
    worker = opened()

    def interrupt() -> None:
        while not (tmp_path / "hangs").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    pid = worker.pid
    with pytest.raises(KeyboardInterrupt):
        scored(worker, questions(30, "HANG"))
    assert not alive(pid)
    assert len(scored(worker, questions(20))) == 20
    assert not opened.faults  # it did not die by itself


@posix
def test_signals_to_the_group_leave_it_alone(opened: Opened) -> None:
    worker = opened()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(worker.pid, number)
    time.sleep(0.1)
    assert len(scored(worker, questions(20))) == 20
    assert worker.restarts == 0


ORPHAN = """
import sys
from pathlib import Path
from cultev.backend.types import EngineSettings
from cultev.backend.worker import WorkerBackend
from tests.backend.worker_fakes import questions
{before}
worker = WorkerBackend("tests.backend.worker_fakes:open_acting", Path(sys.argv[1]), settings=EngineSettings())
print(worker.pid, flush=True)
for batch in worker.score(questions(40, sys.argv[2])):
    pass
"""
WITHOUT_PRCTL = "import cultev.backend.worker_child as c; c.threading.main_thread = lambda: None"


@posix
@pytest.mark.parametrize("before", ["", WITHOUT_PRCTL])
def test_no_orphan_goes_on_when_the_parent_is_killed(tmp_path: Path, before: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ORPHAN.format(before=before), str(tmp_path), "HANG"],
        stdout=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert wait_until((tmp_path / "hangs").exists)
    assert alive(pid)
    process.kill()
    process.wait()
    process.stdout.close()
    assert wait_until(lambda: not alive(pid), 5)


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)])
@posix
def test_standard_streams_may_be_closed(tmp_path: Path, closed: tuple[int, ...]) -> None:
    code = (
        f"import os\nfor n in {closed}: os.close(n)\n"
        + ORPHAN.format(before="").replace("print(worker.pid, flush=True)", "os.write(2, b'noise')")
        + "Path(sys.argv[1], 'finished').touch()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), "PRINT"], env=environment(), timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "finished").exists()


def test_nothing_in_the_folder_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    """A user may stand in a folder with a ``types.py`` of their own."""
    for name in ("types", "pickle", "queue", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert len(scored(opened(), questions(5))) == 5


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", ["gguf", "onnx"])
def test_real_engines_give_the_same_bits(tmp_path: Path, kind: str, strict: bool) -> None:
    if kind == "gguf":
        pytest.importorskip("llama_cpp")
        from tests.backend.gguf_models import write_tiny_gguf

        path = write_tiny_gguf(tmp_path / "tiny.gguf", n_ctx=512)
    else:
        pytest.importorskip("onnxruntime")
        from tests.backend.onnx_models import make_folder

        path = make_folder(tmp_path / "tiny-onnx")
    settings = EngineSettings(threads=1, strict=strict)
    plain, worker = open_backend(path, settings), open_worker(path, settings)
    try:
        options = plain.encode_all([" yes", " no", "it depends"])
        continuations = tuple(Continuation(str(i), tuple(tokens)) for i, tokens in enumerate(options))
        prompts = [tuple(plain.encode(f"What of it is number {i % 7}, and {i}?")) for i in range(40)]
        scores = [ScoreRequest(f"s{i}", prompt, continuations) for i, prompt in enumerate(prompts)]
        follow = FollowUp(tuple(options[0]), continuations)
        texts = [GenerateRequest(f"g{i}", prompt, 6, follow_up=follow) for i, prompt in enumerate(prompts[:12])]
        assert (plain.info, plain.n_ctx, plain.parallel) == (worker.info, worker.n_ctx, worker.parallel)
        assert list(worker.score(iter(scores))) == list(plain.score(scores))
        assert list(worker.generate(iter(texts))) == list(plain.generate(texts))
        assert np.array_equal(worker.encode("x"), plain.encode("x"))
    finally:
        plain.close()
        worker.close()


@pytest.mark.parametrize("after", [0, 1, 700])
def test_requests_that_can_t_be_made_leave_a_working_engine(opened: Opened, after: int) -> None:
    """An iterable that raises, at once or when the engine asks for more, is its caller's trouble: no wait for ever."""

    def requests() -> Iterator[GenerateRequest]:
        for i in range(after):
            yield generate_request(f"r{i}")
        raise KeyError("no more")

    worker = opened()
    with pytest.raises(KeyError, match="no more"):
        list(worker.generate(requests()))
    assert [r.key for batch in worker.generate([generate_request("next")]) for r in batch] == ["g:next"]


def test_smaller_batches_mean_fewer_texts_at_once(opened: Opened) -> None:
    worker = opened(parallel=9)
    assert worker._shrink()
    assert (worker._settings.batch, worker._settings.parallel) == (256, 4)
    while worker._shrink():
        pass
    assert (worker._settings.batch, worker._settings.parallel) == (LEAST_BATCH, 1)
    unset = opened()
    assert unset._shrink() and unset._settings.parallel == 8
