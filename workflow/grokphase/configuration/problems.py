"""What is wrong between the settings of a configuration, each problem in one line with its key."""

import re
from collections.abc import Mapping
from typing import Any

from grokphase import resources
from grokphase.configuration.experiments import EXPERIMENTS, machine_memory
from grokphase.configuration.figures import figure_drawing, figure_names
from grokphase.configuration.messages import unknown
from grokphase.configuration.written import is_count, is_number, mapping, networks_as_written

RESERVED_NAMES = ("figures", "logs", "benchmarks")
"""Folders of a scale that are not those of an experiment."""

_NAME = "[a-z][a-z0-9_]*"

RULES = ("all", "dataset", "train", "aggregate", "summary", "theory", "baseline", "figure")
"""Rules of the workflow, whose names a figure cannot have."""


def scale_problems(scales: Any, scale: Any, raw: Mapping[str, Any]) -> list[str]:
    """What is wrong with the scales, and with the name of the one that is wanted."""
    if not isinstance(scales, Mapping):
        return ["scales: must be a mapping from names such as paper to changes"]
    if not isinstance(scale, str):
        return [f"scale: the name of a scale is text: write {str(scale)!r} in quotes"]
    if scale not in scales:
        return [unknown("scale", scale, "scale", scales)]
    where, changes = f"scales.{scale}", scales[scale]
    if not re.fullmatch(_NAME, scale):
        return [
            f"{where}: a scale's name begins with a lower-case letter and has lower-case letters, "
            "digits and _ only"
        ]
    if changes is None:
        return []
    if not isinstance(changes, Mapping):
        return [f"{where}: must be a mapping of changes to experiments and figures"]
    needed = {"experiments": "model", "figures": "experiment"}
    problems = []
    for kind, ones in changes.items():
        if kind not in needed:
            problems.append(unknown(f"{where}.{kind}", str(kind), "key", needed))
            continue
        known = mapping(raw.get(kind))
        problems += [
            unknown(f"{where}.{kind}.{one}", str(one), kind.removesuffix("s"), known)
            for one, change in mapping(ones).items()
            if one not in known and needed[kind] not in mapping(change)
        ]
    return problems


def cross_problems(raw: Mapping[str, Any], broken: set[Any]) -> list[str]:
    """Settings that contradict one another; values of a wrong type are left to their own check.

    What figures select is not compared with the sweeps of the `broken` experiments.
    """
    experiments, figures = mapping(raw.get("experiments")), mapping(raw.get("figures"))
    problems = []
    for name, experiment in experiments.items():
        if not re.fullmatch(_NAME, str(name)) or name in RESERVED_NAMES:
            problems.append(
                f"experiments.{name}: {name!r} cannot name an experiment; begin with a lower-case "
                "letter, use lower-case letters, digits and _, and none of "
                f"{', '.join(RESERVED_NAMES)}"
            )
        found = _experiment_problems(mapping(experiment))
        problems += [f"experiments.{name}: {problem}" for problem in found]
        if any("sweep" in problem for problem in found):
            broken = broken | {name}
    if not isinstance(raw.get("experiments"), Mapping):
        return problems
    for name, figure in figures.items():
        problems += _figure_problems(str(name), mapping(figure), experiments, broken)
    return problems


def _experiment_problems(raw: Mapping[str, Any]) -> list[str]:
    """What is wrong between the keys of one experiment; nothing if its model is not known."""
    kind = EXPERIMENTS.get(raw["model"]) if isinstance(raw.get("model"), str) else None
    if kind is None:
        return []
    problems = []
    fixed, swept = mapping(raw.get("parameters")), mapping(raw.get("sweep"))
    for name, field in kind.parameters_type.model_fields.items():
        if fixed.get(name) is not None and swept.get(name) is not None:
            problems.append(f"{name} stands under both parameters and sweep; keep one")
        if fixed.get(name) is None and swept.get(name) is None and field.is_required():
            problems.append(f"{name} is missing: give it under parameters or sweep")
        values = swept.get(name)
        if isinstance(values, list) and any(value in values[:i] for i, value in enumerate(values)):
            problems.append(f"sweep.{name} repeats a value")
    if swept.get("noise") is None and fixed.get("noise") is not None:
        problems.append("noise must be swept: give sweep.noise as a list, even of one value")
    fields = kind.model_fields
    datasets, subsets = (
        raw.get(name, fields[name].get_default()) for name in ("datasets", "subsets")
    )
    counted = is_count(datasets) and is_count(subsets)
    if any(networks_as_written(raw).values()) and counted and datasets % subsets:
        problems.append(
            f"the networks of {datasets} datasets do not split evenly over {subsets} subsets: "
            "make datasets a multiple of subsets"
        )
    problems += _annealing_problems(raw) + _umbrella_problems(raw)
    return problems + kind.contradictions(raw)


def _umbrella_problems(raw: Mapping[str, Any]) -> list[str]:
    """Parameters that there are not. Values that the sweep does not have only select nothing."""
    known = EXPERIMENTS["teacher_student"].parameters_type.model_fields
    return [
        unknown(f"umbrella.select.{parameter}", str(parameter), "parameter", known)
        for parameter in mapping(mapping(raw.get("umbrella")).get("select"))
        if parameter not in known
    ]


def _annealing_problems(raw: Mapping[str, Any]) -> list[str]:
    """Whether annealed networks have somewhere to begin, beyond every noise of the sweep."""
    networks, annealing = networks_as_written(raw), raw.get("annealing")
    annealed = [kind for kind in ("cooled", "heated") if networks[kind]]
    if annealing is None:
        return [
            f"annealing is missing: networks.{kind} need its highest_noise and lowest_noise"
            for kind in annealed[:1]
        ]
    if not annealed:
        return ["annealing is given, but networks.cooled and networks.heated are both 0"]
    problems = []
    if mapping(raw.get("sampler")).get("burn_in") == 0:
        problems.append("annealing happens during burn-in: sampler.burn_in must not be 0")
    noises = mapping(raw.get("sweep")).get("noise")
    noises = [n for n in noises if is_number(n)] if isinstance(noises, list) else []
    highest, lowest = (mapping(annealing).get(f"{end}_noise") for end in ("highest", "lowest"))
    if noises and is_number(highest) and highest < max(noises):
        problems.append(f"annealing.highest_noise={highest} is below the sweep's {max(noises)}")
    if noises and is_number(lowest) and lowest > min(noises):
        problems.append(f"annealing.lowest_noise={lowest} is above the sweep's {min(noises)}")
    return problems


def _figure_problems(
    name: str, raw: Mapping[str, Any], experiments: Mapping[str, Any], broken: set[Any]
) -> list[str]:
    problems = []
    drawing = raw.get("drawing") or name
    if drawing not in figure_names():
        where, kind = (
            (f"figures.{name}.drawing", "drawing")
            if raw.get("drawing")
            else (f"figures.{name}", "figure")
        )
        problems.append(unknown(where, drawing, kind, figure_names()))
    elif not re.fullmatch(_NAME, name) or name.split("_")[0] in RULES:
        problems.append(
            f"figures.{name}: {name!r} cannot name a figure; begin with a lower-case letter, use "
            f"lower-case letters, digits and _, and do not begin with {', '.join(RULES)}"
        )
    drawn = raw.get("experiment")
    if not isinstance(drawn, str):
        return problems
    if drawn not in experiments:
        where = f"figures.{name}.experiment"
        return [*problems, unknown(where, drawn, "experiment", experiments)]
    experiment = mapping(experiments[drawn])
    model = experiment.get("model")
    selected = mapping(raw.get("select"))
    if drawing in figure_names() and isinstance(model, str) and model in EXPERIMENTS:
        problems += _drawing_problems(name, drawing, drawn, experiment, selected)
    baseline, datasets = raw.get("baseline", 0), experiment.get("datasets")
    problems += _baseline_memory_problems(name, baseline, mapping(experiment.get("parameters")))
    if baseline and experiment.get("model") == "modular_addition":
        problems.append(f"figures.{name}.baseline: only the teacher-student model has a baseline")
    others = [
        parameter
        for parameter, values in mapping(experiment.get("sweep")).items()
        if parameter not in ("noise", "cubic_strength")
        and isinstance(values, list)
        and len(values) > 1
    ]
    if baseline and others:
        problems.append(
            f"figures.{name}.baseline: it is that of one {others[0]}, which {drawn} sweeps; set it "
            f"to 0, or draw an experiment of one {others[0]}"
        )
    if is_count(baseline) and is_count(datasets) and baseline > datasets:
        problems.append(
            f"figures.{name}.baseline: {baseline} datasets are wanted, but {drawn} has {datasets}"
        )
    if drawn in broken:
        return problems
    swept = {k: v for k, v in mapping(experiment.get("sweep")).items() if isinstance(v, list)}
    for parameter, values in selected.items():
        where = f"figures.{name}.select.{parameter}"
        if parameter not in swept:
            problems.append(unknown(where, str(parameter), "swept parameter", swept))
        elif isinstance(values, list):
            problems += [
                f"{where}: {value} is not among the swept values {swept[parameter]}"
                for value in values
                if value not in swept[parameter]
            ]
    return problems


def _baseline_memory_problems(name: str, baseline: Any, fixed: Mapping[str, Any]) -> list[str]:
    """Whether the regression that a figure asks for fits in this machine's memory."""
    train_size: Any = fixed.get("train_size")
    if not is_count(baseline) or not is_count(train_size):
        return []
    need, available = resources.baseline(train_size).memory * 2**20, machine_memory()
    if need <= available:
        return []
    return [
        f"figures.{name}.baseline: Gaussian-process regression needs {need / 2**30:.3g} GiB at "
        f"train_size={train_size}; this machine has {available / 2**30:.2f} GiB: set it to 0, or "
        "reduce train_size"
    ]


def _drawing_problems(
    name: str,
    drawing_name: str,
    drawn: str,
    experiment: Mapping[str, Any],
    selected: Mapping[str, Any],
) -> list[str]:
    """Whether a figure can draw an experiment of a known model."""
    where, drawing = f"figures.{name}", figure_drawing(drawing_name)
    if experiment["model"] != drawing.model:
        return [
            f"{where}.experiment: {drawing_name} draws experiments of the model {drawing.model}, "
            f"but {drawn} is of {experiment['model']}"
        ]
    problems = []
    fixed, swept = mapping(experiment.get("parameters")), mapping(experiment.get("sweep"))
    networks = networks_as_written(experiment)
    shares = swept.get("train_fraction", [fixed.get("train_fraction", 1)])
    shares = selected.get("train_fraction", shares)
    if "train_fraction" not in drawing.varies and shares != [1]:
        problems.append(
            f"{where}.experiment: {drawing_name} draws networks trained on the full table, but "
            f"{drawn} has train_fraction={shares}"
        )
    if drawing.starts and not any(networks[kind] for kind in drawing.starts):
        problems.append(
            f"{where}.experiment: {drawing_name} draws networks started "
            f"{' or '.join(drawing.starts)}, and {drawn} has none: set "
            f"experiments.{drawn}.networks.{drawing.starts[0]}, or draw another experiment"
        )
    for parameter in EXPERIMENTS[drawing.model].parameters_type.model_fields:
        shown = selected.get(parameter, swept.get(parameter))
        if parameter not in drawing.varies and isinstance(shown, list) and len(shown) > 1:
            problems.append(
                f"{where}: {drawing_name} draws one {parameter}, and here are {len(shown)}: choose "
                f"with {where}.select.{parameter}, such as [{shown[0]}] (what a figure draws "
                "several of, its module says in VARIES)"
            )
    return problems
