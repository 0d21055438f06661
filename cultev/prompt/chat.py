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
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = TEMPLATE_DATE.strftime
        self._failure = (jinja2.TemplateError, TypeError, ValueError, KeyError, OverflowError)
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
        except self._failure as error:
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
