"""Cost of a sweep over the Fourier modes of the modular-addition network.

Read while the workflow is planned: it imports nothing heavy.
"""

from grokphase.models.modular_cost import Cost
from grokphase.parameters import ModularAddition

CANDIDATES = 64
"""Values proposed for a mode. At P = 23, N = 500 in equilibrium 50 % of the modes change with 16,
63 % with 64 and 69 % with 128; the sweep takes 1.2 and 1.4 times the time of that with 16."""


def inversion_operations(prime: int) -> float:
    """Operations of the inversion of the kernel of P^2 pairs, with which a sweep begins."""
    return 8.0 * prime**6


def sweep_cost(parameters: ModularAddition, itemsize: int = 4) -> Cost:
    """Operations and memory of one sweep.

    Of a neuron, two updates of the inverse kernel of P^2 pairs; of each of its modes, 6 P rows of
    it, a form of 16 monomials on those, and the candidates; in the beginning, one inversion. The
    candidates of all modes are drawn at once, and take 37 numbers each while they are (as compiled
    at P = 5 to 31, N = 500 to 20 000, within a tenth).
    """
    n, p = float(parameters.width), float(parameters.prime)
    modes = (p - 1) / 2
    of_mode = 6 * p**3 + 16 * 36 * p**2 + 6 * 16 * p**2 + CANDIDATES * 16 * (16 + p)
    of_neuron = 4 * p**4 + modes * of_mode
    operations = 2 * n * (of_neuron + 2 * p**4) + inversion_operations(parameters.prime)
    return Cost(operations, itemsize * (8 * p**4 + 2 * n * p**2 + 37 * CANDIDATES * n * modes))
