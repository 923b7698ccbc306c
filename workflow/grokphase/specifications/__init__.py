"""What each stage of the pipeline computes, as validated plain values."""
