"""Mean-field theory: float64, no sampling, no input or output."""
