"""Values of the configuration as written, not yet validated; a wrong type counts as nothing."""

from collections.abc import Mapping
from typing import Any

from grokphase.specifications.training import Networks


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def is_number(value: Any) -> bool:
    """Whether it is a number; YAML's true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    """Whether it is a positive integer."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def networks_as_written(experiment: Mapping[str, Any]) -> dict[str, int]:
    """Kind of start -> its networks in an experiment as written; 0 where that is no number."""
    written = experiment.get("networks")
    if written is None and experiment.get("model") != "teacher_student":
        written = dict.fromkeys(Networks.model_fields, 0)
    defaults = {name: field.default for name, field in Networks.model_fields.items()}
    counts = defaults | dict(mapping(written))
    return {kind: counts[kind] if is_count(counts[kind]) else 0 for kind in defaults}
