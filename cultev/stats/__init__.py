"""How sure we are: intervals and baselines, each with the source of its formula."""
