"""Plan, ask, keep: one row an answer, nothing asked twice, nothing lost."""
