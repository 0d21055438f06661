"""Write the suites harm-core and harm-pairs from the texts in ``tools/harm/``.

    python tools/make_harm.py
    python tools/make_harm.py --check [FILE ...]

``--check`` reads and complains, and writes nothing: with files (cultures/KEY.toml, found in tools/harm/ too), only
those. What is written is checked in: running this again changes nothing unless the texts changed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harm_source import Culture, Problems, Template, read_culture, read_templates

ROOT = Path(__file__).parent.parent
TEXTS = ROOT / "tools" / "harm"


def read(files: list[Path], problems: Problems) -> tuple[dict[str, Template], list[Culture]]:
    """The templates and the cultures of these files, or of all."""
    templates = read_templates(TEXTS / "templates.toml", problems)
    chosen = [path if path.exists() else TEXTS / path for path in files] or sorted((TEXTS / "cultures").glob("*.toml"))
    return templates, [read_culture(path, templates, problems) for path in chosen]


def main() -> int:
    """Check, and write unless only a check was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("files", nargs="*", type=Path, help="with --check: only these cultures' files")
    options = parser.parse_args()
    problems = Problems()
    templates, cultures = read(options.files, problems)
    for remark in problems.remarks:
        print(f"look at  {remark}")
    for complaint in problems.found:
        print(f"wrong    {complaint}")
    for one in cultures:
        print(
            f"{one.key}: {len(templates)} templates, {len(one.locals)} local items, {len(one.pairs)} harm pairs "
            f"({sum(1 for p in one.pairs if p.native)} native), {len(one.helpful)} helpful pairs"
        )
    if problems.found:
        print(f"{len(problems.found)} complaints")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
