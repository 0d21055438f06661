"""The suites that come with cultev: found in a wheel, built when needed in a checkout."""

from __future__ import annotations

from pathlib import Path

from cultev import locate
from cultev.errors import SuiteError, SuiteNotFound
from cultev.suite.build import build_into, is_suite_file, source_folders

# A checkout's suites are built anew when the code that builds them is newer than the built file.
_BUILDERS = ("build.py", "conversation.py", "fields.py", "item.py", "schema.py", "source.py")


def builtin_suite_sources() -> dict[str, Path]:
    """Source folders by suite name, in a checkout; empty in a wheel."""
    parent = locate.suite_sources_dir()
    return {} if parent is None else source_folders(parent)


def builtin_names() -> tuple[str, ...]:
    """Names of all built-in suites, sorted. Builds nothing."""
    if locate.checkout() is not None:
        return tuple(builtin_suite_sources())
    return tuple(sorted(path.stem for path in locate.suite_dirs()[0].glob("*.db")))


def builtin_suite(name: str) -> Path:
    """The built file of one built-in suite; a checkout builds what is absent or outdated first.

    Raises:
        SuiteNotFound: there is no built-in suite of that name.
        SuiteSourceError: its source says something impossible.
        SuiteError: there is nowhere to build it.
    """
    if name not in builtin_names():
        raise SuiteNotFound(f"There is no built-in suite named {name!r}.", f"Built in: {', '.join(builtin_names())}.")
    folders = locate.suite_dirs()
    source = builtin_suite_sources().get(name)
    if source is None:
        return folders[0] / f"{name}.db"
    for folder in folders:
        if _is_fresh(folder / f"{name}.db", source):
            return folder / f"{name}.db"
    return _build(source, folders)


def builtin_suites() -> dict[str, Path]:
    """The built files of all built-in suites, by name. Raises what ``builtin_suite`` raises."""
    return {name: builtin_suite(name) for name in builtin_names()}


def _is_fresh(built: Path, source: Path) -> bool:
    here = Path(__file__).parent
    made_of = [source / "suite.toml", source / "items.jsonl", *(here / name for name in _BUILDERS)]
    try:
        newest = max(path.stat().st_mtime_ns for path in made_of)
        return built.stat().st_mtime_ns >= newest and is_suite_file(built)
    except OSError:
        return False


def _build(source: Path, folders: tuple[Path, ...]) -> Path:
    """Build into the first folder that can be written."""
    for folder in folders[:-1]:
        try:
            return build_into(source, folder).path
        except SuiteError as error:
            if type(error) is not SuiteError:  # the source's fault: another folder won't help
                raise
    return build_into(source, folders[-1]).path
