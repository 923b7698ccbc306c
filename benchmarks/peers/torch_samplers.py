"""Full-batch Langevin dynamics in PyTorch, as one would write it: a loop over backward passes.

In original coordinates it is the paper's protocol, with one learning rate; in whitened coordinates
the Euler-Maruyama step theta' = theta - h (grad Phi + theta) + sqrt(2 h) xi. The step sizes are
scanned by hand.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from grokphase.models import teacher_student as model
from grokphase.models.teacher_student import Position
from posterior import Problem, isotropic_step, observe
from protocol import DRAWS, Candidate, Record, Tuned

LIBRARY = f"PyTorch {torch.__version__.split('+')[0]}"
THIN = 8
torch.set_num_threads(1)


def tune(
    problem: Problem,
    key: jax.Array,
    position: Position,
    warmup: int,
    *,
    coordinates: str,
    step_size: float | None = None,
) -> Tuned:
    """Langevin dynamics at noise sigma^2, in original coordinates with the isotropic step."""
    parameters = problem.parameters
    if step_size is None:
        step_size = isotropic_step(parameters, 1.0)
    inputs, targets = (
        torch.tensor(np.asarray(x)) for x in (problem.data.inputs, problem.data.targets)
    )
    scale = model.prior_scale(parameters)
    noise = parameters.noise
    original = coordinates == "original"
    # Weights of the loss are factor * (what is sampled); the prior variance of the latter is 1
    # or scale^2. The whitened potential is the energy in units of the noise.
    factor = Position(1.0, 1.0) if original else scale
    variance = Position(scale.readout**2, scale.weights**2) if original else Position(1.0, 1.0)
    temperature = noise if original else 1.0
    kick = math.sqrt(2 * temperature * step_size)

    def start(position: Position) -> list[torch.Tensor]:
        whitened = [torch.tensor(np.asarray(x)) for x in position]
        ratio = scale if original else Position(1.0, 1.0)
        return [(s * x).requires_grad_() for s, x in zip(ratio, whitened, strict=True)]

    def energy(readout: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        output = torch.erf(inputs @ (factor.weights * weights).T) @ (factor.readout * readout)
        loss = 0.5 * torch.sum((output - targets) ** 2)
        prior = readout.square().sum() / variance.readout
        prior = prior + weights.square().sum() / variance.weights
        return temperature * (loss / noise + 0.5 * prior)

    def advance(key: jax.Array, state: list[torch.Tensor]) -> tuple[list[torch.Tensor], Record]:
        seed = int(jax.random.bits(key, dtype=jnp.uint32))
        generator = torch.Generator().manual_seed(seed)
        drawn: list[list[np.ndarray]] = []
        state = [x.detach().clone().requires_grad_() for x in state]
        for step in range(DRAWS * THIN):
            energy(*state).backward()
            with torch.no_grad():
                for x in state:
                    x.add_(x.grad, alpha=-step_size)
                    x.add_(torch.randn(x.shape, generator=generator), alpha=kick)
                    x.grad = None
            if step % THIN == THIN - 1:
                drawn.append([x.detach().numpy().copy() for x in state])
        return state, Record(drawn, 1.0, DRAWS * THIN)

    seen: Any = jax.jit(jax.vmap(partial(observe, problem)))

    def observables(drawn: list[list[np.ndarray]]) -> np.ndarray:
        ratio = scale if original else Position(1.0, 1.0)
        whitened = [
            np.stack(x) / np.float32(s)
            for x, s in zip(zip(*drawn, strict=True), ratio, strict=True)
        ]
        return np.asarray(seen(Position(*whitened)))

    return Tuned(start, advance, observables, f"{coordinates}, step {step_size:g} by hand")


CANDIDATES = [
    *(
        Candidate(
            LIBRARY, "Langevin", partial(tune, coordinates="whitened", step_size=step_size), 2
        )
        for step_size in (0.02, 0.05)
    ),
    Candidate(LIBRARY, "Langevin", partial(tune, coordinates="original"), 4),
]
