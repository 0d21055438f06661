"""Model files: made smaller, exported, fetched and suggested."""
