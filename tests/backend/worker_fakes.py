"""Engines for a process of their own that abort, exit, hang or print where a prompt says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cultev.backend.fake import FakeBackend, hashed
from cultev.backend.prefix import Limits
from cultev.backend.types import Continuation, EngineSettings, GenerateRequest, ScoreRequest
from cultev.errors import MissingExtra, ModelUnsupported

LIMITS = Limits(tokens=120, leaves=20)


def act(prompt: str, folder: Path) -> None:
    """Do what the prompt says; with ONCE in it, the first time only."""
    if "ONCE" in prompt:
        marker = folder / f"{prompt.encode().hex()[:80]}.done"
        if marker.exists():
            return
        marker.touch()
    if "ABORT" in prompt:
        os.write(2, b"some.cpp:1: GGML_ASSERT(false) failed\n")
        os.abort()
    if "EXIT" in prompt:
        os._exit(7)
    if "KILL" in prompt:
        os.kill(os.getpid(), signal.SIGKILL)
    if "RAISE" in prompt:
        raise ZeroDivisionError("a bug")
    if "REFUSE" in prompt:
        raise ModelUnsupported("Not with this model.", "Use another.")
    if "HANG" in prompt:
        (folder / "hangs").touch()
        time.sleep(600)
    if "SLOW" in prompt:
        time.sleep(0.002)
    if "MEMORY" in prompt:
        fill_memory()
    if "PRINT" in prompt:
        os.write(1, b"\x00garbage" * 1000)
        print("and from Python", flush=True)
        sys.stdin.read()
        subprocess.run([sys.executable, "-c", "print('from a child of the child')"], check=True)


def fill_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    held = []
    while True:
        held.append(bytearray(64 << 20))


class Acting(FakeBackend):
    """Scores as the fake does, after acting. Aborts on packs of more requests than the settings' batch allows."""

    def __init__(self, folder: Path, settings: EngineSettings) -> None:
        def judge(prompt: str, text: str) -> float:
            act(prompt, folder)
            return hashed(prompt, text)

        def write(prompt: str) -> str:
            act(prompt, folder)
            return prompt[::-1]

        super().__init__(judge, write=write, limits=LIMITS, n_ctx=settings.n_ctx or 4096)
        self.has_template = False
        self.settings = settings

    def render(self, messages):  # type: ignore[no-untyped-def]
        text = super().render(messages)
        act(text, Path())
        return text

    def score(self, requests, *, skip=()):  # type: ignore[no-untyped-def]
        def watched():  # type: ignore[no-untyped-def]
            for request in requests:
                if "BIG" in self.decode(request.prompt) and (self.settings.batch or 512) > 128:
                    self.limits = Limits(tokens=10_000)
                yield request

        start = self.on_start

        def started(keys):  # type: ignore[no-untyped-def]
            start(keys)
            if self.limits.tokens == 10_000 and len(keys) > 5:
                os.abort()

        self.on_start = started
        yield from super().score(watched(), skip=skip)


def open_acting(folder: Path, settings: EngineSettings) -> Acting:
    return Acting(folder, settings)


def open_dying(folder: Path, settings: EngineSettings) -> Acting:
    act(folder.name, folder)
    return Acting(folder, settings)


def open_large(folder: Path, settings: EngineSettings) -> Acting:
    """Takes more memory than there is unless its batches are small."""
    if (settings.batch or 512) > 256:
        os.write(2, b"std::bad_alloc\n")
        os.abort()
    return Acting(folder, settings)


def open_missing(folder: Path, settings: EngineSettings) -> Acting:
    raise MissingExtra("gguf", "A GGUF model")


def score_request(text: str) -> ScoreRequest:
    prompt = tuple(text.encode())
    options = tuple(Continuation(o, tuple(o.encode())) for o in (" yes", " no", " it depends"))
    return ScoreRequest(f"s:{text}", prompt, options)


def generate_request(text: str, max_tokens: int = 40) -> GenerateRequest:
    return GenerateRequest(f"g:{text}", tuple(text.encode()), max_tokens)


def questions(n: int, *special: str) -> list[ScoreRequest]:
    """Plain questions with some special ones strewn among them."""
    texts = [f"Question {i:04} of many" for i in range(n)]
    for i, text in enumerate(special):
        texts.insert((i + 1) * n // (len(special) + 1), f"Question {i:04} {text}")
    return [score_request(t) for t in texts]
