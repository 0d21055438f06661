"""The part of the results file for pairs of answers: one migration of ``cultev.run.schema``."""

from __future__ import annotations

PAIRS = """
    CREATE TABLE pair_items (
        suite TEXT NOT NULL REFERENCES suites(content_hash), item TEXT NOT NULL, pair_type TEXT NOT NULL,
        scope TEXT NOT NULL, stance TEXT NOT NULL, severity INTEGER NOT NULL, PRIMARY KEY (suite, item)
    ) WITHOUT ROWID;
    CREATE TABLE pair_answers (
        run TEXT NOT NULL REFERENCES runs(id), suite TEXT NOT NULL, item TEXT NOT NULL, language TEXT NOT NULL,
        key TEXT REFERENCES responses(key), prior_key TEXT REFERENCES responses(key), outcome TEXT NOT NULL,
        error TEXT NOT NULL, PRIMARY KEY (run, suite, item, language)
    ) WITHOUT ROWID;
    CREATE VIEW v_pairs AS
        SELECT a.run, m.name AS model, m.quantization, s.name AS suite, a.item, i.culture, i.region, i.topic AS area,
               i.group_id, p.pair_type, p.scope, p.stance, p.severity, a.language, a.outcome,
               y.logprob AS preferred, n.logprob AS dispreferred, y.n_tokens AS preferred_tokens,
               n.n_tokens AS dispreferred_tokens, y.n_bytes AS preferred_bytes, n.n_bytes AS dispreferred_bytes,
               yp.logprob AS preferred_prior, np.logprob AS dispreferred_prior, a.key, a.prior_key
        FROM pair_answers a JOIN runs r ON r.id = a.run JOIN models m ON m.sha256 = r.model
             JOIN suites s ON s.content_hash = a.suite JOIN items i ON i.suite = a.suite AND i.item = a.item
             JOIN pair_items p ON p.suite = a.suite AND p.item = a.item
             LEFT JOIN scores y ON y.key = a.key AND y.seq = 0 LEFT JOIN scores n ON n.key = a.key AND n.seq = 1
             LEFT JOIN scores yp ON yp.key = a.prior_key AND yp.seq = 0
             LEFT JOIN scores np ON np.key = a.prior_key AND np.seq = 1;
    """
"""Pairs and what a model gave to their two answers: 0 is the better one. ``outcome`` is '', 'too_long' or
'engine_error'; the prior is that of the same answers after a question without content."""
