"""The paper's JSON form as a way of asking: the model writes reasoning and answer, and a parser reads the answer.

For fidelity only: what can't be read is 'unparsed', and how often it can't differs from language to language, which the
log-likelihood of options after a reasoning (mode 'cot' with the options' texts) never does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from cultev.backend.types import Backend, GenerateRequest
from cultev.lsk.paper_form import FORM_VERSION, paper_form
from cultev.lsk.parse import parse
from cultev.run.plan import Ask, Wanted, longest, text_key, variants
from cultev.run.protocol import Protocol
from cultev.suite.store import Suite

MODE = "json"
"""``Protocol.mode`` of such runs."""

PROMPTS = f"form/{FORM_VERSION}"
"""``Protocol.prompts`` of such runs."""


def form_asks(suite: Suite, protocol: Protocol, backend: Backend, wanted: Wanted | None = None) -> Iterator[Ask]:
    """What a run asks, each item as a form; see ``run.plan.asks``. The budget is that of the whole reply."""
    for item, code, variant in variants(suite, protocol, wanted=wanted):
        form = paper_form(item, code, order=variant.order, asked_in=protocol.page(code))
        text = backend.render(form.messages)
        prompt = tuple(backend.encode(text if backend.has_template else f"{text}\n"))
        request = GenerateRequest(
            "", prompt, protocol.budget(code), temperature=protocol.temperature, seed=protocol.seed
        )
        request = replace(request, key=text_key(backend.info.sha256, request, protocol.strict))
        size = longest(request)
        read = partial(_option, texts=form.texts, code=code)
        yield Ask(item, code, variant, form.options, request if size <= backend.n_ctx else None, None, size, read)


def reasoning_of(reply: str, code: str) -> str:
    """The reasoning in a reply, which is what its language is told by."""
    return parse(reply, (), code).reasoning


def _option(reply: str, texts: tuple[str, ...], code: str) -> int | None:
    return parse(reply, texts, code).option
