# Benchmarks write their tables (JSON and Markdown) beside themselves; run them on an idle machine.
.PHONY: bench
bench:
	.venv/bin/python benchmarks/step.py
	.venv/bin/python benchmarks/kernels.py
	.venv/bin/python benchmarks/theory_grid.py
	.venv/bin/python benchmarks/planning.py
	.venv/bin/python benchmarks/figures.py
	.venv/bin/python benchmarks/aggregation.py
	.venv/bin/python benchmarks/equilibration.py
	.venv/bin/python benchmarks/scaling.py
	.venv/bin/python benchmarks/means.py

# Half an hour on two cores; needs SLURM.
.PHONY: bench-slurm
bench-slurm:
	.venv/bin/python benchmarks/slurm_shards.py

# Against BlackJAX, NumPyro and PyTorch, in an environment of their own (6 GB with what PyTorch
# brings for GPUs). `make -j2` runs both noises at the same time. With `--beta 1 --seconds 40` the
# network is the paper's own (an hour; `--only` chooses).
.PHONY: bench-peers bench-peers-0.25 bench-peers-0.15
bench-peers: bench-peers-0.25 bench-peers-0.15
bench-peers-0.25 bench-peers-0.15: bench-peers-%: .venv-bench/lock
	PYTHONPATH=workflow .venv-bench/bin/python benchmarks/peers/run.py --noise $* --seconds 3 --warmup 300

.venv-bench/lock: envs/bench.txt
	rm -rf .venv-bench
	if command -v uv > /dev/null; then \
		uv venv --quiet --python .venv/bin/python .venv-bench && \
		uv pip install --quiet --python .venv-bench/bin/python --require-hashes -r $<; \
	else \
		.venv/bin/python -m venv .venv-bench && \
		.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check \
			--require-hashes -r $<; \
	fi
	cp $< $@
