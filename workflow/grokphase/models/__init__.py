"""Networks and their posteriors, one module per model."""
