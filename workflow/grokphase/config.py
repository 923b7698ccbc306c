"""config.yaml: named experiments and the figures that draw them, validated in one pass.

An experiment sweeps some parameters of a model and fixes the rest; a *point* is one combination
of swept values, named like ``noise~0.18/cubic_strength~-0.3``. A *scale* is a named set of changes
to the experiments. This module is read while the workflow is planned: it imports nothing heavy.
"""

import difflib
import itertools
import os
import types
from collections.abc import Mapping
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
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
from grokphase.models.modular_cost import choose_form, gradient_cost
from grokphase.parameters import ModularAddition, Parameters, PositiveCount, TeacherStudent
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
    Networks,
    PlantedStart,
    PlantedWaves,
    TrainingSpecification,
)

_STRICT = ConfigDict(extra="forbid", frozen=True)
_FIGURES = Path(__file__).parent / "figures"


def figure_names() -> list[str]:
    """Names of the figures available: the modules of grokphase.figures."""
    return sorted(p.stem for p in _FIGURES.glob("*.py") if p.stem not in {"__init__", "style"})


class Schedule(BaseModel):
    """How long the kernel runs; the kernel's own options stand beside these."""

    model_config = _STRICT

    burn_in: int = Field(ge=0, strict=True, description="Kernel steps discarded.")
    draws: PositiveCount = Field(description="Draws recorded per network.")
    thin: PositiveCount = Field(default=1, description="Kernel steps per draw.")


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
    subsets: int = Field(
        default=5,
        ge=2,
        strict=True,
        description="Groups of datasets whose spread is the error bar.",
    )
    datasets_per_job: PositiveCount = Field(
        default=5, description="Datasets trained by one job; has no effect on any network."
    )
    sampler: Sampler
    convergence: Convergence = Convergence()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = self._problems()
        if problems:
            raise ValueError("; ".join(dict.fromkeys(problems)))
        return self

    def _problems(self) -> list[str]:
        """What is wrong between the keys of this experiment."""
        problems = []
        for name, field in self.parameters_type.model_fields.items():
            fixed, swept = getattr(self.parameters, name), getattr(self.sweep, name)
            if fixed is not None and swept is not None:
                problems.append(f"{name} stands under both parameters and sweep; keep one")
            if fixed is None and swept is None and field.is_required() and name != "noise":
                problems.append(f"{name} is missing: give it under parameters or sweep")
            if swept is not None and len(set(swept)) < len(swept):
                problems.append(f"sweep.{name} repeats a value")
        if self.sweep.noise is None:
            problems.append("noise must be swept: give sweep.noise as a list, even of one value")
        if self.trains and self.datasets % self.subsets:
            problems.append(
                f"the networks of {self.datasets} datasets do not split evenly over "
                f"{self.subsets} subsets: make datasets a multiple of subsets"
            )
        return problems

    @property
    def trains(self) -> bool:
        """Whether networks are sampled; otherwise the experiment is theory only."""
        return bool(self.networks.starts())

    def swept(self) -> dict[str, list[Any]]:
        """Swept values by parameter, in the order of the model's parameters."""
        values = {name: getattr(self.sweep, name) for name in self.parameters_type.model_fields}
        return {name: list(value) for name, value in values.items() if value is not None}

    def points(self, select: Mapping[str, list[float]] | None = None) -> dict[str, Any]:
        """Name -> parameters of every point whose swept values are among those selected."""
        swept = self.swept() | dict(select or {})
        fixed = self.parameters.model_dump(exclude_none=True)
        return {
            point_name(values): self.parameters_type(**fixed, **values)
            for values in (
                dict(zip(swept, one, strict=True)) for one in itertools.product(*swept.values())
            )
        }

    def slices(self, select: Mapping[str, list[float]] | None = None) -> dict[str, Any]:
        """Name -> parameters of every line of points that differ in the noise alone."""
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

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not self.trains:
            problems.append("networks.prior and networks.planted are both 0: train at least one")
        if self.histogram.limit > 2:
            problems.append(
                f"histogram reaches |q| = {self.histogram.limit:g}, beyond the recorded range 2: "
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

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.trains and self.sampler is None:
            problems.append("sampler is missing: the networks need one")
        if not self.trains and self.sampler is not None:
            problems.append("networks is missing: there is a sampler but nothing to train")
        if problems:
            return problems
        try:
            points = self.points()
        except ValidationError as error:
            return [one["msg"].removeprefix("Value error, ") for one in error.errors()]
        if not self.trains:
            return []
        if len({point.prime for point in points.values()}) > 1:
            problems.append("prime cannot be swept where networks are trained: make an experiment "
                            "of its own for each size")  # fmt: skip
        for point in points.values():
            problems += _size_problems(point, self.planted)
        return problems


def _size_problems(point: ModularAddition, planted: PlantedWaves) -> list[str]:
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
    if planted.waves > point.prime // 2:
        problems.append(
            f"planted.waves={planted.waves}: there are {point.prime // 2} frequencies at "
            f"prime={point.prime}"
        )
    return problems


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
    select: dict[str, list[float]] = Field(
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

    @model_validator(mode="after")
    def _figures_exist(self) -> "Config":
        problems = []
        for name, figure in self.figures.items():
            if name not in figure_names():
                problems.append(_unknown(f"figures.{name}", name, "figure", figure_names()))
            if figure.experiment not in self.experiments:
                where = f"figures.{name}.experiment"
                problems.append(_unknown(where, figure.experiment, "experiment", self.experiments))
                continue
            drawn = self.experiments[figure.experiment]
            swept = drawn.swept()
            if figure.baseline and drawn.model != "teacher_student":
                problems.append(
                    f"figures.{name}.baseline: only the teacher-student model has a baseline"
                )
            if figure.baseline > drawn.datasets:
                problems.append(
                    f"figures.{name}.baseline: {figure.baseline} datasets are wanted, but "
                    f"{figure.experiment} has {drawn.datasets}"
                )
            for parameter, values in figure.select.items():
                where = f"figures.{name}.select.{parameter}"
                if parameter not in swept:
                    problems.append(_unknown(where, parameter, "swept parameter", swept))
                    continue
                problems += [
                    f"{where}: {value} is not among the swept values {swept[parameter]}"
                    for value in values
                    if value not in swept[parameter]
                ]
        if problems:
            raise ValueError("\n  ".join(problems))
        return self

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
            kernel=sampler,
            networks=one.networks,
            planted=one.planted,
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
    scales = raw.pop("scales", None) or {}
    scale = scale or raw.pop("scale", None) or "paper"
    raw.pop("scale", None)
    if not isinstance(scales, Mapping) or scale not in scales:
        names = list(scales) if isinstance(scales, Mapping) else []
        raise GrokphaseError(
            "the configuration is not valid:\n  " + _unknown("scale", scale, "scale", names)
        )
    merged = _merge(raw, scales[scale] or {})
    try:
        return Config(scale=scale, **merged)
    except ValidationError as error:
        lines = [_explain(one) for one in error.errors()]
        raise GrokphaseError("the configuration is not valid:\n  " + "\n  ".join(lines)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise GrokphaseError(f"there is no configuration file {path}") from None
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
    location = error["loc"]
    if location[:1] == ("experiments",):
        # The third part is the model, by which pydantic chose between the kinds of experiment.
        location = location[:2] + location[3:]
    location = [part for part in location if part not in kernels.names()]
    where = ".".join(map(str, location))
    if error["type"] == "extra_forbidden":
        return _unknown(where, str(location[-1]), "key", _keys_beside(error["loc"]))
    if error["type"].startswith("union_tag"):
        key = error["ctx"]["discriminator"].strip("'")
        if error["type"] == "union_tag_not_found":
            return f"{where}.{key}: missing"
        known = kernels.names() if key == "kernel" else _models()
        return _unknown(f"{where}.{key}", error["ctx"]["tag"], key, known)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] == "value_error" and not where:
        return message
    shown = "" if error["type"] == "value_error" else f" (got {error['input']!r})"
    return f"{where}: {message[:1].lower()}{message[1:]}{shown}"


def _models() -> list[str]:
    """Names of the models."""
    kinds = (TeacherStudentExperiment, ModularAdditionExperiment)
    return [tag for kind in kinds for tag in _tags(kind)]


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
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []
