"""The judges' part of the results file: one migration of ``cultev.run.schema``."""

from __future__ import annotations

VERDICTS = """
    CREATE TABLE judges (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, prompt_sha256 TEXT NOT NULL, model TEXT NOT NULL,
        model_name TEXT NOT NULL, quantization TEXT NOT NULL, self_test TEXT NOT NULL, cultev TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE verdicts (
        judge TEXT NOT NULL REFERENCES judges(id), key TEXT NOT NULL REFERENCES responses(key),
        response_sha256 TEXT NOT NULL, label TEXT NOT NULL, refusal INTEGER, p_unsafe REAL, raw TEXT NOT NULL,
        weight REAL NOT NULL, judged_at TEXT NOT NULL, PRIMARY KEY (judge, key)
    ) WITHOUT ROWID;
    CREATE INDEX verdicts_by_key ON verdicts(key);
    CREATE VIEW v_verdicts AS
        SELECT j.name AS judge, j.kind, j.model_name, e.run, e.suite, e.item, e.culture, e.area, e.scope, e.language,
               e.variant, e.sample, v.label, v.refusal, v.p_unsafe, v.weight, e.reply, v.raw, v.key
        FROM verdicts v JOIN judges j ON j.id = v.judge JOIN v_exchanges e ON e.key = v.key AND e.last;
    """
"""Who judged, and what each said of which reply. ``kind`` is 'model', 'classifier' or 'people'; ``model`` is a file's
SHA-256 or ''; ``weight`` is how many replies a person's label stands for, 1 for all judges that saw everything."""
