"""How items are asked: languages, variants, chat templates."""
