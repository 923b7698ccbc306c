"""Cost of a gradient of the modular-addition likelihood, and the choice of its form.

Read while the workflow is planned: it imports nothing heavy.
"""

from typing import Literal, NamedTuple

from grokphase.parameters import ModularAddition

Form = Literal["auto", "dense", "factorised"]


class Cost(NamedTuple):
    """Estimated cost of one gradient."""

    operations: float
    bytes: float


def gradient_cost(parameters: ModularAddition, form: Form, itemsize: int = 4) -> Cost:
    """Operations and peak memory of one gradient of the potential, in the given form."""
    n, p = float(parameters.width), float(parameters.prime)
    if form == "dense":
        return Cost(6 * p**3 * n, itemsize * (2 * n + 2 * p) * p**2)
    if form == "factorised":
        return Cost(12 * n**2 * p + 30 * n * p**2, itemsize * (6 * n**2 + 30 * n * p))
    return gradient_cost(parameters, choose_form(parameters), itemsize)


def collapsed_cost(parameters: ModularAddition, itemsize: int = 4) -> Cost:
    """Operations and peak memory of one gradient with the readouts integrated out."""
    n, p = float(parameters.width), float(parameters.prime)
    return Cost(20 * n**2 * p + 4 * n**3, itemsize * (30 * n**2 + 40 * n * p))


def choose_form(
    parameters: ModularAddition, memory_limit: float | None = None
) -> Literal["dense", "factorised"]:
    """The cheaper form that fits in memory.

    Parameters
    ----------
    memory_limit
        Bytes available; None for no limit.

    Raises
    ------
    MemoryError
        If neither form fits, with both sizes.
    """
    forms: tuple[Literal["dense", "factorised"], ...] = ("dense", "factorised")
    cost = {form: gradient_cost(parameters, form) for form in forms}
    fits = [f for f in forms if memory_limit is None or cost[f].bytes <= memory_limit]
    if not fits:
        need = ", ".join(f"{form} {cost[form].bytes / 2**30:.2f} GiB" for form in forms)
        raise MemoryError(
            f"a gradient at prime={parameters.prime}, width={parameters.width} needs {need}; "
            f"{(memory_limit or 0) / 2**30:.2f} GiB are available: reduce prime or width"
        )
    return min(fits, key=lambda form: cost[form].operations)
