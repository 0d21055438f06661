"""The results file's tables and views, as numbered migrations. Each runs once, in one transaction.

Times stand in ``runs`` and ``responses.computed_at`` only: everything else in a finished run is the same
whether or not it was interrupted on the way.
"""

from __future__ import annotations

from cultev.run.schema_harm import EXCHANGES
from cultev.run.schema_judges import VERDICTS
from cultev.run.schema_pairs import PAIRS

APPLICATION_ID = 0x43565245  # "CVRE"

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE models (
        sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, path TEXT NOT NULL, format TEXT NOT NULL,
        architecture TEXT NOT NULL, quantization TEXT NOT NULL, n_params INTEGER NOT NULL,
        n_ctx INTEGER NOT NULL, n_vocab INTEGER NOT NULL, file_bytes INTEGER NOT NULL,
        template_sha256 TEXT NOT NULL, reference INTEGER NOT NULL
    );
    CREATE TABLE suites (
        content_hash TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, title TEXT NOT NULL,
        license TEXT NOT NULL, value_frame TEXT NOT NULL
    );
    CREATE TABLE items (
        suite TEXT NOT NULL REFERENCES suites(content_hash), item TEXT NOT NULL, kind TEXT NOT NULL,
        culture TEXT NOT NULL, region TEXT NOT NULL, topic TEXT NOT NULL, group_id TEXT NOT NULL,
        status TEXT NOT NULL, n_options INTEGER NOT NULL, gold TEXT NOT NULL,
        PRIMARY KEY (suite, item)
    ) WITHOUT ROWID;
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, model TEXT NOT NULL REFERENCES models(sha256), protocol TEXT NOT NULL,
        protocol_sha256 TEXT NOT NULL, mode TEXT NOT NULL, norm TEXT NOT NULL, n_planned INTEGER NOT NULL,
        status TEXT NOT NULL, started_at TEXT NOT NULL, updated_at TEXT NOT NULL, finished_at TEXT,
        seconds REAL NOT NULL DEFAULT 0, engine TEXT NOT NULL, cultev TEXT NOT NULL
    );
    CREATE TABLE run_suites (
        run TEXT NOT NULL REFERENCES runs(id), suite TEXT NOT NULL REFERENCES suites(content_hash),
        PRIMARY KEY (run, suite)
    ) WITHOUT ROWID;
    CREATE TABLE responses (
        key TEXT PRIMARY KEY, model TEXT NOT NULL REFERENCES models(sha256),
        n_prompt_tokens INTEGER NOT NULL, engine TEXT NOT NULL, computed_at TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE scores (
        key TEXT NOT NULL REFERENCES responses(key), seq INTEGER NOT NULL, logprob REAL NOT NULL,
        n_tokens INTEGER NOT NULL, n_bytes INTEGER NOT NULL, n_chars INTEGER NOT NULL,
        PRIMARY KEY (key, seq)
    ) WITHOUT ROWID;
    CREATE TABLE answers (
        run TEXT NOT NULL REFERENCES runs(id), suite TEXT NOT NULL, item TEXT NOT NULL,
        language TEXT NOT NULL, context TEXT NOT NULL, option_order INTEGER NOT NULL,
        key TEXT REFERENCES responses(key), prior_key TEXT REFERENCES responses(key),
        options TEXT NOT NULL, outcome TEXT NOT NULL, picked TEXT, tied INTEGER NOT NULL,
        picked_sum TEXT, picked_token TEXT, picked_byte TEXT, picked_char TEXT, picked_pmi TEXT,
        PRIMARY KEY (run, suite, item, language, context, option_order)
    ) WITHOUT ROWID;
    CREATE INDEX answers_by_key ON answers(key);

    CREATE VIEW v_answers AS
        SELECT a.run, m.name AS model, m.quantization, s.name AS suite, a.item, i.kind, i.culture, i.region,
               i.topic, i.group_id, a.language, a.context, a.option_order, r.mode, r.norm, a.outcome,
               a.picked, i.gold, a.tied, a.picked_sum, a.picked_token, a.picked_byte, a.picked_char,
               a.picked_pmi, a.options, a.key
        FROM answers a JOIN runs r ON r.id = a.run JOIN models m ON m.sha256 = r.model
             JOIN suites s ON s.content_hash = a.suite
             JOIN items i ON i.suite = a.suite AND i.item = a.item;
    CREATE VIEW v_accuracy AS
        SELECT run, model, quantization, suite, culture, language, context, mode,
               count(*) AS n, sum(outcome = 'correct') AS correct,
               round(1.0 * sum(outcome = 'correct') / count(*), 4) AS accuracy,
               sum(tied) AS tied
        FROM v_answers WHERE outcome IN ('correct', 'incorrect')
        GROUP BY run, suite, culture, language, context;
    CREATE VIEW v_options AS
        SELECT a.run, a.suite, a.item, a.language, a.context, a.option_order, o.value AS option_id,
               o.key AS shown_at, x.logprob, x.n_tokens, x.n_bytes, x.n_chars
        FROM answers a, json_each(a.options) o JOIN scores x ON x.key = a.key AND x.seq = o.key;
    """,
    """
    ALTER TABLE answers ADD COLUMN error TEXT NOT NULL DEFAULT '';
    CREATE TABLE proofs (
        model TEXT NOT NULL REFERENCES models(sha256), engine TEXT NOT NULL, n_requests INTEGER NOT NULL,
        n_options INTEGER NOT NULL, noise_per_token REAL NOT NULL, worst_per_token REAL NOT NULL,
        worst_total REAL NOT NULL, tolerance REAL NOT NULL, holds INTEGER NOT NULL, checked_at TEXT NOT NULL,
        PRIMARY KEY (model, engine)
    ) WITHOUT ROWID;
    CREATE VIEW v_engine_errors AS
        SELECT a.run, m.name AS model, s.name AS suite, a.item, a.language, a.context, a.option_order, a.error
        FROM answers a JOIN runs r ON r.id = a.run JOIN models m ON m.sha256 = r.model
             JOIN suites s ON s.content_hash = a.suite
        WHERE a.outcome = 'engine_error';
    """,
    """
    CREATE TABLE texts (
        key TEXT PRIMARY KEY REFERENCES responses(key), text TEXT NOT NULL, finish TEXT NOT NULL,
        n_tokens INTEGER NOT NULL, max_tokens INTEGER NOT NULL, temperature REAL NOT NULL, seed INTEGER NOT NULL,
        stop TEXT NOT NULL, grammar TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE benches (
        id INTEGER PRIMARY KEY, model TEXT NOT NULL REFERENCES models(sha256), measured_at TEXT NOT NULL,
        machine TEXT NOT NULL, engine TEXT NOT NULL, cultev TEXT NOT NULL, suite TEXT NOT NULL,
        raw_tokens_per_s REAL NOT NULL, unique_tokens_per_s REAL NOT NULL, ratio_to_raw REAL NOT NULL,
        speedup_over_naive REAL NOT NULL, peak_mb REAL, figures TEXT NOT NULL
    );
    CREATE VIEW v_texts AS
        SELECT a.run, a.model, a.suite, a.item, a.culture, a.language, a.context, a.option_order, t.text, t.finish,
               t.n_tokens, t.max_tokens, t.temperature, t.seed, a.outcome, a.picked, a.gold, a.key
        FROM v_answers a JOIN texts t ON t.key = a.key;
    """,
    """
    CREATE TABLE lsk_tables (
        run TEXT NOT NULL REFERENCES runs(id), suite TEXT NOT NULL REFERENCES suites(content_hash),
        item TEXT NOT NULL, language TEXT NOT NULL, outcome TEXT NOT NULL, picked INTEGER, p_right REAL,
        n_tokens INTEGER NOT NULL,
        PRIMARY KEY (run, suite, item, language)
    ) WITHOUT ROWID;
    CREATE TABLE lsk_maps (
        id TEXT PRIMARY KEY, run TEXT NOT NULL REFERENCES runs(id), model TEXT NOT NULL REFERENCES models(sha256),
        suite TEXT NOT NULL REFERENCES suites(content_hash), shipped TEXT NOT NULL, n_training INTEGER NOT NULL,
        tokens_spent INTEGER NOT NULL, tokens_full INTEGER NOT NULL, map TEXT NOT NULL, made_at TEXT NOT NULL,
        cultev TEXT NOT NULL
    );
    CREATE TABLE lsk_cells (
        map TEXT NOT NULL REFERENCES lsk_maps(id) ON DELETE CASCADE, cell TEXT NOT NULL, language TEXT NOT NULL,
        sent INTEGER NOT NULL, n_asked INTEGER NOT NULL, accuracy REAL, gain REAL NOT NULL, error REAL NOT NULL,
        chance REAL NOT NULL,
        PRIMARY KEY (map, cell, language)
    ) WITHOUT ROWID;
    CREATE VIEW v_lsk_cells AS
        SELECT c.map, m.name AS model, m.quantization, s.name AS suite, l.shipped, c.cell, c.language, c.sent,
               c.n_asked, c.accuracy, c.gain, c.error, c.chance
        FROM lsk_cells c JOIN lsk_maps l ON l.id = c.map JOIN models m ON m.sha256 = l.model
             JOIN suites s ON s.content_hash = l.suite;
    """,
    EXCHANGES,
    VERDICTS,
    PAIRS,
)
"""Migration n leads from schema version n to n + 1. Never edit one that was released: add the next."""
