"""Figures of the configuration, and what their modules say they can draw."""

import ast
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from grokphase.configuration.experiments import EXPERIMENTS
from grokphase.errors import GrokphaseError
from grokphase.parameters import Finite

_FIGURES = Path(__file__).parents[1] / "figures"


def figure_names() -> list[str]:
    """Names of the figures available: the modules of grokphase.figures."""
    return sorted(p.stem for p in _FIGURES.glob("*.py") if p.stem not in {"__init__", "style"})


class Drawing(NamedTuple):
    """What a figure's module says it can draw, in constants of these names in upper case.

    model : the model of its experiments.
    varies : swept parameters of which it draws several values.
    starts : kinds of start of which it needs one; none if theory alone is enough.
    """

    model: str
    varies: tuple[str, ...] = ("noise",)
    starts: tuple[str, ...] = ()


@cache
def figure_drawing(name: str) -> Drawing:
    """The constants MODEL, VARIES and STARTS of a figure's module, which is not imported.

    Raises GrokphaseError for a module that lacks MODEL, or has one that is not written out.
    """
    found: dict[str, Any] = {}
    try:
        tree = ast.parse((_FIGURES / f"{name}.py").read_text())
    except SyntaxError as error:
        raise GrokphaseError(f"figures/{name}.py, line {error.lineno}: {error.msg}") from error
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and target.id in ("MODEL", "VARIES", "STARTS"):
                try:
                    found[target.id.lower()] = ast.literal_eval(value)
                except ValueError as error:
                    raise GrokphaseError(
                        f"figures/{name}.py, line {node.lineno}: {target.id} is read without "
                        "running the module, so write out its value, such as ('noise',)"
                    ) from error
    if found.get("model") not in EXPERIMENTS:
        raise GrokphaseError(
            f"figures/{name}.py must say which model it draws: MODEL = "
            + " or ".join(repr(model) for model in EXPERIMENTS)
        )
    return Drawing(**found)


class Figure(BaseModel):
    """A figure: the experiment it draws and, if not all of it, the swept values it selects."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    drawing: str | None = Field(
        default=None,
        description="Module of grokphase.figures that draws it; if absent, that of its own name.",
    )
    select: dict[str, Annotated[list[Finite], Field(min_length=1)]] = Field(
        default={}, description="Swept parameter -> values drawn; what is not named is drawn whole."
    )
    baseline: int = Field(
        default=0,
        ge=0,
        strict=True,
        description="Datasets on which Gaussian-process regression is drawn as a baseline.",
    )
