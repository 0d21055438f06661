"""The paper's parser, as its code computes it: a baseline, and the reason for another (``parse``).

Steps on the whole response first, then on what follows 'final_answer', then on that part's first line:

a. exactly one choice ('B. rice') occurs in it, as it is written;
b. or exactly one choice's letter followed by a space does;
c. or exactly one choice's text does, whatever the case;
d. if nothing was found on any of them: the choice whose embedding is nearest to the whole response's.

So every response is an answer, and step b reads any capital 'A' that is a word ('A resposta ...', 'A guest ...') as
choice A: in English, Portuguese, Spanish and Italian, and not in Chinese or Arabic. Source: the function ``extract``
and those around it in the authors' ``parse_generations_to_classify.py`` (published with arXiv 2505.14990).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cultev.lsk.paper_form import ANSWER_KEY

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> one vector each, rows of length one; such as ``Backend.embed``."""


def paper_parse(response: str, choices: Sequence[str], embed: Embed | None = None) -> int | None:
    """The choice that the paper's parser reads out of a response.

    Args:
        response: what the model wrote.
        choices: lines as shown: 'A. rice'.
        embed: for step d; without it a response that only d would decide gives None.
    """
    response = response.strip()
    parts = [response]
    at = response.find(ANSWER_KEY)
    if at >= 0:
        tail = response[at:]
        parts += [tail, tail.split("\n")[0]]
    for part in parts:
        found = _step_a(part, choices)
        if found is not None:
            return found
    if embed is None:
        return None
    vectors = embed([response, *choices])
    return int((vectors[1:] @ vectors[0]).argmax())


def _step_a(part: str, choices: Sequence[str]) -> int | None:
    found = [i for i, choice in enumerate(choices) if choice in part]
    return found[0] if len(found) == 1 else _step_b(part, choices)


def _step_b(part: str, choices: Sequence[str]) -> int | None:
    stripped = part.strip()
    found = [i for i, choice in enumerate(choices) if f"{choice[0]} " in stripped]
    return found[0] if len(found) == 1 else _step_c(part, choices)


def _step_c(part: str, choices: Sequence[str]) -> int | None:
    lowered = part.strip().lower()
    found = [i for i, choice in enumerate(choices) if choice[2:].strip().lower() in lowered]
    return found[0] if len(found) == 1 else None
