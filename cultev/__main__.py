"""``python -m cultev``."""

from cultev.cli import main

main()
