"""The parts of grokphase.config."""
