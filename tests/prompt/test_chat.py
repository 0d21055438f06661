"""Chat templates: the real ones' habits, and what a hostile one may not do."""

from __future__ import annotations

import pytest

from cultev.errors import ModelUnsupported
from cultev.prompt.chat import ChatTemplate, render_plain

USER = [{"role": "user", "content": "Which <bread> & why?"}]
SYSTEM = [{"role": "system", "content": "Be brief."}, *USER]

CHATML = (
    "{%- for message in messages %}\n{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "\n{%- endfor %}\n{%- if add_generation_prompt %}\n{{- '<|im_start|>assistant\\n' }}\n{%- endif %}"
)


def test_chatml() -> None:
    assert ChatTemplate(CHATML).render(USER) == (
        "<|im_start|>user\nWhich <bread> & why?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_thinking_is_asked_to_be_off() -> None:
    source = "{% if enable_thinking is defined and enable_thinking is false %}off{% else %}on{% endif %}"
    assert ChatTemplate(source).render(USER) == "off"


def test_the_clock_stands_still() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}")
    assert template.render(USER) == template.render(USER) == "01 Jan 2026"


def test_a_template_that_refuses_system_messages_gets_them_with_the_question() -> None:
    source = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{{ messages[0].content }}"
    )
    assert ChatTemplate(source).render(SYSTEM) == "Be brief.\n\nWhich <bread> & why?"


def test_special_tokens_and_tojson() -> None:
    template = ChatTemplate("{{ bos_token }}{{ messages | tojson }}{{ eos_token }}", "<s>", "</s>")
    assert template.render(USER) == '<s>[{"role": "user", "content": "Which <bread> & why?"}]</s>'


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no') }}",
        "{{ messages[5].content }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ 1 // 0 }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ 'a' * 20000000000 }}",
        "{{ 9 ** 999999999 }}",
    ],
)
def test_what_a_template_may_not_do(source: str) -> None:
    with pytest.raises(ModelUnsupported):
        ChatTemplate(source).render(USER)


def test_a_template_that_is_none() -> None:
    with pytest.raises(ModelUnsupported, match="can't be read"):
        ChatTemplate("{% if %}")


def test_plain() -> None:
    assert render_plain(SYSTEM) == "Be brief.\n\nWhich <bread> & why?"
