"""Hatch build hook: builds the suites into the package, and puts the reference model into wheels.

Runs in pip's isolated build environment, where little but hatchling is installed: it loads
``cultev.suite.build`` from the source tree, which needs the standard library only (and tomli before 3.11).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What a wheel carries of models/reference: the quantized model in both formats, its card, its truth table.
REFERENCE = ("reference-Q8_0.gguf", "onnx-int8", "README.md", "truth.json")


class SuitesHook(BuildHookInterface):
    """Fills ``cultev/_data``. Hatch finds it as the one hook of this file."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before a wheel or an editable install is put together; an sdist carries sources only.

        ``version`` is 'standard' or 'editable'. An editable install reads the reference model where it lies.
        """
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        build_suites(root)
        if version == "standard":
            build_data["force_include"].update(reference_files(root))


def build_suites(root: Path) -> None:
    """Build every suites/NAME into cultev/_data/suites/NAME.db; what has no source any more goes."""
    sys.path.insert(0, str(root))
    try:
        from cultev.suite.build import build_into, source_folders
    finally:
        sys.path.remove(str(root))
    target = root / "cultev" / "_data" / "suites"
    sources = source_folders(root / "suites")
    for name, source in sources.items():
        report = build_into(source, target)
        print(
            f"suite {name} {report.version}: {report.n_items} items, {report.content_hash[:12]}",
            file=sys.stderr,
        )
    for left_over in target.glob("*.db"):
        if left_over.stem not in sources:
            left_over.unlink()


def reference_files(root: Path) -> dict[str, str]:
    """The reference model's files, as far as they exist: path here -> path in the wheel."""
    folder = root / "models" / "reference"
    found = {}
    for name in REFERENCE:
        path = folder / name
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        for file in files:
            found[str(file)] = f"cultev/_data/reference/{file.relative_to(folder).as_posix()}"
    return found
