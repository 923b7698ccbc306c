"""Fixtures of tests that compile: numbers of double precision, and chains."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase.sampling.ensemble import compiler_options


@pytest.fixture(autouse=True)
def _little_optimisation():
    """Without LLVM's, where neither the code nor `optimised` asks for it: most programs of the
    tests take longer to compile than to run. XLA's flags cannot say so."""
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def float64():
    """JAX computes in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def optimised():
    """jax.jit as training jobs use it: what runs for seconds is four times as fast."""
    return partial(jax.jit, compiler_options=compiler_options(0))


@pytest.fixture(scope="session")
def run_chains(optimised):
    """Independent chains: positions [chains, ...] -> positions [chains, draws, ...].

    `burn_in` steps are discarded and then `draws` positions recorded, `thin` steps apart.
    """

    def run(kernel, positions, seed, burn_in, draws=1, thin=1):
        def one_chain(key, position):
            def step(number, state):
                return kernel.step(jax.random.fold_in(key, number), state)[0]

            def draw(state, numbers):
                state = jax.lax.fori_loop(*numbers, step, state)
                return state, state.position

            # Burn-in belongs to the first draw: a loop of its own would double the compilation.
            ends = burn_in + thin * jnp.arange(1, draws + 1)
            starts = jnp.concatenate([jnp.zeros(1, int), ends[:-1]])
            return jax.lax.scan(draw, kernel.init(position), (starts, ends))[1]

        chains = jax.tree.leaves(positions)[0].shape[0]
        keys = jax.random.split(jax.random.key(seed), chains)
        return jax.tree.map(np.asarray, optimised(jax.vmap(one_chain))(keys, positions))

    return run
