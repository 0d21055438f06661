"""Every error that a user can meet, each with the sentence, the next step and the exit code.

::

    CultevError                    1
    ├── UsageError                 2   wrong words on the command line
    ├── MissingExtra               1   an optional engine is not installed
    ├── ModelError                 1
    │   ├── ModelNotFound              no such file or folder
    │   ├── NotAModel                  neither GGUF nor an ONNX folder
    │   ├── ModelDamaged               cut short or corrupt
    │   ├── ModelUnsupported           an architecture or graph that the engine can't run
    │   └── NotEnoughMemory            it would not fit, however small the settings
    ├── SuiteError                 1
    │   ├── SuiteNotFound              no such suite, built in or as a file
    │   ├── NotASuite                  not SQLite, or SQLite of something else
    │   ├── SuiteTooNew                written by a newer cultev
    │   ├── SuiteDamaged               fails SQLite's check or its own content hash
    │   └── SuiteSourceError           suite.toml or items.jsonl says something impossible
    ├── ResultsError               1
    │   ├── NotResults                 not SQLite, or SQLite of something else
    │   ├── ResultsTooNew              written by a newer cultev
    │   ├── ResultsDamaged             fails SQLite's check
    │   ├── ResultsBusy                another run is writing, or SQLite's lock is held
    │   ├── ResultsReadOnly            can't be written
    │   └── ResultsFull                no room on the disk
    ├── EngineError                1   the engine refused or failed while answering
    ├── JudgeError                 1   a judge can't be trusted, or can't read what it is given
    ├── TableError                 1   a CSV or XLSX file that can't be read, with the line
    ├── NoRoom                     1   the disk has too little room for what is to be written
    ├── DownloadError              1   a file could not be fetched, or is not what it should be
    └── Interrupted              130   Ctrl-C; what was answered is kept

Nothing here prints: ``cultev.cli`` shows an error and exits with its code. A traceback is a bug in cultev.
"""

from __future__ import annotations


class CultevError(Exception):
    """A failure that a user can cause or mend.

    Args:
        message: one clear sentence about what is wrong.
        next_step: one sentence or command that helps; shown on a line of its own.
    """

    exit_code = 1
    one_line = True
    """Whether the message is folded into one line: engines and SQLite speak in several."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = " ".join(message.split()) if self.one_line else message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n{self.next_step}" if self.next_step else self.message


class UsageError(CultevError):
    """Wrong words on the command line."""

    exit_code = 2


class MissingExtra(CultevError):
    """An optional engine is not installed. The next step names the pip command."""

    def __init__(self, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the '{extra}' extra, which is not installed here.",
            f'Install it: pip install "cultev[{extra}]"',
        )
        self.extra = extra


class ModelError(CultevError):
    """Something is wrong with a model file or folder."""


class ModelNotFound(ModelError):
    """There is no such file or folder."""


class NotAModel(ModelError):
    """Neither a GGUF file nor an ONNX folder."""


class ModelDamaged(ModelError):
    """Cut short or corrupt."""


class ModelUnsupported(ModelError):
    """A sound file of a kind that the engine can't run."""


class NotEnoughMemory(ModelError):
    """It would not fit into memory, however small the settings that may be chosen."""


class SuiteError(CultevError):
    """Something is wrong with a suite."""


class SuiteNotFound(SuiteError):
    """No built-in suite and no file of that name."""


class NotASuite(SuiteError):
    """Not an SQLite file, or one that holds something else."""


class SuiteTooNew(SuiteError):
    """Written by a newer cultev."""


class SuiteDamaged(SuiteError):
    """Fails SQLite's own check, or its content hash."""


class SuiteSourceError(SuiteError):
    """A suite's source says something impossible: a list of what and where."""

    one_line = False


class ResultsError(CultevError):
    """Something is wrong with the results file."""


class NotResults(ResultsError):
    """Not an SQLite file, or one that holds something else."""


class ResultsTooNew(ResultsError):
    """Written by a newer cultev."""


class ResultsDamaged(ResultsError):
    """Fails SQLite's own check."""


class ResultsBusy(ResultsError):
    """Another run is writing into it, or another program holds its lock."""


class ResultsReadOnly(ResultsError):
    """It can't be written."""


class ResultsFull(ResultsError):
    """The disk has no room left."""


class EngineError(CultevError):
    """The engine refused or failed while answering."""


class JudgeError(CultevError):
    """A judge can't be trusted with what it is asked, or can't read it."""


class TableError(CultevError):
    """A CSV or XLSX file that can't be read as what it should be."""


class NoRoom(CultevError):
    """The disk has too little room for what is to be written."""


class DownloadError(CultevError):
    """A file could not be fetched, or is not what it should be."""


class Interrupted(CultevError):
    """Ctrl-C. What was answered is kept."""

    exit_code = 130
