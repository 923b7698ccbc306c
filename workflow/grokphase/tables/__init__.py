"""Every Parquet schema of the pipeline, one module per group of stages."""
