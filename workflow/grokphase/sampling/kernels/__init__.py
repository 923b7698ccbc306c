"""Markov kernels on whitened coordinates, one module per algorithm.

Coordinates are whitened: the prior of every coordinate is N(0, 1), and the posterior is
exp(-Phi(position)) times that prior, with potential Phi = L/noise. A kernel module defines

    Settings    a frozen pydantic model of its options, with ``gradients_per_step`` and ``exact``
    build       (target, settings, accept_all=False) -> Kernel(init, step)

and nothing else needs to know about it: its file name is its name in the configuration. With
`accept_all`, a boolean that may be traced, every proposal is accepted; that is what the first part
of burn-in uses (see grokphase.specifications.training.unadjusted_draws). `Settings` are read while
the workflow is being planned, so a kernel module imports JAX inside `build` only. A compiled kernel
is used again as long as settings and code are the same (grokphase.sampling.programs): `build` reads
neither files nor the environment.
"""

import importlib
import math
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from grokphase.errors import GrokphaseError

Position = Any  # a pytree of arrays


class KernelSettings(BaseModel):
    """Options that every kernel has or derives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def gradients_per_step(self) -> int:
        """Cost of a step in evaluations of the gradient."""
        return 1

    @property
    def gradients_per_unadjusted_step(self) -> int:
        """The same of a step in the part of burn-in in which every proposal is accepted."""
        return self.gradients_per_step

    def gradients(self, unadjusted: float) -> float:
        """Mean cost of a step where this share of the steps is unadjusted."""
        return (
            unadjusted * self.gradients_per_unadjusted_step
            + (1 - unadjusted) * self.gradients_per_step
        )

    @property
    def exact(self) -> bool:
        """Whether steps that may be rejected leave the posterior as it is, at any step size."""
        return False

    @property
    def approximate_forces(self) -> bool:
        """Whether these are of Target.approximate_gradient, and then one of the potential."""
        return False


class Target(NamedTuple):
    """The posterior to sample.

    potential_and_gradient : position -> (Phi, grad Phi), Phi a scalar in nats.
    prior_scale : pytree like a position, scalar leaves: the prior standard deviation of the
        original coordinates, original = prior_scale * whitened.
    noise : temperature sigma^2 of the Langevin dynamics.
    approximate_gradient : position -> grad Phi about as it is, a cheaper function of the position,
        for kernels that are exact with any; None where there is none or it would not be cheaper.
    potential_and_forward : position -> (Phi, forward), Phi without its gradient and what it was
        computed from, with which the model's sweeps can begin; None where they begin anew.
    """

    potential_and_gradient: Callable[[Position], tuple[Any, Position]]
    prior_scale: Position
    noise: Any
    approximate_gradient: Callable[[Position], Position] | None = None
    potential_and_forward: Callable[[Position], tuple[Any, Any]] | None = None


class State(NamedTuple):
    """A position with its potential (scalar, nats) and gradient (pytree like the position)."""

    position: Position
    potential: Any
    gradient: Position


class Info(NamedTuple):
    """What a step did.

    acceptance, log_ratio : Metropolis acceptance probability (1 if unadjusted), log ratio (nats).
    sweep_acceptance : share of the moves of the sweeps after the step that were accepted; nan
        without sweeps.
    forward : of the position that the step ends at, as in Target; None if the kernel has not
        computed it.
    """

    acceptance: Any
    log_ratio: Any
    sweep_acceptance: Any = math.nan
    forward: Any = None


class Kernel(NamedTuple):
    """init : position -> State;  step : (key, State) -> (State, Info). Pure; vmap for ensembles."""

    init: Callable[[Position], State]
    step: Callable[[Any, State], tuple[State, Info]]


@cache
def names() -> tuple[str, ...]:
    """Names of the kernels available, sorted: the modules of this package."""
    return tuple(
        sorted(
            path.stem
            for path in Path(__file__).parent.glob("*.py")
            if not path.stem.startswith("_")
        )
    )


def load(name: str) -> ModuleType:
    """The kernel module of that name.

    Raises GrokphaseError if it cannot be imported or does not define what a kernel module must.
    """
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except Exception as error:
        raise GrokphaseError(
            f"sampling/kernels/{name}.py cannot be imported: {type(error).__name__}: {error}"
            f"{_places(error, f'{name}.py')}; mend it, or begin the file's name with an underscore"
        ) from error
    for wanted in ("Settings", "build"):
        if not hasattr(module, wanted):
            raise GrokphaseError(
                f"sampling/kernels/{name}.py is taken for a kernel and defines no {wanted}: define "
                f"it, or begin the file's name with an underscore"
            )
    return module


def _places(error: Exception, file: str) -> str:
    """Where an error arose, in brackets: the last line of a file, and where that led to."""
    if isinstance(error, SyntaxError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    of_file = [frame for frame in frames if Path(frame.filename).name == file][-1:]
    places = dict.fromkeys(f"{x.filename}:{x.lineno}" for x in [*of_file, frames[-1]])
    return f" ({', in '.join(places)})"


def settings(kernel: Mapping[str, Any]) -> KernelSettings:
    """The options of a kernel from a mapping that also holds its name, as `kernel`."""
    options = {name: value for name, value in kernel.items() if name != "kernel"}
    found: KernelSettings = load(kernel["kernel"]).Settings(**options)
    return found
