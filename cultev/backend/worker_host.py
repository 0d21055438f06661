"""A process with an engine in it, started again whenever it has died: opening, single calls, smaller batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cultev.backend.prefix import Limits
from cultev.backend.types import EngineSettings, Fault, ignore_fault
from cultev.backend.worker_child import Death, Died, EngineProcess
from cultev.backend.worker_pipe import raised
from cultev.errors import EngineError, ModelDamaged

LEAST_BATCH = 64
"""Tokens below which batches are not made smaller."""

HELP = "Run `cultev doctor` on this model; a smaller model, another quantization or a newer engine may help."
"""The next step where an engine dies again and again."""


class EngineHost:
    """Keeps one engine in a child process.

    ``facts`` is what the child told of the engine: info, n_ctx, has_template, parallel.

    Args:
        opener: 'module:function', called in the child with ``arguments`` and the settings.
        arguments: anything that can be pickled.
        settings: passed on; ``batch`` is made smaller when the engine's memory does not suffice.
        name: the model's, for messages.
        on_fault: see ``Backend.on_fault``.

    Raises:
        CultevError: what the child's constructor raises, as it is.
        ModelDamaged, EngineError: the child died while it loaded the model.
    """

    def __init__(
        self,
        opener: str,
        *arguments: Any,
        settings: EngineSettings | None = None,
        name: str = "the model",
        on_fault: Callable[[Fault], None] = ignore_fault,
    ) -> None:
        self.on_fault = on_fault
        self.restarts = 0
        """Processes that were started in the place of dead ones."""
        self._opener, self._arguments, self._name = opener, arguments, name
        self._settings = settings or EngineSettings()
        self._closed = False
        self._process, self.facts = self._start()
        # What fits the context must not change when memory has become scarcer.
        self._settings = replace(self._settings, n_ctx=self.facts[1])

    @property
    def pid(self) -> int:
        """The process that computes at present (or did until it died)."""
        return self._process.pid

    def _start(self) -> tuple[EngineProcess, list[Any]]:
        """A new process with the model loaded; with smaller batches if memory seems to have killed the first."""
        retried = False
        while True:
            process = EngineProcess()
            try:
                kind, *rest = message = process.open(self._opener, (*self._arguments, self._settings))
            except Died as died:
                if died.death.memory and not retried:
                    retried = True
                    smaller = f" with batches of {self._settings.batch} tokens" if self._shrink() else ""
                    text = f"the model is loaded again{smaller}"
                    self.on_fault(Fault(f"{died.death.reason}, while loading", (), text))
                    continue
                raise self._cannot_load(died.death) from None
            except BaseException:
                process.kill()
                raise
            if kind != "opened":
                process.close()
                raise raised(message)
            return process, rest

    def _cannot_load(self, death: Death) -> EngineError | ModelDamaged:
        said = f"The engine died while it loaded {self._name} ({death.reason})."
        if death.memory:
            return EngineError(said, "Free some memory, or use a smaller model, quantization or --n-ctx.")
        return ModelDamaged(said, "Compare the model's size and checksum with the place it came from.")

    def _shrink(self) -> bool:
        """Halve what is computed at once; False when it is small already, or fixed."""
        batch = self._settings.batch or Limits().tokens
        if batch <= LEAST_BATCH or self._settings.strict:
            return False
        parallel = max(1, (self._settings.parallel or 16) // 2)
        self._settings = replace(self._settings, batch=max(LEAST_BATCH, batch // 2), parallel=parallel)
        return True

    def _living(self) -> EngineProcess:
        if self._closed:
            raise RuntimeError("the engine is closed")
        if self._process.ended:
            self._process, _ = self._start()
            self.restarts += 1
        return self._process

    def close(self) -> None:
        """End the process."""
        self._closed = True
        self._process.close()

    def _call(self, name: str, *arguments: Any) -> Any:
        """A method's value; asked once more when the process dies over it."""
        for attempt in range(2):
            process = self._living()
            try:
                process.send("call", name, arguments)
                message = process.receive()
            except Died as died:
                death = died.death
                if attempt == 0:
                    self.on_fault(Fault(death.reason, (), f"it is started again ({name})"))
            except BaseException:
                process.kill()  # an answer that nobody waits for would be taken for the next one's
                raise
            else:
                if message[0] != "value":
                    raise raised(message)
                return message[1]
        raise EngineError(f"The engine died twice of one call, {name} ({death.reason}).", HELP)
