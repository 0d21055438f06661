"""A ``Backend`` whose engine runs in a process of its own: native code may abort, and the run goes on.

When the process dies, what it was computing is computed again one by one in a new one, then the rest as before. A
request that kills a process, and alone another one, gets a result that says so. Requests reach the engine in the same
windows as in this process, so that what is computed is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cultev.backend.fit import Fitted, fit
from cultev.backend.hashes import known
from cultev.backend.prefix import windows
from cultev.backend.types import (
    EngineSettings,
    Fault,
    GenerateRequest,
    GenerateResult,
    Message,
    ModelInfo,
    ScoreRequest,
    ScoreResult,
    ignore_fault,
    ignore_start,
)
from cultev.backend.worker_child import Death, Died, EngineProcess
from cultev.backend.worker_host import HELP, EngineHost
from cultev.backend.worker_pipe import raised
from cultev.errors import EngineError

OPENER = "cultev.backend.load:open_knowing"
"""What opens an engine in its process: 'module:function', called with the arguments and the settings."""

CHUNK = 256
"""Requests that travel at once."""

HOPELESS = 3
"""Requests in a row, with nothing computed between, after which it is tried whether the engine computes anything."""

BARREN = 8
"""Deaths in a row, with nothing computed between, after which the engine is given up."""

BLAMELESS = 2
"""Batches that killed the engine although it computes each of their requests alone: the batches are too large."""

Request = TypeVar("Request", ScoreRequest, GenerateRequest)


def open_worker(
    path: Path,
    settings: EngineSettings | None = None,
    on_fault: Callable[[Fault], None] = ignore_fault,
    *,
    generate: bool = False,
    needs: Callable[[], int] | None = None,
    note: Callable[[str], None] = lambda text: None,
    fitted: Fitted | None = None,
) -> WorkerBackend:
    """Load a model with the engine for its format, into a process of its own, with settings that fit into memory.

    Args:
        path: a GGUF file or an ONNX folder.
        settings: see ``fit``.
        on_fault: see ``Backend.on_fault``.
        generate: whether texts will be generated.
        needs: see ``fit``.
        note: told what was made smaller, before the model is loaded.
        fitted: what ``fit`` said, where it was asked already.

    Raises:
        NotEnoughMemory: before anything is loaded.
        MissingExtra, ModelError, EngineError: see ``cultev.errors``.
    """
    fitted = fitted or fit(path, settings or EngineSettings(), generate=generate, needs=needs)
    for text in fitted.notes:
        note(text)
    return WorkerBackend(OPENER, path, known(), settings=fitted.settings, name=path.name, on_fault=on_fault)


class _Lost(Exception):
    """The process died with these keys in flight."""

    def __init__(self, death: Death, keys: tuple[str, ...]) -> None:
        super().__init__(death.reason)
        self.death = death
        self.keys = keys


class WorkerBackend(EngineHost):
    """Runs another ``Backend`` in a child process. One stream of results at a time; made as ``EngineHost`` is."""

    def __init__(
        self,
        opener: str,
        *arguments: Any,
        settings: EngineSettings | None = None,
        name: str = "the model",
        on_fault: Callable[[Fault], None] = ignore_fault,
    ) -> None:
        super().__init__(opener, *arguments, settings=settings, name=name, on_fault=on_fault)
        self.info: ModelInfo = self.facts[0]
        self.n_ctx: int = self.facts[1]
        self.has_template: bool = self.facts[2]
        self.parallel: int = self.facts[3]
        self.on_start: Callable[[Sequence[str]], None] = ignore_start
        self._stream: object = None
        """Stands for the stream that is open."""
        self._known: tuple[str, Any] | None = None
        """A method and a request that this engine has answered."""
        self._killers = self._barren = self._blameless = 0

    def render(self, messages: Sequence[Message]) -> str:
        """See ``Backend.render``."""
        return str(self._call("render", messages))

    def encode(self, text: str) -> list[int]:
        """See ``Backend.encode``."""
        return list(self._call("encode", text))

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """See ``Backend.encode_all``."""
        return list(self._call("encode_all", list(texts)))

    def decode(self, tokens: Sequence[int]) -> str:
        """See ``Backend.decode``."""
        return str(self._call("decode", list(tokens)))

    def token_text(self, token: int) -> str:
        """See ``Backend.token_text``."""
        return str(self._call("token_text", token))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Backend.embed``."""
        vectors: NDArray[np.float32] = self._call("embed", list(texts))
        return vectors

    def raw_prompt_rate(self, n_tokens: int = 512, read_share: float = 0.0) -> float:
        """See ``Backend.raw_prompt_rate``."""
        return float(self._call("raw_prompt_rate", n_tokens, read_share))

    def raw_decode_rate(self, prompts: Sequence[Sequence[int]], n_tokens: int = 32) -> float:
        """See ``Backend.raw_decode_rate``."""
        return float(self._call("raw_decode_rate", [tuple(p) for p in prompts], n_tokens))

    def peak_bytes(self) -> int | None:
        """See ``Backend.peak_bytes``: of the process that computes at present."""
        peak: int | None = self._call("peak_bytes")
        return peak

    # Streams of results

    def score(self, requests: Iterable[ScoreRequest], *, skip: Container[str] = ()) -> Iterator[list[ScoreResult]]:
        """See ``Backend.score``.

        Raises:
            EngineError: the engine dies of whatever it is asked.
        """
        for window in windows(requests):
            if any(r.key not in skip for r in window):
                yield from _withhold(self._score_window(window, skip))

    def generate(
        self, requests: Iterable[GenerateRequest], *, skip: Container[str] = ()
    ) -> Iterator[list[GenerateResult]]:
        """See ``Backend.generate``.

        Raises:
            EngineError: the engine dies of whatever it is asked.
        """
        yield from _withhold(self._generate(r for r in requests if r.key not in skip))

    def _score_window(self, window: Sequence[ScoreRequest], skip: Container[str]) -> Iterator[list[ScoreResult]]:
        done: set[str] = set()
        while True:
            have = {r.key for r in window if r.key in skip or r.key in done}
            if len(have) == len(window):
                return
            lost = None
            try:
                for batch in self._attempt("score", iter(window), have):
                    done.update(r.key for r in batch)
                    if self._known is None:
                        self._known = "score", next(r for r in window if r.key == batch[0].key)
                    yield batch
            except _Lost as error:
                lost = error
            if lost is None:
                return
            suspects = [r for r in window if r.key in lost.keys and r.key not in have and r.key not in done]
            for batch in self._one_by_one("score", suspects, lost):
                done.update(r.key for r in batch)
                yield batch

    def _generate(self, requests: Iterator[GenerateRequest]) -> Iterator[list[GenerateResult]]:
        given: dict[str, GenerateRequest] = {}
        """What a process was given and has not answered."""

        def remembered(source: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
            for request in source:
                given[request.key] = request
                yield request

        again: list[GenerateRequest] = []
        while True:
            lost = None
            try:
                for batch in self._attempt("generate", remembered(chain(again, requests)), ()):
                    for result in batch:
                        request = given.pop(result.key, None)
                        self._known = self._known or ("generate", request)
                    yield batch
            except _Lost as error:
                lost = error
            if lost is None:
                return
            suspects = [given.pop(key) for key in lost.keys if key in given]
            yield from self._one_by_one("generate", suspects, lost)
            again = list(given.values())
            given.clear()

    def _attempt(self, method: str, source: Iterator[Any], skip: Container[str]) -> Iterator[list[Any]]:
        """One stream through the present process.

        Raises:
            _Lost: the process died; everything that it had answered has been yielded.
        """
        if self._stream is not None and not self._process.ended:
            _bring_to_rest(self._process)  # a stream that somebody left without closing it
        first = _chunk(source, skip)  # may fail, as any stranger's iterable: before the process waits for anything
        self._stream = stream = object()
        process = self._living()
        flight: dict[str, None] = {}
        ended = False
        try:
            process.send("stream", method, *first)
            while True:
                kind, *rest = message = process.receive()
                if kind == "results":
                    for result in rest[0]:
                        flight.pop(result.key, None)
                    self._killers = self._barren = 0
                    yield rest[0]
                    if self._stream is not stream:
                        raise RuntimeError("another stream of results has begun")
                    process.send("next")
                elif kind == "started":
                    flight.update(dict.fromkeys(rest[0]))
                    self.on_start(rest[0])
                elif kind == "more":
                    chunk = _chunk(source, skip)
                    if self._stream is not stream:
                        raise RuntimeError("another stream of results has begun")
                    process.send("requests", *chunk)
                elif kind == "done":
                    ended = True
                    return
                else:
                    ended = True
                    raise raised(message)
        except Died as died:
            ended = True
            raise _Lost(died.death, tuple(flight)) from None
        except KeyboardInterrupt:
            ended = True
            process.kill()  # at once means at once: it may be far from the end of its batch, or hang
            raise
        finally:
            if self._stream is stream:
                self._stream = None
                if not ended:
                    _bring_to_rest(process)

    # After a death

    def _one_by_one(self, method: str, suspects: Sequence[Request], lost: _Lost) -> Iterator[list[Any]]:
        """Compute again what was in flight when the process died, each request alone."""
        many = len(suspects) > 1
        alone = "it is started again" if not suspects else "they are asked one by one" if many else "it is asked again"
        self._bear(lost, alone)
        killers = self._killers
        for request in suspects:
            yield from self._alone(method, request)
        if many and self._killers == killers:
            self._blameless += 1
            if self._blameless >= BLAMELESS and self._shrink():
                self._blameless = 0
                self._process.close()
                text = f"batches are made smaller: {self._settings.batch} tokens"
                self.on_fault(Fault("large batches killed it, their questions alone did not", (), text))

    def _alone(self, method: str, request: Request) -> Iterator[list[Any]]:
        """One request that a process died with: its answer, or, if it kills another one alone, its error."""
        answered = False
        while not answered:
            lost = None
            try:
                for batch in self._attempt(method, iter([request]), ()):
                    answered = True
                    yield batch
            except _Lost as error:
                lost = error
            if lost is None or answered:
                return
            if request.key not in lost.keys:
                self._bear(lost, "it is started again")
                continue
            answered = True
            self._killers += 1
            if self._killers >= HOPELESS and not self._computes_anything():
                raise EngineError(
                    f"The engine can't run {self._name}: it died of {self._killers} questions in a row, each alone"
                    f" ({lost.death.reason}).",
                    HELP,
                )
            self._bear(lost, "for the second time, so this is set aside as engine_error")
            yield [_failure(method, request.key, lost.death.reason)]

    def _computes_anything(self) -> bool:
        """Whether the engine answers what it has answered before: neighbours may share what kills it."""
        if self._known is None:
            return False
        method, request = self._known
        try:
            for _ in self._attempt(method, iter([request]), ()):
                pass
        except _Lost:
            return False
        return True

    def _bear(self, lost: _Lost, consequence: str) -> None:
        """Tell of a death, unless there were too many with nothing between."""
        self._barren += 1
        if self._barren >= BARREN:
            raise EngineError(f"The engine died {self._barren} times in a row ({lost.death.reason}).", HELP)
        self.on_fault(Fault(lost.death.reason, lost.keys, consequence))


def _chunk(source: Iterator[Any], skip: Container[str]) -> tuple[list[Any], list[str], bool]:
    """The next requests, the keys among them that need no answer, and whether these are the last."""
    requests = list(islice(source, CHUNK))
    return requests, [r.key for r in requests if r.key in skip], len(requests) < CHUNK


def _bring_to_rest(process: EngineProcess) -> None:
    """Let a process finish the batch at hand and forget its stream."""
    try:
        process.send("stop")
        while process.receive()[0] not in ("done", "error", "bug"):
            pass
    except Died:
        pass
    except BaseException:
        process.kill()
        raise


def _failure(method: str, key: str, reason: str) -> ScoreResult | GenerateResult:
    if method == "score":
        return ScoreResult(key, (), error=reason)
    return GenerateResult(key, "", (), "error", error=reason)


def _withhold(batches: Iterator[list[Any]]) -> Iterator[list[Any]]:
    """Keep errors back until something is computed after them: an engine that dies of everything blames no item."""
    errors: list[Any] = []
    for batch in batches:
        if all(result.error for result in batch):
            errors.extend(batch)
            continue
        if errors:
            yield errors
            errors = []
        yield batch
    if errors:
        yield errors
