"""``python -m grokphase`` is the command ``grokphase``."""

from grokphase.cli import main

main()
