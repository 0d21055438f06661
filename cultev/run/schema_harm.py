"""The harm test's part of the results file: one migration of ``cultev.run.schema``."""

from __future__ import annotations

EXCHANGES = """
    ALTER TABLE suites ADD COLUMN content_note TEXT NOT NULL DEFAULT '';
    CREATE TABLE dialogue_items (
        suite TEXT NOT NULL REFERENCES suites(content_hash), item TEXT NOT NULL, scope TEXT NOT NULL,
        stance TEXT NOT NULL, severity INTEGER NOT NULL, expected TEXT NOT NULL, twin TEXT NOT NULL,
        form TEXT NOT NULL, n_turns INTEGER NOT NULL, PRIMARY KEY (suite, item)
    ) WITHOUT ROWID;
    CREATE TABLE exchanges (
        run TEXT NOT NULL REFERENCES runs(id), suite TEXT NOT NULL, item TEXT NOT NULL, language TEXT NOT NULL,
        variant TEXT NOT NULL, sample INTEGER NOT NULL, turn INTEGER NOT NULL, last INTEGER NOT NULL,
        user_text TEXT NOT NULL, canned TEXT NOT NULL, key TEXT REFERENCES responses(key), prompt_sha256 TEXT NOT NULL,
        response_sha256 TEXT NOT NULL, outcome TEXT NOT NULL, error TEXT NOT NULL,
        PRIMARY KEY (run, suite, item, language, variant, sample, turn)
    ) WITHOUT ROWID;
    CREATE INDEX exchanges_by_key ON exchanges(key);
    CREATE VIEW v_exchanges AS
        SELECT e.run, m.name AS model, m.quantization, m.template_sha256, s.name AS suite, e.item, i.culture, i.region,
               i.topic AS area, i.group_id, d.scope, d.stance, d.severity, d.expected, d.form, d.n_turns, e.language,
               e.variant, e.sample, e.turn, e.last, e.user_text, coalesce(t.text, e.canned) AS reply, t.finish,
               t.n_tokens, e.outcome, e.error, e.prompt_sha256, e.response_sha256, e.key
        FROM exchanges e JOIN runs r ON r.id = e.run JOIN models m ON m.sha256 = r.model
             JOIN suites s ON s.content_hash = e.suite JOIN items i ON i.suite = e.suite AND i.item = e.item
             JOIN dialogue_items d ON d.suite = e.suite AND d.item = e.item LEFT JOIN texts t ON t.key = e.key;
    """
"""What was said in conversations. ``last`` marks the reply that counts; where a conversation ended early, its
``outcome`` says why ('too_long', 'engine_error'); ``canned`` is a fixed reply that no model gave."""
