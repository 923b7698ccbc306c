"""Grokphase: grokking as a first-order phase transition, regenerated and tested."""
