"""Experiments of the configuration: for every model its parameters, sweep, sampling and theory."""

import itertools
import os
import types
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeAlias,
    Union,
)

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from grokphase import resources
from grokphase.configuration.written import is_count, mapping, networks_as_written
from grokphase.models.mode_sweep_cost import sweep_cost
from grokphase.models.modular_cost import choose_form, collapsed_cost, gradient_cost
from grokphase.models.umbrella_cost import overlap_deviation, profile_limit
from grokphase.parameters import (
    Finite,
    ModularAddition,
    Parameters,
    PositiveCount,
    TeacherStudent,
)
from grokphase.sampling import kernels
from grokphase.specifications.aggregation import Histogram
from grokphase.specifications.convergence import Convergence
from grokphase.specifications.theory import ModularTheory, Theory
from grokphase.specifications.training import (
    Annealing,
    Networks,
    PlantedStart,
    PlantedWaves,
    Umbrella,
)

_STRICT = ConfigDict(extra="forbid", frozen=True)


class SamplingSettings(BaseModel):
    """How long the kernel runs; the kernel's own options stand beside these."""

    model_config = _STRICT

    burn_in: int = Field(ge=0, le=10**9, strict=True, description="Kernel steps discarded.")
    draws: PositiveCount = Field(description="Draws recorded per network.")
    thin: PositiveCount = Field(default=1, description="Kernel steps per draw.")
    neuron_sweeps: int = Field(
        default=0,
        ge=0,
        le=1000,
        strict=True,
        description="Collapsed Gibbs sweeps over the neurons after each kernel step, which create "
        "and destroy droplets; in modular_addition over the Fourier modes of every neuron.",
    )
    unadjusted_sweeps: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        strict=True,
        description="The same in the first three quarters (rounded down) of burn-in's draws, in "
        "which every proposal is accepted; by default as many.",
    )
    collapsed_readout: bool = Field(
        default=False,
        strict=True,
        description="Move the input weights alone, the readouts integrated out and drawn after "
        "every kernel step; modular_addition on the full table only.",
    )

    @model_validator(mode="after")
    def _sweeps_go_on(self) -> Self:
        if self.unadjusted_sweeps is not None and not self.neuron_sweeps:
            raise ValueError(
                "unadjusted_sweeps is for a sampler that sweeps: set neuron_sweeps too, or remove "
                "it"
            )
        return self


def _sampler_type() -> Any:
    """A union over the kernels available, told apart by the key `kernel`."""
    variants = []
    for name in kernels.names():
        tag: Any = (Literal[name], Field(description="Name of the kernel."))
        bases = (SamplingSettings, kernels.load(name).Settings)
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
        description="Remove from the outputs what the training sets' own sample moments explain, "
        "which takes ten datasets, and what Stein variates explain of the draws, which takes "
        "an exact kernel and draws enough of the other datasets (grokphase.stein); else nothing is "
        "removed.",
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
            point_name(values): self.parameters_type(**(fixed | values))
            for values in (
                dict(zip(swept, one, strict=True)) for one in itertools.product(*swept.values())
            )
        }

    @cached_property
    def _all_lines(self) -> Mapping[str, Any]:
        return types.MappingProxyType(self._lines(None))

    def lines(self, select: Mapping[str, list[float]] | None = None) -> Mapping[str, Any]:
        """Name -> parameters of every line of points that differ in the noise alone."""
        return self._lines(select) if select else self._all_lines

    def _lines(self, select: Mapping[str, list[float]] | None) -> dict[str, Any]:
        lines: dict[str, Parameters] = {}
        for parameters in self.points(select).values():
            values = {n: getattr(parameters, n) for n in self.swept() if n != "noise"}
            lines.setdefault(point_name(values), parameters)
        return lines

    def shards(self) -> list[range]:
        """Ranges of datasets, one per training job."""
        step = self.datasets_per_job
        return [range(i, min(i + step, self.datasets)) for i in range(0, self.datasets, step)]


class SelectedUmbrella(Umbrella):
    """The same at some points of the sweep."""

    select: dict[str, Annotated[list[Finite], Field(min_length=1)]] = Field(
        default={},
        description="Parameter -> values at which; whatever is not named has any value.",
    )

    def selects(self, parameters: TeacherStudent) -> bool:
        """Whether the tail is sampled at a point of these parameters."""
        values = parameters.model_dump()
        return all(values.get(name) in chosen for name, chosen in self.select.items())


class TeacherStudentExperiment(BaseExperiment):
    """A sweep of the teacher-student model."""

    parameters_type = TeacherStudent

    model: Literal["teacher_student"]
    parameters: FixedTeacherStudent
    sweep: TeacherStudentSweep
    planted: PlantedStart = PlantedStart()
    umbrella: SelectedUmbrella | None = Field(
        default=None,
        description="Sample the tail of the overlap's density, deeper than neurons can be counted.",
    )
    histogram: Histogram = Histogram()
    theory: Theory

    def umbrella_at(self, point: str) -> Umbrella | None:
        """The windows of one point; None if the tail is not sampled there."""
        if self.umbrella is None or not self.umbrella.selects(self.points()[point]):
            return None
        return Umbrella(**self.umbrella.model_dump(exclude={"select"}))

    @staticmethod
    def contradictions(raw: Mapping[str, Any]) -> list[str]:
        """Settings of the file that contradict one another, beyond those of every experiment."""
        problems = []
        if mapping(raw.get("sampler")).get("collapsed_readout"):
            problems.append("sampler.collapsed_readout is for modular_addition only: remove it")
        if not any(networks_as_written(raw).values()):
            problems.append("networks.prior and networks.planted are both 0: train at least one")
        problems += [
            f"sweep.{size}: points share their datasets, so {size} cannot be swept; make an "
            "experiment of its own for each value"
            for size in ("input_dim", "train_size")
            if size in mapping(raw.get("sweep"))
        ]
        bins = Histogram().model_dump() | dict(mapping(raw.get("histogram")))
        if is_count(bins["bins"]) and isinstance(bins["bin_width"], int | float):
            limit = Histogram.model_construct(bins=bins["bins"], bin_width=bins["bin_width"]).limit
            if limit > 2:
                problems.append(
                    f"histogram reaches |q| = {limit:g}, beyond the recorded range 2: "
                    "use fewer or narrower bins"
                )
        return problems

    @model_validator(mode="after")
    def _umbrella_works(self) -> Self:
        """Profiles reach beyond every window, and a trajectory follows the spring."""
        try:
            points = self.points().values()
        except ValidationError:
            return self  # Named by the checks between the settings.
        umbrella = self.umbrella
        for point in points if umbrella is not None else ():
            assert umbrella is not None
            if not umbrella.selects(point):
                continue
            reach, limit = 3 * umbrella.width * overlap_deviation(point), profile_limit(point)
            for overlap in umbrella.overlaps:
                if overlap + reach > limit:
                    raise ValueError(
                        f"umbrella.overlaps: the window at {overlap:g} reaches "
                        f"{overlap + reach:.2f}, beyond {limit:g}, where profiles end: choose "
                        "smaller ones, or a smaller umbrella.width"
                    )
            # The overlap's frequency in its spring is 1/width; from twice that on, steps diverge.
            if (
                self.sampler.kernel == "hamiltonian"
                and self.sampler.step_size > 1.5 * umbrella.width
            ):
                raise ValueError(
                    f"umbrella.width: {umbrella.width:g} is so stiff a spring that steps of "
                    f"{self.sampler.step_size:g} do not follow it; choose a wider one"
                )
        return self

    @model_validator(mode="after")
    def _fits_in_memory(self) -> Self:
        """Every point's gradient fits in this machine's memory."""
        try:
            points = self.points().values()
        except ValidationError:
            return self  # Named by the checks between the settings.
        available = machine_memory()
        for point in points:
            need = resources.gradient(point).memory * 2**20
            if need > available:
                raise ValueError(
                    f"a network needs {need / 2**30:.3g} GiB at train_size={point.train_size}, "
                    f"width={point.width}, input_dim={point.input_dim}; this machine has "
                    f"{available / 2**30:.2f} GiB: reduce them"
                )
        return self


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
        trains = any(networks_as_written(raw).values())
        if trains and raw.get("sampler") is None:
            return ["sampler is missing: the networks need one"]
        if not trains and raw.get("sampler") is not None:
            return ["networks is missing: there is a sampler but nothing to train"]
        if mapping(raw.get("sampler")).get("force_precision", "float32") != "float32":
            return ["sampler.force_precision is for teacher_student only: remove it"]
        collapsed = mapping(raw.get("sampler")).get("collapsed_readout")
        fixed, swept = mapping(raw.get("parameters")), mapping(raw.get("sweep"))
        in_part = fixed.get("train_fraction", 1) != 1 or swept.get("train_fraction", [1]) != [1]
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
            problems = _theory_size_problems(
                {point.prime for point in points.values()}, self.theory.largest_diagonalised
            )
            problems += [
                f"prime={prime}: the modulus must be odd; of an even one the mode P/2 is real, and "
                "the mode action does not apply to it"
                for prime in {point.prime for point in points.values()}
                if prime % 2 == 0
            ]
            problems += [
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


def machine_memory() -> float:
    """Bytes of this machine."""
    return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")


def _theory_size_problems(primes: Iterable[int], largest_diagonalised: int) -> list[str]:
    """Whether the kernel's eigenvalues [P, P], and what is diagonalised [P^2, P^2], fit."""
    available = machine_memory()
    problems = []
    for prime in primes:
        diagonalised = prime <= largest_diagonalised
        need = 24.0 * prime**4 if diagonalised else 40.0 * prime**2
        if need > available:
            problems.append(
                f"the theory needs {need / 2**30:.3g} GiB at prime={prime}; this machine has "
                f"{available / 2**30:.2f} GiB: reduce prime"
                + (" or theory.largest_diagonalised" if diagonalised else "")
            )
    return problems


def _size_problems(
    point: ModularAddition, planted: PlantedWaves, sampler: SamplingSettings | None
) -> list[str]:
    """Whether a network of these parameters fits in this machine's memory and can be planted."""
    problems = []
    available = machine_memory()
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
            f"sampler.neuron_sweeps needs {need / 2**30:.3g} GiB at prime={point.prime}, "
            f"width={point.width}; this machine has {available / 2**30:.2f} GiB: set it to 0, or "
            "reduce prime or width"
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
