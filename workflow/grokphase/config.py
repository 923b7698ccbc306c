"""config.yaml: named experiments and the figures that draw them, validated in one pass.

An experiment sweeps some parameters of a model and fixes the rest; a *point* is one combination
of swept values, named like ``noise~0.18/cubic_strength~-0.3``. A *scale* is a named set of changes
to the experiments. This module is read while the workflow is planned: it imports nothing heavy.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from grokphase.configuration.experiments import (
    Experiment,
    ModularAdditionExperiment,
    TeacherStudentExperiment,
)
from grokphase.configuration.figures import Figure
from grokphase.configuration.messages import explain, unknown
from grokphase.configuration.problems import cross_problems, scale_problems
from grokphase.errors import GrokphaseError
from grokphase.layout import DEFAULT_SCALE
from grokphase.parameters import is_prime
from grokphase.sampling import kernels
from grokphase.specifications.aggregation import AggregationSpecification
from grokphase.specifications.convergence import FEWEST_DRAWS, FEWEST_DRAWS_OF_A_CHAIN
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
    ModularTheorySpecification,
    TheorySpecification,
)
from grokphase.specifications.training import TrainingSpecification, unadjusted_draws


class Config(BaseModel):
    """The whole of config.yaml at one scale."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: str
    experiments: dict[str, Experiment]
    figures: dict[str, Figure]

    def warnings(self, experiments: Collection[str] | None = None) -> list[str]:
        """What is accepted but limits what the results mean, of all experiments or of some."""
        chosen = {
            name: one
            for name, one in self.experiments.items()
            if experiments is None or name in experiments
        }
        outside = [
            f"experiments.{name}: theory is drawn from {one.theory.lowest_noise:.12g} to "
            f"{one.theory.highest_noise:.12g}, and {noise:.12g} of sweep.noise lies outside"
            for name, one in chosen.items()
            for noise in one.swept()["noise"]
            if not one.theory.lowest_noise <= noise <= one.theory.highest_noise
        ]
        unjudged = [
            f"experiments.{name}.sampler.draws is {one.sampler.draws}: convergence is judged from "
            f"{FEWEST_DRAWS} draws on, so no point will count as converged"
            for name, one in chosen.items()
            if one.sampler is not None and one.sampler.draws < FEWEST_DRAWS
        ]
        unselected = [
            f"experiments.{name}.umbrella.select.{parameter}: no point of the sweep has {value:g}, "
            "and no tail is sampled there"
            for name, one in chosen.items()
            if isinstance(one, TeacherStudentExperiment) and one.umbrella is not None
            for parameter, values in one.umbrella.select.items()
            for value in values
            if all(getattr(point, parameter) != value for point in one.points().values())
        ]
        unjudged += [
            f"experiments.{name} has one network of each dataset and sampler.draws="
            f"{one.sampler.draws}: effective sizes take {FEWEST_DRAWS_OF_A_CHAIN} draws, or two "
            "networks of a dataset to compare, so no point will count as converged"
            for name, one in chosen.items()
            if one.sampler is not None
            and FEWEST_DRAWS <= one.sampler.draws < FEWEST_DRAWS_OF_A_CHAIN
            and len(one.networks.starts()) == 1
        ]
        adjusted = [
            f"experiments.{name}.sampler.{key} has no effect: of burn_in={one.sampler.burn_in} "
            f"(thin={one.sampler.thin}) no draw is unadjusted; raise burn_in to "
            f"{2 * one.sampler.thin} at least"
            for name, one in chosen.items()
            if one.sampler is not None
            and not unadjusted_draws(-(-one.sampler.burn_in // one.sampler.thin))
            for key, value in one.sampler
            if key.startswith("unadjusted_") and value is not None
        ]
        composite = [
            f"experiments.{name}: prime={prime} is not prime: its target modes are not degenerate"
            for name, one in chosen.items()
            if isinstance(one, ModularAdditionExperiment)
            for prime in dict.fromkeys(point.prime for point in one.points().values())
            if not is_prime(prime)
        ]
        return outside + unjudged + adjusted + unselected + composite

    def dataset(self, experiment: str, dataset: int) -> AnyDatasetSpecification:
        """Specification of one dataset."""
        one = self._trained(experiment)
        if dataset >= one.datasets:
            raise GrokphaseError(
                f"experiments.{experiment} has datasets 0 to {one.datasets - 1}, and not {dataset}"
            )
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

    def _trained(self, experiment: str) -> Experiment:
        """An experiment that samples networks; raises GrokphaseError for another."""
        one = self.experiments[experiment]
        if not one.trains:
            raise GrokphaseError(
                f"experiments.{experiment} samples no networks: it has theory and nothing to train"
            )
        return one

    def training(self, experiment: str, point: str) -> TrainingSpecification:
        """Specification of the training at one point."""
        one = self._trained(experiment)
        assert one.sampler is not None
        sampler = one.sampler.model_dump()
        _check_name(f"experiments.{experiment}", "point", point, one.points())
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
            unadjusted_sweeps=sampler.pop("unadjusted_sweeps"),
            collapsed_readout=sampler.pop("collapsed_readout"),
            kernel=sampler,
            networks=one.networks,
            planted=one.planted,
            annealing=one.annealing,
            umbrella=one.umbrella_at(point) if isinstance(one, TeacherStudentExperiment) else None,
        )

    def aggregation(self, experiment: str, point: str) -> AggregationSpecification:
        """Specification of the aggregation at one point."""
        one = self._trained(experiment)
        training = self.training(experiment, point)
        return AggregationSpecification(
            point=point,
            model=one.model,
            training=training,
            datasets=one.datasets,
            networks_per_dataset=len(one.networks.starts()),
            subsets=one.subsets,
            control_variates=one.control_variates,
            # Their average is zero over the posterior, which other kernels do not sample.
            stein_variates=one.control_variates and kernels.settings(training.kernel).exact,
            histogram=one.histogram if isinstance(one, TeacherStudentExperiment) else None,
            convergence=one.convergence,
        )

    def summary(self, experiment: str) -> SummarySpecification:
        """Specification of the summary of an experiment."""
        one = self._trained(experiment)
        return SummarySpecification(
            experiment=experiment, model=one.model, points=tuple(one.points())
        )

    def theory(self, experiment: str, line: str) -> AnyTheorySpecification:
        """Specification of the theory along one line of noise values."""
        one = self.experiments[experiment]
        _check_name(f"experiments.{experiment}", "line", line, one.lines())
        if isinstance(one, ModularAdditionExperiment):
            return ModularTheorySpecification(
                parameters=one.lines()[line], noises=one.swept()["noise"], theory=one.theory
            )
        return TheorySpecification(
            parameters=one.lines()[line],
            noises=one.swept()["noise"],
            theory=one.theory,
            bin_width=one.histogram.bin_width,
        )

    def baseline(self, experiment: str, dataset: int) -> BaselineSpecification:
        """Specification of the Gaussian-process baseline on one dataset."""
        one = self.experiments[experiment]
        if not isinstance(one, TeacherStudentExperiment):
            raise GrokphaseError(
                f"experiments.{experiment}: only the teacher-student model has a baseline"
            )
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
            noises=tuple(
                noise
                for noise in one.swept()["noise"]
                if noise in (figure.select or {}).get("noise", [noise])
            ),
            points=one.points(figure.select) if one.trains else {},
            lines=one.lines(figure.select),
            baseline_datasets=figure.baseline,
        )


def _check_name(where: str, kind: str, name: str, known: Collection[str]) -> None:
    """Raises GrokphaseError for the name of a point or line that there is not."""
    if name not in known:
        raise GrokphaseError(unknown(where, name, kind, known))


def load_config(source: Mapping[str, Any] | Path, scale: str | None = None) -> Config:
    """Validate a configuration (a mapping, or a YAML file) at one scale; by default at that which
    it names, or at the paper's.

    A key of an experiment or figure that is null is as if it were not there, and so is an
    experiment or figure: that is how a file on top of another takes something away. Raises
    GrokphaseError with every problem found, each naming its key.
    """
    raw = _read_whole(source) if isinstance(source, Path) else dict(source)
    scales = raw.pop("scales", None)
    scale = scale or raw.pop("scale", None) or DEFAULT_SCALE
    raw.pop("scale", None)
    wrong_scale = scale_problems(scales, scale, raw)
    if wrong_scale:
        raise _invalid(wrong_scale)
    assert isinstance(scales, Mapping)
    merged = _without_nulls(raw, _merge(raw, {} if scales[scale] is None else scales[scale]))
    problems: list[str] = []
    broken: set[Any] = set()
    try:
        config = Config(**{"scale": scale} | {str(key): value for key, value in merged.items()})
    except ValidationError as error:
        problems = [explain(one, Config) for one in error.errors()]
        broken = {one["loc"][1] for one in error.errors() if "sweep" in one["loc"][2:4]}
    problems += cross_problems(merged, broken)
    if problems:
        raise _invalid(problems)
    return config


def _without_nulls(raw: Mapping[str, Any], merged: Mapping[str, Any]) -> dict[str, Any]:
    """The merged configuration without what is null, in it or in the file without its scale."""

    def kept(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: kept(inner) for key, inner in value.items() if inner is not None}

    result = dict(merged)
    for kind in ("experiments", "figures"):
        if isinstance(merged.get(kind), Mapping):
            before = raw[kind] if isinstance(raw.get(kind), Mapping) else {}
            dropped = {name for name, one in before.items() if one is None}
            result[kind] = {k: v for k, v in kept(merged[kind]).items() if k not in dropped}
    return result


def _invalid(problems: list[str]) -> GrokphaseError:
    return GrokphaseError("the configuration is not valid:\n  " + "\n  ".join(problems))


def _read_whole(path: Path) -> dict[str, Any]:
    """A configuration file on top of the folder's config.yaml, as Snakemake's --configfile."""
    raw, base = read_configuration_file(path), Path("config.yaml")
    if not base.is_file() or base.samefile(path):
        return raw
    return _merge(read_configuration_file(base), raw)


def read_configuration_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, not yet validated.

    Raises GrokphaseError for a file that is absent, no YAML or no mapping, and for a key that
    occurs twice in one mapping, of which YAML would silently take the last.
    """
    text = configuration_text(path)
    try:
        value = yaml.safe_load(text)
        repeated = _repeated_keys(yaml.compose(text))
    except RecursionError:
        raise GrokphaseError(f"{path} refers to itself by an alias (&, *)") from None
    except yaml.YAMLError as error:
        raise GrokphaseError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(value, dict):
        raise GrokphaseError(f"{path} must hold a mapping with experiments and figures")
    if repeated:
        raise GrokphaseError(f"{path} is not valid:\n  " + "\n  ".join(dict.fromkeys(repeated)))
    return value


def configuration_text(path: Path) -> str:
    """The text of a configuration file.

    Raises GrokphaseError for a file that is absent, cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise GrokphaseError(f"there is no configuration file {path}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise GrokphaseError(
            f"{path} cannot be read as a configuration file: line {line} is not UTF-8 "
            f"({error.object[error.start : error.end]!r}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise GrokphaseError(f"{path} cannot be read as a configuration file: {error}") from None


def _repeated_keys(node: yaml.Node | None) -> list[str]:
    """Where a mapping of a YAML document has a key that it had before."""
    if isinstance(node, yaml.SequenceNode):
        return [problem for item in node.value for problem in _repeated_keys(item)]
    if not isinstance(node, yaml.MappingNode):
        return []
    problems = []
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in first_lines:
            problems.append(
                f"line {line}: {name} was given before, in line {first_lines[name]}: keep one"
            )
        first_lines.setdefault(name, line)
        problems += _repeated_keys(value)
    return problems


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
