"""config.yaml: named experiments and the figures that draw them, validated in one pass.

An experiment sweeps some parameters of a model and fixes the rest; a *point* is one combination
of swept values, named like ``noise~0.18/cubic_strength~-0.3``. A *scale* is a named set of changes
to the experiments. This module is read while the workflow is planned: it imports nothing heavy.
"""

import ast
import difflib
import itertools
import os
import re
import types
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    TypeAlias,
    Union,
    get_args,
    get_origin,
)

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from grokphase.errors import GrokphaseError
from grokphase.models.mode_sweep_cost import sweep_cost
from grokphase.models.modular_cost import choose_form, collapsed_cost, gradient_cost
from grokphase.parameters import (
    Finite,
    ModularAddition,
    Parameters,
    PositiveCount,
    TeacherStudent,
    is_prime,
)
from grokphase.sampling import kernels
from grokphase.specifications.aggregation import AggregationSpecification, Convergence, Histogram
from grokphase.specifications.dataset import (
    AnyDatasetSpecification,
    DatasetSpecification,
    PairOrderSpecification,
)
from grokphase.specifications.figure import FigureSpecification
from grokphase.specifications.summary import SummarySpecification
from grokphase.specifications.theory import (
    AnyTheorySpecification,
    BaselineSpecification,
    ModularTheory,
    ModularTheorySpecification,
    Theory,
    TheorySpecification,
)
from grokphase.specifications.training import (
    Annealing,
    Networks,
    PlantedStart,
    PlantedWaves,
    TrainingSpecification,
)

RESERVED_NAMES = ("figures", "logs", "benchmarks")
"""Folders of a scale that are not those of an experiment."""

RULES = ("all", "dataset", "train", "aggregate", "summary", "theory", "baseline", "figure")
"""Rules of the workflow, whose names a figure cannot have."""

_STRICT = ConfigDict(extra="forbid", frozen=True)
_FIGURES = Path(__file__).parent / "figures"


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
    """The constants MODEL, VARIES and STARTS of a figure's module, which is not imported."""
    found: dict[str, Any] = {}
    for node in ast.parse((_FIGURES / f"{name}.py").read_text()).body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id in ("MODEL", "VARIES", "STARTS"):
                    found[target.id.lower()] = ast.literal_eval(node.value)
    if found.get("model") not in EXPERIMENTS:
        raise GrokphaseError(
            f"figures/{name}.py must say which model it draws: MODEL = "
            + " or ".join(repr(model) for model in EXPERIMENTS)
        )
    return Drawing(**found)


class Schedule(BaseModel):
    """How long the kernel runs; the kernel's own options stand beside these."""

    model_config = _STRICT

    burn_in: int = Field(ge=0, strict=True, description="Kernel steps discarded.")
    draws: PositiveCount = Field(description="Draws recorded per network.")
    thin: PositiveCount = Field(default=1, description="Kernel steps per draw.")
    neuron_sweeps: int = Field(
        default=0,
        ge=0,
        strict=True,
        description="Collapsed Gibbs sweeps over the neurons after each kernel step, which create "
        "and destroy droplets; in modular_addition over the Fourier modes of every neuron.",
    )
    collapsed_readout: bool = Field(
        default=False,
        strict=True,
        description="Move the input weights alone, the readouts integrated out and drawn after "
        "every kernel step; modular_addition on the full table only.",
    )


def _sampler_type() -> Any:
    """A union over the kernels available, told apart by the key `kernel`."""
    variants = []
    for name in kernels.names():
        tag: Any = (Literal[name], Field(description="Name of the kernel."))
        bases = (Schedule, kernels.load(name).Settings)
        variants.append(create_model(name, __base__=bases, kernel=tag))
    return Annotated[Union[tuple(variants)], Field(discriminator="kernel")]  # noqa: UP007


def _each_optional(model: type[BaseModel], title: str, as_list: bool) -> type[BaseModel]:
    """The fields of a model, each optional, as single values or as non-empty lists of them."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        value: Any = field.annotation
        for constraint in field.metadata:
            value = Annotated[value, constraint]
        kind: Any = Annotated[list[value], Field(min_length=1)] if as_list else value
        fields[name] = (kind | None, Field(default=None, description=field.description))
    return create_model(title, __config__=_STRICT, **fields)


if TYPE_CHECKING:
    Sampler: TypeAlias = Any
    FixedTeacherStudent: TypeAlias = Any
    TeacherStudentSweep: TypeAlias = Any
    FixedModularAddition: TypeAlias = Any
    ModularAdditionSweep: TypeAlias = Any
else:
    Sampler = _sampler_type()
    FixedTeacherStudent = _each_optional(TeacherStudent, "FixedTeacherStudent", as_list=False)
    TeacherStudentSweep = _each_optional(TeacherStudent, "TeacherStudentSweep", as_list=True)
    FixedModularAddition = _each_optional(ModularAddition, "FixedModularAddition", as_list=False)
    ModularAdditionSweep = _each_optional(ModularAddition, "ModularAdditionSweep", as_list=True)


class BaseExperiment(BaseModel):
    """What the experiments of all models have in common; each adds its parameters and theory."""

    model_config = _STRICT

    parameters_type: ClassVar[type[BaseModel]]

    model: str
    parameters: Any
    sweep: Any
    seed: int = Field(ge=0, strict=True, description="Seed of datasets, starts and dynamics.")
    datasets: PositiveCount = Field(description="Number of datasets.")
    networks: Networks = Field(description="Networks per dataset, by kind of start.")
    annealing: Annealing | None = Field(
        default=None, description="Where networks.cooled and networks.heated begin."
    )
    subsets: int = Field(
        default=5,
        ge=2,
        strict=True,
        description="Groups of datasets whose spread is the error bar.",
    )
    control_variates: bool = Field(
        default=True,
        strict=True,
        description="Remove from the outputs what the training sets' own sample moments explain.",
    )
    datasets_per_job: PositiveCount = Field(
        default=5, description="Datasets trained by one job; has no effect on any network."
    )
    sampler: Sampler
    convergence: Convergence = Convergence()

    @property
    def trains(self) -> bool:
        """Whether networks are sampled; otherwise the experiment is theory only."""
        return bool(self.networks.starts())

    def swept(self) -> dict[str, list[Any]]:
        """Swept values by parameter, in the order of the model's parameters."""
        values = {name: getattr(self.sweep, name) for name in self.parameters_type.model_fields}
        return {name: list(value) for name, value in values.items() if value is not None}

    @cached_property
    def _all_points(self) -> Mapping[str, Any]:
        return types.MappingProxyType(self._points(self.swept()))

    def points(self, select: Mapping[str, list[float]] | None = None) -> Mapping[str, Any]:
        """Name -> parameters of every point whose swept values are among those selected."""
        if not select:
            return self._all_points
        swept = self.swept().items()
        return self._points(
            {n: [v for v in every if v in select.get(n, every)] for n, every in swept}
        )

    def _points(self, swept: Mapping[str, list[Any]]) -> dict[str, Any]:
        fixed = self.parameters.model_dump(exclude_none=True)
        return {
            point_name(values): self.parameters_type(**fixed, **values)
            for values in (
                dict(zip(swept, one, strict=True)) for one in itertools.product(*swept.values())
            )
        }

    @cached_property
    def _all_slices(self) -> Mapping[str, Any]:
        return types.MappingProxyType(self._slices(None))

    def slices(self, select: Mapping[str, list[float]] | None = None) -> Mapping[str, Any]:
        """Name -> parameters of every line of points that differ in the noise alone."""
        return self._slices(select) if select else self._all_slices

    def _slices(self, select: Mapping[str, list[float]] | None) -> dict[str, Any]:
        lines: dict[str, Parameters] = {}
        for parameters in self.points(select).values():
            values = {n: getattr(parameters, n) for n in self.swept() if n != "noise"}
            lines.setdefault(point_name(values), parameters)
        return lines

    def shards(self) -> list[range]:
        """Ranges of datasets, one per training job."""
        step = self.datasets_per_job
        return [range(i, min(i + step, self.datasets)) for i in range(0, self.datasets, step)]


class TeacherStudentExperiment(BaseExperiment):
    """A sweep of the teacher-student model."""

    parameters_type = TeacherStudent

    model: Literal["teacher_student"]
    parameters: FixedTeacherStudent
    sweep: TeacherStudentSweep
    planted: PlantedStart = PlantedStart()
    histogram: Histogram = Histogram()
    theory: Theory

    @staticmethod
    def contradictions(raw: Mapping[str, Any]) -> list[str]:
        """Settings of the file that contradict one another, beyond those of every experiment."""
        problems = []
        if _mapping(raw.get("sampler")).get("collapsed_readout"):
            problems.append("sampler.collapsed_readout is for modular_addition only: remove it")
        if not any(_networks(raw).values()):
            problems.append("networks.prior and networks.planted are both 0: train at least one")
        problems += [
            f"sweep.{size}: points share their datasets, so {size} cannot be swept; make an "
            "experiment of its own for each value"
            for size in ("input_dim", "train_size")
            if size in _mapping(raw.get("sweep"))
        ]
        bins = {"bin_width": 0.05, "bins": 61} | dict(_mapping(raw.get("histogram")))
        if _is_count(bins["bins"]) and isinstance(bins["bin_width"], int | float):
            limit = bins["bins"] * bins["bin_width"] / 2
            if limit > 2:
                problems.append(
                    f"histogram reaches |q| = {limit:g}, beyond the recorded range 2: "
                    "use fewer or narrower bins"
                )
        return problems


class ModularAdditionExperiment(BaseExperiment):
    """A sweep of modular addition; without `networks` it is theory only.

    A dataset is a random order of the pairs, of which the first `train_fraction` are trained on.
    """

    parameters_type = ModularAddition

    model: Literal["modular_addition"]
    parameters: FixedModularAddition
    sweep: ModularAdditionSweep
    seed: int = Field(default=0, ge=0, strict=True, description="Seed of orders, starts, dynamics.")
    datasets: PositiveCount = Field(default=1, description="Number of orders of the pairs.")
    networks: Networks = Field(
        default=Networks(prior=0, planted=0),
        description="Networks per dataset, by kind of start; none if absent.",
    )
    planted: PlantedWaves = PlantedWaves()
    sampler: Sampler | None = None
    theory: ModularTheory

    @staticmethod
    def contradictions(raw: Mapping[str, Any]) -> list[str]:
        """Settings of the file that contradict one another, beyond those of every experiment."""
        trains = any(_networks(raw).values())
        if trains and raw.get("sampler") is None:
            return ["sampler is missing: the networks need one"]
        if not trains and raw.get("sampler") is not None:
            return ["networks is missing: there is a sampler but nothing to train"]
        collapsed = _mapping(raw.get("sampler")).get("collapsed_readout")
        in_part = any("train_fraction" in _mapping(raw.get(key)) for key in ("parameters", "sweep"))
        if collapsed and in_part:
            return [
                "sampler.collapsed_readout needs the full table: remove it, or remove "
                "train_fraction"
            ]
        return []

    @model_validator(mode="after")
    def _sizes_are_possible(self) -> Self:
        """Every point is a network that exists and, if it is trained, fits in memory."""
        try:
            points = self.points()
        except ValidationError as error:
            found = [one for one in error.errors() if one["type"] != "missing"]
            problems = [one["msg"].removeprefix("Value error, ") for one in found]
        else:
            trained = list(points.values()) if self.trains else []
            problems = [
                p for point in trained for p in _size_problems(point, self.planted, self.sampler)
            ]
            if len({point.prime for point in trained}) > 1:
                problems.append(
                    "prime cannot be swept where networks are trained: make an experiment of its "
                    "own for each size"
                )
        if problems:
            raise ValueError("; ".join(dict.fromkeys(problems)))
        return self


def _size_problems(
    point: ModularAddition, planted: PlantedWaves, sampler: Schedule | None
) -> list[str]:
    """Whether a network of these parameters fits in this machine's memory and can be planted."""
    problems = []
    available = float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    try:
        choose_form(point, available)
    except MemoryError as error:
        problems.append(str(error))
    need = gradient_cost(point, "dense").bytes
    if point.train_fraction < 1 and need > available:
        problems.append(
            f"train_fraction={point.train_fraction} needs the dense form of the likelihood, "
            f"{need / 2**30:.2f} GiB at prime={point.prime}, width={point.width}; this machine "
            f"has {available / 2**30:.2f} GiB: train on the full table, or reduce prime or width"
        )
    need = collapsed_cost(point).bytes
    if sampler and sampler.collapsed_readout and need > available:
        problems.append(
            f"sampler.collapsed_readout needs {need / 2**30:.3g} GiB at width={point.width}; this "
            f"machine has {available / 2**30:.2f} GiB: remove it, or reduce width"
        )
    need = sweep_cost(point).bytes
    if sampler and sampler.neuron_sweeps and need > available:
        problems.append(
            f"sampler.neuron_sweeps needs {need / 2**30:.3g} GiB at prime={point.prime}; this "
            f"machine has {available / 2**30:.2f} GiB: set it to 0, or reduce prime"
        )
    if planted.waves > point.prime // 2:
        problems.append(
            f"planted.waves={planted.waves}: there are {point.prime // 2} frequencies at "
            f"prime={point.prime}"
        )
    return problems


EXPERIMENTS: dict[str, type[TeacherStudentExperiment | ModularAdditionExperiment]] = {
    "teacher_student": TeacherStudentExperiment,
    "modular_addition": ModularAdditionExperiment,
}
"""Model -> the kind of experiment that sweeps it."""

if TYPE_CHECKING:
    Experiment: TypeAlias = TeacherStudentExperiment | ModularAdditionExperiment
else:
    Experiment = Annotated[
        TeacherStudentExperiment | ModularAdditionExperiment, Field(discriminator="model")
    ]


def point_name(values: Mapping[str, Any]) -> str:
    """``noise~0.18/cubic_strength~-0.3``; ``all`` if nothing is swept."""
    return "/".join(f"{name}~{value!r}" for name, value in values.items()) or "all"


class Figure(BaseModel):
    """A figure: the experiment it draws and, if not all of it, the swept values it selects."""

    model_config = _STRICT

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


class Config(BaseModel):
    """The whole of config.yaml at one scale."""

    model_config = _STRICT

    scale: str
    experiments: dict[str, Experiment]
    figures: dict[str, Figure]

    def warnings(self) -> list[str]:
        """What is accepted but limits what the results mean."""
        return [
            f"experiments.{name}: prime={prime} is not prime: its target modes are not degenerate"
            for name, one in self.experiments.items()
            if isinstance(one, ModularAdditionExperiment)
            for prime in dict.fromkeys(point.prime for point in one.points().values())
            if not is_prime(prime)
        ]

    def dataset(self, experiment: str, dataset: int) -> AnyDatasetSpecification:
        """Specification of one dataset."""
        one = self.experiments[experiment]
        sizes = next(iter(one.points().values()))
        if isinstance(one, ModularAdditionExperiment):
            return PairOrderSpecification(
                experiment=experiment, seed=one.seed, dataset=dataset, prime=sizes.prime
            )
        return DatasetSpecification(
            experiment=experiment,
            seed=one.seed,
            dataset=dataset,
            input_dim=sizes.input_dim,
            train_size=sizes.train_size,
        )

    def training(self, experiment: str, point: str) -> TrainingSpecification:
        """Specification of the training at one point."""
        one = self.experiments[experiment]
        assert one.sampler is not None
        sampler = one.sampler.model_dump()
        return TrainingSpecification(
            experiment=experiment,
            seed=one.seed,
            point=point,
            model=one.model,
            parameters=one.points()[point],
            burn_in=sampler.pop("burn_in"),
            draws=sampler.pop("draws"),
            thin=sampler.pop("thin"),
            neuron_sweeps=sampler.pop("neuron_sweeps"),
            collapsed_readout=sampler.pop("collapsed_readout"),
            kernel=sampler,
            networks=one.networks,
            planted=one.planted,
            annealing=one.annealing,
        )

    def aggregation(self, experiment: str, point: str) -> AggregationSpecification:
        """Specification of the aggregation at one point."""
        one = self.experiments[experiment]
        return AggregationSpecification(
            point=point,
            model=one.model,
            datasets=one.datasets,
            networks_per_dataset=len(one.networks.starts()),
            subsets=one.subsets,
            control_variates=one.control_variates,
            histogram=one.histogram if isinstance(one, TeacherStudentExperiment) else None,
            convergence=one.convergence,
        )

    def summary(self, experiment: str) -> SummarySpecification:
        """Specification of the summary of an experiment."""
        one = self.experiments[experiment]
        return SummarySpecification(
            experiment=experiment, model=one.model, points=tuple(one.points())
        )

    def theory(self, experiment: str, line: str) -> AnyTheorySpecification:
        """Specification of the theory along one line of noise values."""
        one = self.experiments[experiment]
        if isinstance(one, ModularAdditionExperiment):
            return ModularTheorySpecification(
                parameters=one.slices()[line], noises=one.swept()["noise"], theory=one.theory
            )
        return TheorySpecification(
            parameters=one.slices()[line],
            noises=one.swept()["noise"],
            theory=one.theory,
            bin_width=one.histogram.bin_width,
        )

    def baseline(self, experiment: str, dataset: int) -> BaselineSpecification:
        """Specification of the Gaussian-process baseline on one dataset."""
        one = self.experiments[experiment]
        points = list(one.points().values())
        return BaselineSpecification(
            experiment=experiment,
            seed=one.seed,
            dataset=dataset,
            parameters=points[0],
            noises=one.swept()["noise"],
            cubic_strengths=tuple(dict.fromkeys(p.cubic_strength for p in points)),
        )

    def figure(self, name: str) -> FigureSpecification:
        """Specification of one figure."""
        figure = self.figures[name]
        one = self.experiments[figure.experiment]
        return FigureSpecification(
            figure=name,
            drawing=figure.drawing or name,
            experiment=figure.experiment,
            model=one.model,
            points=one.points(figure.select) if one.trains else {},
            lines=one.slices(figure.select),
            baseline_datasets=figure.baseline,
        )


def load_config(source: Mapping[str, Any] | Path, scale: str | None = None) -> Config:
    """Validate a configuration (a mapping, or a YAML file) at one scale (default: paper).

    Raises GrokphaseError with every problem found, each naming its key.
    """
    raw = _read(source) if isinstance(source, Path) else dict(source)
    scales = raw.pop("scales", None)
    scale = scale or raw.pop("scale", None) or "paper"
    raw.pop("scale", None)
    wrong_scale = _scale_problems(scales, scale)
    if wrong_scale:
        raise _invalid(wrong_scale)
    assert isinstance(scales, Mapping)
    merged = _merge(raw, scales[scale] or {})
    problems: list[str] = []
    broken: set[Any] = set()
    try:
        config = Config(**{"scale": scale} | {str(key): value for key, value in merged.items()})
    except ValidationError as error:
        problems = [_explain(one) for one in error.errors()]
        broken = {one["loc"][1] for one in error.errors() if "sweep" in one["loc"][2:4]}
    problems += _cross_problems(merged, broken)
    if problems:
        raise _invalid(problems)
    return config


def _invalid(problems: list[str]) -> GrokphaseError:
    return GrokphaseError("the configuration is not valid:\n  " + "\n  ".join(problems))


def _scale_problems(scales: Any, scale: Any) -> list[str]:
    """What is wrong with the scales, and with the one that is wanted."""
    if not isinstance(scales, Mapping):
        return ["scales: must be a mapping from names such as paper to changes"]
    if not isinstance(scale, str) or scale not in scales:
        return [_unknown("scale", str(scale), "scale", scales)]
    changes = scales[scale] or {}
    if not isinstance(changes, Mapping):
        return [f"scales.{scale}: must be a mapping of changes to experiments and figures"]
    return [
        _unknown(f"scales.{scale}.{key}", str(key), "key", ("experiments", "figures"))
        for key in changes
        if key not in ("experiments", "figures")
    ]


def _cross_problems(raw: Mapping[str, Any], broken: set[Any]) -> list[str]:
    """Settings that contradict one another; values of a wrong type are left to their own check.

    What figures select is not compared with the sweeps of the `broken` experiments.
    """
    experiments, figures = _mapping(raw.get("experiments")), _mapping(raw.get("figures"))
    problems = []
    for name, experiment in experiments.items():
        if not re.fullmatch("[a-z][a-z0-9_]*", str(name)) or name in RESERVED_NAMES:
            problems.append(
                f"experiments.{name}: {name!r} cannot name an experiment; use lower-case letters, "
                f"digits and _, and none of {', '.join(RESERVED_NAMES)}"
            )
        found = _experiment_problems(_mapping(experiment))
        problems += [f"experiments.{name}: {problem}" for problem in found]
        if any("sweep" in problem for problem in found):
            broken = broken | {name}
    if not isinstance(raw.get("experiments"), Mapping):
        return problems
    for name, figure in figures.items():
        problems += _figure_problems(str(name), _mapping(figure), experiments, broken)
    return problems


def _experiment_problems(raw: Mapping[str, Any]) -> list[str]:
    """What is wrong between the keys of one experiment; nothing if its model is not known."""
    kind = EXPERIMENTS.get(raw["model"]) if isinstance(raw.get("model"), str) else None
    if kind is None:
        return []
    problems = []
    fixed, swept = _mapping(raw.get("parameters")), _mapping(raw.get("sweep"))
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
    counted = _is_count(datasets) and _is_count(subsets)
    if any(_networks(raw).values()) and counted and datasets % subsets:
        problems.append(
            f"the networks of {datasets} datasets do not split evenly over {subsets} subsets: "
            "make datasets a multiple of subsets"
        )
    return problems + _annealing_problems(raw) + kind.contradictions(raw)


def _annealing_problems(raw: Mapping[str, Any]) -> list[str]:
    """Whether annealed networks have somewhere to begin, beyond every noise of the sweep."""
    networks, annealing = _networks(raw), raw.get("annealing")
    annealed = [kind for kind in ("cooled", "heated") if networks[kind]]
    if annealing is None:
        return [
            f"annealing is missing: networks.{kind} need its highest_noise and lowest_noise"
            for kind in annealed[:1]
        ]
    if not annealed:
        return ["annealing is given, but networks.cooled and networks.heated are both 0"]
    problems = []
    if _mapping(raw.get("sampler")).get("burn_in") == 0:
        problems.append("annealing happens during burn-in: sampler.burn_in must not be 0")
    noises = _mapping(raw.get("sweep")).get("noise")
    noises = [n for n in noises if _is_number(n)] if isinstance(noises, list) else []
    highest, lowest = (_mapping(annealing).get(f"{end}_noise") for end in ("highest", "lowest"))
    if noises and _is_number(highest) and highest < max(noises):
        problems.append(f"annealing.highest_noise={highest} is below the sweep's {max(noises)}")
    if noises and _is_number(lowest) and lowest > min(noises):
        problems.append(f"annealing.lowest_noise={lowest} is above the sweep's {min(noises)}")
    return problems


def _figure_problems(
    name: str, raw: Mapping[str, Any], experiments: Mapping[str, Any], broken: set[Any]
) -> list[str]:
    problems = []
    drawing = raw.get("drawing") or name
    if drawing not in figure_names():
        where = f"figures.{name}.drawing" if raw.get("drawing") else f"figures.{name}"
        problems.append(_unknown(where, drawing, "figure", figure_names()))
    elif not re.fullmatch("[a-z][a-z0-9_]*", name) or name.split("_")[0] in RULES:
        problems.append(
            f"figures.{name}: {name!r} cannot name a figure; use lower-case letters, digits and _, "
            f"and do not begin with {', '.join(RULES)}"
        )
    drawn = raw.get("experiment")
    if not isinstance(drawn, str):
        return problems
    if drawn not in experiments:
        where = f"figures.{name}.experiment"
        return [*problems, _unknown(where, drawn, "experiment", experiments)]
    experiment = _mapping(experiments[drawn])
    model = experiment.get("model")
    selected = _mapping(raw.get("select"))
    if drawing in figure_names() and isinstance(model, str) and model in EXPERIMENTS:
        problems += _drawing_problems(name, figure_drawing(drawing), drawn, experiment, selected)
    baseline, datasets = raw.get("baseline", 0), experiment.get("datasets")
    if baseline and experiment.get("model") == "modular_addition":
        problems.append(f"figures.{name}.baseline: only the teacher-student model has a baseline")
    if _is_count(baseline) and _is_count(datasets) and baseline > datasets:
        problems.append(
            f"figures.{name}.baseline: {baseline} datasets are wanted, but {drawn} has {datasets}"
        )
    if drawn in broken:
        return problems
    swept = {k: v for k, v in _mapping(experiment.get("sweep")).items() if isinstance(v, list)}
    for parameter, values in selected.items():
        where = f"figures.{name}.select.{parameter}"
        if parameter not in swept:
            problems.append(_unknown(where, str(parameter), "swept parameter", swept))
        elif isinstance(values, list):
            problems += [
                f"{where}: {value} is not among the swept values {swept[parameter]}"
                for value in values
                if value not in swept[parameter]
            ]
    return problems


def _drawing_problems(
    name: str,
    drawing: Drawing,
    drawn: str,
    experiment: Mapping[str, Any],
    selected: Mapping[str, Any],
) -> list[str]:
    """Whether a figure can draw an experiment of a known model."""
    where = f"figures.{name}"
    if experiment["model"] != drawing.model:
        return [
            f"{where}.experiment: {name} draws experiments of the model {drawing.model}, but "
            f"{drawn} is of {experiment['model']}"
        ]
    problems = []
    networks = _networks(experiment)
    if drawing.starts and not any(networks[kind] for kind in drawing.starts):
        problems.append(
            f"{where}.experiment: {name} draws networks started {' or '.join(drawing.starts)}, and "
            f"{drawn} has none: set experiments.{drawn}.networks.{drawing.starts[0]}, or draw "
            "another experiment"
        )
    swept = _mapping(experiment.get("sweep"))
    for parameter in EXPERIMENTS[drawing.model].parameters_type.model_fields:
        values = swept.get(parameter)
        shown = selected.get(parameter, values)
        if parameter not in drawing.varies and isinstance(shown, list) and len(shown) > 1:
            problems.append(
                f"{where}: {name} draws one {parameter}, and here are {len(shown)}: choose with "
                f"{where}.select.{parameter}, such as [{shown[0]}]"
            )
    return problems


def _networks(experiment: Mapping[str, Any]) -> dict[str, int]:
    """Kind of start -> its networks in an experiment as written; 0 where that is no number."""
    written = experiment.get("networks")
    if written is None and experiment.get("model") != "teacher_student":
        written = dict.fromkeys(Networks.model_fields, 0)
    defaults = {name: field.default for name, field in Networks.model_fields.items()}
    counts = defaults | dict(_mapping(written))
    return {kind: counts[kind] if _is_count(counts[kind]) else 0 for kind in defaults}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _read(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise GrokphaseError(f"there is no configuration file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise GrokphaseError(f"{path} cannot be read as a configuration file: {error}") from None
    except yaml.YAMLError as error:
        raise GrokphaseError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(value, dict):
        raise GrokphaseError(f"{path} must hold a mapping with experiments and figures")
    return value


def _merge(base: Any, changes: Any) -> Any:
    """`base` with `changes` applied: mappings are merged key by key, anything else is replaced."""
    if isinstance(base, Mapping) and isinstance(changes, Mapping):
        keys = list(base) + [key for key in changes if key not in base]
        return {
            key: _merge(base[key], changes[key])
            if key in base and key in changes
            else (changes[key] if key in changes else base[key])
            for key in keys
        }
    return changes


def _unknown(where: str, name: str, kind: str, known: Any) -> str:
    """One line that says `name` is unknown, with the nearest known name."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"known: {', '.join(map(str, known)) or 'none'}"
    )
    return f"{where}: there is no {kind} {name!r}; {hint}"


def _explain(error: Any) -> str:
    """One line for one pydantic error: its key, what is wrong, what would be right."""
    # The model and the kernel follow as tags of unions; they are no keys of the file.
    location = [
        part
        for i, part in enumerate(error["loc"])
        if not (
            (i == 2 and error["loc"][0] == "experiments" and part in EXPERIMENTS)
            or (i and error["loc"][i - 1] == "sampler" and part in kernels.names())
        )
    ]
    where = ".".join(map(str, location))
    if error["type"] == "extra_forbidden":
        return _unknown(where, str(location[-1]), "key", _keys_beside(error["loc"]))
    if error["type"].startswith("union_tag"):
        key = error["ctx"]["discriminator"].strip("'")
        if error["type"] == "union_tag_not_found":
            return f"{where}.{key}: missing"
        known = kernels.names() if key == "kernel" else list(EXPERIMENTS)
        return _unknown(f"{where}.{key}", error["ctx"]["tag"], key, known)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] == "value_error" and not where:
        return message
    shown = "" if error["type"] == "value_error" else f" (got {error['input']!r})"
    return f"{where}: {message[:1].lower()}{message[1:]}{shown}"


def _tags(option: type[BaseModel]) -> tuple[Any, ...]:
    """Values of the key that tells this variant of a union from the others."""
    for key in ("kernel", "model"):
        if key in option.model_fields:
            return get_args(option.model_fields[key].annotation)
    return ()


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """Names allowed at the place of the last part of an error's location."""
    kind: Any = Config
    for part in location[:-1]:
        options = [kind]
        while any(get_origin(o) in (Annotated, Union, types.UnionType) for o in options):
            options = [
                inner
                for o in options
                for inner in (
                    get_args(o)[:1]
                    if get_origin(o) is Annotated
                    else get_args(o)
                    if get_origin(o) in (Union, types.UnionType)
                    else (o,)
                )
            ]
        for option in options:
            if get_origin(option) is dict:
                kind = get_args(option)[1]
                break
            if isinstance(option, type) and issubclass(option, BaseModel):
                if part in _tags(option):
                    kind = option
                    break
                if part in option.model_fields:
                    kind = option.model_fields[part].annotation
                    break
        else:
            return []
    for option in get_args(kind) or (kind,):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return list(option.model_fields)
    return []
