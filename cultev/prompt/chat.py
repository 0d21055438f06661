"""A model's own chat template, rendered in a sandbox with a fixed clock.

Templates come inside model files that nobody here wrote: they run in jinja2's immutable sandbox. Some insert
today's date; a question must be the same question tomorrow, so the clock stands still here.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cultev.errors import MissingExtra, ModelUnsupported

MAX_PRODUCT = 1_000_000
"""Largest product a template may form: far above any count or width in a prompt."""

TEMPLATE_DATE = datetime.datetime(2026, 1, 1)
"""What ``strftime_now`` tells a template. Part of every protocol."""


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: jinja text, as in ``tokenizer.chat_template`` (GGUF) or ``chat_template`` (Hugging Face).
        bos_token, eos_token: their texts, for templates that write them.

    Raises:
        ModelUnsupported: the text is no valid template, or a render fails.
    """

    def __init__(self, source: str, bos_token: str = "", eos_token: str = "") -> None:
        try:
            import jinja2
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise MissingExtra("onnx", "A chat template") from error
        self.source = source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

        class Bounded(ImmutableSandboxedEnvironment):
            """No product or power of a template's may fill the memory."""

            intercepted_binops = frozenset(["*", "**"])

            def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
                sizes = [len(v) if hasattr(v, "__len__") else abs(v) for v in (left, right)]
                if (operator == "*" and sizes[0] * sizes[1] > MAX_PRODUCT) or (operator == "**" and max(sizes) > 64):
                    raise jinja2.TemplateRuntimeError("a product too large for a prompt")
                return super().call_binop(context, operator, left, right)

        environment = Bounded(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = TEMPLATE_DATE.strftime
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelUnsupported(
                f"The model's chat template can't be read: {error}.", "Ask whoever made the model file."
            ) from error

    @property
    def sha256(self) -> str:
        """SHA-256 of the template's text, in hexadecimal."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text for these messages with the assistant's turn opened.

        Models that can think aloud are asked not to (``enable_thinking=False``), so that the next token is the
        answer's first. A template that refuses a system message gets it at the head of the first user message.
        """
        try:
            return self._render(messages)
        except Exception as error:  # a stranger's program: whatever it does wrong is the template's failure
            if messages and messages[0]["role"] == "system" and len(messages) > 1:
                head, first, *rest = messages
                merged = {**first, "content": f"{head['content']}\n\n{first['content']}"}
                return self.render([merged, *rest])
            raise ModelUnsupported(
                f"The model's chat template fails on a plain question: {error}.",
                "Ask whoever made the model file.",
            ) from error

    def _render(self, messages: Sequence[Mapping[str, str]]) -> str:
        return self._template.render(
            messages=[dict(m) for m in messages],
            add_generation_prompt=True,
            enable_thinking=False,
            **self._tokens,
        )


def render_plain(messages: Sequence[Mapping[str, str]]) -> str:
    """For models without a template: the contents, one after the other."""
    return "\n\n".join(m["content"] for m in messages)


def _to_json(value: Any, indent: int | None = None) -> str:
    """Like Hugging Face's tojson: no HTML escaping."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)
