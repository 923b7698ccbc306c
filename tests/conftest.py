"""Settings and fixtures that all tests share.

JAX runs single threaded on the CPU and keeps its compiled programs between test runs. Most tests
take longer to compile than to run, so it compiles as for short programs, and without LLVM's
optimisation where neither the code nor `optimised` asks for it.
"""

import os
import platform
from functools import partial
from pathlib import Path

from grokphase.processor import ONE_THREAD_FLAGS, SHORT_PROGRAM_FLAGS

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", f"{SHORT_PROGRAM_FLAGS} {ONE_THREAD_FLAGS}")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(__file__).parents[1] / ".pytest_cache" / "jax" / platform.node()),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import numpy as np
import pytest


@pytest.fixture
def float64():
    """JAX computes in double precision."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def optimised():
    """jax.jit as training jobs use it: what runs for seconds is four times as fast."""
    import jax
    from grokphase.sampling.ensemble import compiler_options

    return partial(jax.jit, compiler_options=compiler_options(0))


@pytest.fixture
def program_folder(tmp_path, monkeypatch):
    """Where compiled programs are kept, as those of a process without the modules of the tests."""
    monkeypatch.setattr("grokphase.sampling.programs.modules_elsewhere", list)
    return tmp_path / "programs"


@pytest.fixture(scope="session")
def run_chains(optimised):
    """Independent chains: positions [chains, ...] -> positions [chains, draws, ...].

    `burn_in` steps are discarded and then `draws` positions recorded, `thin` steps apart.
    """
    import jax
    import jax.numpy as jnp

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


@pytest.fixture(scope="session")
def damaged_copies():
    """Damaged versions of a file's bytes: one bit flipped, cut short, or zeroed from a point on."""

    def copies(content: bytes, number: int, seed: int):
        generator = np.random.default_rng(seed)
        for _ in range(number):
            position = int(generator.integers(len(content)))
            kind = generator.choice(["flip", "cut", "zero"], p=[0.8, 0.1, 0.1])
            damaged = bytearray(content)
            if kind == "flip":
                damaged[position] ^= 1 << int(generator.integers(8))
            elif kind == "cut":
                del damaged[position:]
            else:
                damaged[position:] = bytes(len(content) - position)
            if bytes(damaged) != content:
                yield bytes(damaged)

    return copies
