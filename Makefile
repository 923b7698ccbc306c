# Benchmarks write their tables (JSON and Markdown) beside themselves; run them on an idle machine.
.PHONY: bench
bench:
	.venv/bin/python benchmarks/step.py
	.venv/bin/python benchmarks/kernels.py
