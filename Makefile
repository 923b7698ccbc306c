# Benchmarks write their tables (JSON and Markdown) beside themselves; run them on an idle machine.
.PHONY: bench
bench:
	.venv/bin/python benchmarks/step.py
	.venv/bin/python benchmarks/kernels.py
	.venv/bin/python benchmarks/theory_grid.py

# Half an hour on two cores; needs SLURM.
.PHONY: bench-slurm
bench-slurm:
	.venv/bin/python benchmarks/slurm_shards.py
