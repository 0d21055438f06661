"""Where the package's own data lies: in an installed wheel, or in a checkout.

A wheel carries everything under ``cultev/_data``: built suites in ``suites/``, the reference model in
``reference/``. A checkout (also one installed with ``pip install -e``) has the suites' sources in ``suites/``
and the reference model in ``models/reference/`` at its top; its ``cultev/_data`` holds built suites only,
which ``cultev.suite.builtin`` builds.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from cultev.errors import ModelNotFound, UsageError

_PACKAGE = Path(__file__).resolve().parent

REFERENCE_MODELS = {"gguf": "reference-Q8_0.gguf", "onnx": "onnx-int8"}
"""The reference model's name by format, as wheels carry it: a GGUF file and an ONNX folder."""


def data_dir() -> Path:
    """``cultev/_data``, whether or not it exists."""
    return _PACKAGE / "_data"


def checkout() -> Path | None:
    """The top of the checkout that cultev runs from, or None where it is installed from a wheel."""
    top = _PACKAGE.parent
    # Both: site-packages can hold a stranger's tools/, and an unpacked wheel a stranger's pyproject.toml.
    found = (top / "pyproject.toml").is_file() and (top / "tools" / "hatch_build.py").is_file()
    return top if found else None


def suite_sources_dir() -> Path | None:
    """The folder of the built-in suites' sources, in a checkout."""
    top = checkout()
    return None if top is None else top / "suites"


def suite_dirs() -> tuple[Path, ...]:
    """Folders that can hold built suites, best first.

    A checkout that can't be written falls back on a folder of its own in the user's cache.
    """
    first = data_dir() / "suites"
    top = checkout()
    if top is None:
        return (first,)
    apart = hashlib.sha256(os.fsencode(top)).hexdigest()[:16]
    return first, user_cache_dir() / "suites" / apart


def user_cache_dir() -> Path:
    """Where this system keeps what a program can make again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path("~/AppData/Local").expanduser())
    elif sys.platform == "darwin":
        base = str(Path("~/Library/Caches").expanduser())
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(base) / "cultev"


def reference_dir() -> Path:
    """The folder of the reference model, its card (README.md) and its truth table (truth.json).

    Raises:
        ModelNotFound: this installation has none.
    """
    top = checkout()
    folder = data_dir() / "reference" if top is None else top / "models" / "reference"
    if folder.is_dir():
        return folder
    raise _no_reference(folder)


def reference_file(name: str) -> Path:
    """One file or folder of the reference model, such as 'truth.json'.

    Raises:
        ModelNotFound: this installation has none. A wheel carries fewer of them than a checkout.
    """
    path = reference_dir() / name
    if path.exists():
        return path
    raise _no_reference(path)


def reference_model(format: str = "onnx") -> Path:
    """The reference model in one format: 'gguf' (a file, Q8_0) or 'onnx' (a folder, int8).

    Raises:
        ModelNotFound: this installation has none.
        UsageError: another format.
    """
    if format not in REFERENCE_MODELS:
        raise UsageError(f"The reference model comes as {' or '.join(REFERENCE_MODELS)}, not as {format!r}.")
    return reference_file(REFERENCE_MODELS[format])


def _no_reference(missing: Path) -> ModelNotFound:
    if checkout() is None:
        step = "Install cultev again from a complete wheel, or name a model of your own: cultev run MODEL"
    else:
        step = "Make it (tools/train_reference.py, tools/export_reference.py), or name a model: cultev run MODEL"
    return ModelNotFound(f"The reference model is not complete here: there is no {missing}.", step)
