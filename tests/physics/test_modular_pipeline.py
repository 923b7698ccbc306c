"""Modular addition through the stages at a tiny size: theory tables, training, aggregation."""

import contextlib
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pytest
from grokphase import modular_aggregation, modular_prediction, training
from grokphase.config import load_config
from grokphase.datasets import generate_dataset, read_dataset, write_dataset
from grokphase.errors import GrokphaseError
from grokphase.layout import AGGREGATES
from grokphase.models import modular_addition as model
from grokphase.parameters import ModularAddition
from grokphase.sampling.checkpoint import Checkpoint
from grokphase.specifications.aggregation import AggregationSpecification
from grokphase.specifications.convergence import Convergence
from grokphase.specifications.dataset import PairOrderSpecification
from grokphase.specifications.theory import ModularTheory, ModularTheorySpecification
from grokphase.specifications.training import (
    Annealing,
    Networks,
    PlantedWaves,
    TrainingSpecification,
)
from grokphase.storage import read_table
from grokphase.tables import modular_aggregates, shards
from grokphase.tables.observables import OBSERVABLES
from grokphase.theory import modular_addition as theory
from scipy.integrate import quad

ROOT = Path(__file__).parents[2]
PAPER = ModularAddition(prime=401, width=1000, readout_variance=2e-6, sextic_decay=1e-4, noise=0.2)
TINY = ModularAddition(
    prime=7, width=12, readout_variance=1e-5, sextic_decay=4.0, noise=1e-4, train_fraction=0.6
)
NETWORKS = Networks(prior=1, planted=1)
HAMILTONIAN = {"kernel": "hamiltonian", "step_size": 0.02, "leapfrog_steps": 4}


def specification(**changes):
    values = {
        "experiment": "e",
        "seed": 1,
        "point": "noise~0.0001",
        "model": "modular_addition",
        "parameters": TINY,
        "kernel": HAMILTONIAN,
        "burn_in": 4,
        "draws": 6,
        "thin": 1,
        "networks": NETWORKS,
        "planted": PlantedWaves(waves=3),
    }
    return TrainingSpecification(**values | changes)


def order(dataset):
    return PairOrderSpecification(experiment="e", seed=1, dataset=dataset, prime=7)


@pytest.fixture(scope="module")
def shard_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    files = []
    for dataset in range(2):
        write_dataset(order(dataset), folder / f"{dataset}.npz")
        files.append(folder / f"{dataset}.parquet")
        training.train(specification(), {dataset: folder / f"{dataset}.npz"}, files[-1], folder, "")
    return files


def test_pair_order_is_a_permutation_of_its_own(tmp_path):
    rank = generate_dataset(order(0)).rank
    assert rank.shape == (7, 7)
    assert sorted(rank.ravel()) == list(range(49))
    assert (rank != generate_dataset(order(1)).rank).any()
    write_dataset(order(0), tmp_path / "x.npz")
    np.testing.assert_array_equal(read_dataset(tmp_path / "x.npz", order(0)).rank, rank)
    trained = int(model.load_data(TINY, generate_dataset(order(0))).mask.sum())
    assert trained == round(0.6 * 49)


def test_a_shard_does_not_depend_on_how_jax_is_told_to_optimise(tmp_path):
    """The last bits of where networks begin would."""
    write_dataset(order(0), tmp_path / "0.npz")
    content = []
    for value in (True, False):
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", value)
        files = {0: tmp_path / "0.npz"}
        training.train(specification(), files, tmp_path / "shard", tmp_path / f"{value}", "")
        content.append((tmp_path / "shard").read_bytes())
    assert content[0] == content[1]


class Interrupted(BaseException):
    """The process is stopped."""


@pytest.mark.parametrize(
    "changes",
    [
        # Readouts that a sweep has fitted are stiff: burn-in, which accepts all, needs short steps.
        {"neuron_sweeps": 1, "kernel": HAMILTONIAN | {"step_size": 0.002}},
        {"collapsed_readout": True, "kernel": HAMILTONIAN | {"metropolis": False}},
        {
            "networks": Networks(prior=0, planted=0, cooled=1, heated=1),
            "annealing": Annealing(highest_noise=3e-4, lowest_noise=5e-5),
        },
    ],
    ids=["sweeps", "collapsed", "annealed"],
)
def test_a_run_interrupted_at_every_block_gives_the_same_bytes(
    tmp_path, monkeypatch, program_folder, changes
):
    """Blocks of three draws; each attempt is stopped after one more checkpoint."""
    whole = TINY.model_copy(update={"train_fraction": 1.0})
    spec = specification(parameters=whole, **changes)
    write_dataset(order(0), tmp_path / "0.npz")
    monkeypatch.setattr(training, "block_size", lambda *arguments: 3)
    data = {0: tmp_path / "0.npz"}
    programs = {"program_folder": program_folder}
    training.train(spec, data, tmp_path / "expected", tmp_path / "one", "", **programs)
    save = Checkpoint.save

    def save_and_stop(self, arrays):
        save(self, arrays)
        raise Interrupted

    # Two blocks of burn-in (3 + 1 draws), two of draws, and the finished state.
    monkeypatch.setattr(Checkpoint, "save", save_and_stop)
    for _ in range(5):
        with pytest.raises(Interrupted):
            training.train(spec, data, tmp_path / "resumed", tmp_path / "two", "", 0, **programs)
    assert not (tmp_path / "resumed").exists()
    training.train(spec, data, tmp_path / "resumed", tmp_path / "two", "", 0, **programs)
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "expected").read_bytes()


@pytest.mark.parametrize("metropolis", [True, False])
def test_potentials_too_large_for_single_precision_reject_nothing(tmp_path, metropolis):
    """So weak a decay that waves are huge: ten million nats, of which the last digit is one."""
    parameters = TINY.model_copy(
        update={"train_fraction": 1.0, "sextic_decay": 1e-11, "readout_variance": 1e-30}
    )
    kernel = HAMILTONIAN | {"step_size": 1e-4, "metropolis": metropolis}
    spec = specification(parameters=parameters, kernel=kernel, planted=PlantedWaves(waves=1))
    write_dataset(order(0), tmp_path / "0.npz")
    job = ({0: tmp_path / "0.npz"}, tmp_path / "shard", tmp_path, "")
    wanted = contextlib.nullcontext()
    if metropolis:
        wanted = pytest.raises(GrokphaseError, match="nats, which single precision holds to")
    with wanted:
        training.train(spec, *job)
    assert (tmp_path / "shard").exists() == (not metropolis)


@pytest.mark.parametrize("scale", ["paper", "quick"])
def test_what_is_shipped_can_be_accepted_by_its_potentials(scale):
    """A network that has learned the table lies at minus the loss of zero output."""
    config = load_config(ROOT / "config.yaml", scale)
    judged = [
        point
        for name, experiment in config.experiments.items()
        if experiment.model == "modular_addition" and experiment.trains
        for place, point in experiment.points().items()
        if config.training(name, place).kernel["metropolis"]
    ]
    assert len(judged) >= 3
    for point in judged:
        lowest = point.train_fraction * model.zero_loss(point.prime) / point.noise
        assert lowest * np.finfo(np.float32).eps < training.LARGEST_ENERGY_ERROR, point


@pytest.mark.parametrize(("prime", "width"), [(3, 2), (7, 2), (7, 1)])
def test_fewer_neurons_than_are_saved_are_all_saved(tmp_path, prime, width):
    parameters = TINY.model_copy(update={"prime": prime, "width": width, "train_fraction": 1.0})
    spec = specification(parameters=parameters, planted=PlantedWaves(waves=1))
    known = order(0).model_copy(update={"prime": prime})
    write_dataset(known, tmp_path / "0.npz")
    training.train(spec, {0: tmp_path / "0.npz"}, tmp_path / "shard", tmp_path, "")
    schema = shards.schema(OBSERVABLES["modular_addition"], "modular_addition")
    table = modular_aggregation.neurons(read_table(tmp_path / "shard", schema)).to_pandas()
    assert sorted(set(table["neuron"])) == list(range(width))
    assert set(table["weights"].map(len)) == {prime}


def test_shards_hold_finite_observables_and_every_mode(shard_files):
    observables = OBSERVABLES["modular_addition"]
    table = read_table(shard_files[0], shards.schema(observables, "modular_addition"))
    assert table["start"].to_pylist() == ["prior", "planted"]
    for name in observables:
        assert np.isfinite(np.stack(table[name].to_numpy())).all()
    for counts in table["power_counts"].to_pylist():
        assert sum(counts) == 6 * 12 * 3  # draws, neurons, frequencies
    saved = np.stack(table["neurons"].to_numpy())
    assert saved.shape == (2, shards.SAVED_NEURONS * 2 * 2 * 7)


def test_aggregates_of_both_starts(shard_files, tmp_path):
    observables = OBSERVABLES["modular_addition"]
    wanted = AggregationSpecification(
        point="noise~0.0001",
        model="modular_addition",
        training=specification(),
        datasets=2,
        networks_per_dataset=2,
        subsets=2,
        control_variates=True,
        stein_variates=True,
        convergence=Convergence(),
    )
    files = {name: tmp_path / name for name in AGGREGATES["modular_addition"]}
    modular_aggregation.aggregate(wanted, shard_files, *files.values())
    starts = read_table(files["starts"], modular_aggregates.STARTS).to_pandas()
    assert set(starts["start"]) == {"prior", "planted"}
    np.testing.assert_allclose(
        starts["mean"], (starts["first_half"] + starts["second_half"]) / 2, rtol=1e-5
    )
    np.testing.assert_allclose(starts["trace"].map(np.mean), starts["mean"], rtol=1e-5)
    assert set(starts["trace"].map(len)) == {6}
    losses = [
        read_table(path, shards.schema(observables, "modular_addition"))["train_loss"].to_pylist()
        for path in shard_files
    ]
    [found] = starts.query("start == 'planted' and observable == 'train_loss'").to_dict("records")
    difference = np.abs(np.subtract(losses[0][1], losses[1][1]))
    # The standard error of the mean of two is half of their difference.
    np.testing.assert_allclose(found["trace_error"], difference / 2, rtol=1e-5)
    histogram = read_table(files["histogram"], modular_aggregates.HISTOGRAM).to_pandas()
    modes = 2 * 6 * 12 * 3  # datasets, draws, neurons, frequencies; some lie beyond the bins
    share = histogram["density"] * shards.POWER_WIDTH**2
    np.testing.assert_allclose(share, histogram["count"] / modes, atol=1e-12)
    eigenvalues = read_table(files["eigenvalues"], modular_aggregates.EIGENVALUES).to_pandas()
    assert eigenvalues["frequency"].tolist() == [1, 2, 3] * 2
    saved = [
        np.stack(
            read_table(path, shards.schema(observables, "modular_addition"))[
                "target_eigenvalues"
            ].to_numpy()
        )
        for path in shard_files
    ]
    np.testing.assert_allclose(eigenvalues["eigenvalue"], np.mean(saved, axis=0).ravel(), rtol=1e-6)
    neurons = read_table(files["neurons"], modular_aggregates.NEURONS).to_pandas()
    assert len(neurons) == 2 * shards.SAVED_NEURONS * 2 * 2


def test_target_eigenvalues_are_those_of_the_kernel():
    """Against the kernel tabulated over all pairs, on the mode phi_kk; and 4 sigma_a^2 at the
    prior, 5 standard errors of 20 000 neurons (false alarm < 1e-5)."""
    first, second = np.random.default_rng(3).normal(size=(2, 4, 7))
    found = model.target_eigenvalues(first, second, 2.0)
    hidden = (first[:, :, None] + second[:, None, :]) ** 2
    n, m = np.meshgrid(range(7), range(7), indexing="ij")
    for k, value in enumerate(found, start=1):
        mode = np.exp(2j * np.pi * k * (n + m) / 7) / 7
        exact = 2.0 * np.mean(np.abs((hidden * mode).sum(axis=(1, 2))) ** 2)
        assert value == pytest.approx(exact, rel=1e-5)
    first, second = np.random.default_rng(4).normal(size=(2, 20_000, 7))
    # |w_k|^2, |v_k|^2 are exponential: their product's variance is 3 times its squared mean.
    np.testing.assert_allclose(
        model.target_eigenvalues(first, second, 1.0), 4, rtol=5 * np.sqrt(3 / 20_000)
    )


def test_counts_fall_into_the_bin_of_their_root_powers():
    position = model.ModularNetwork(*np.zeros((3, 2, 7), np.float32))
    wave = 2 * np.sqrt(model.droplet_power(TINY)) * np.cos(2 * np.pi * 3 * np.arange(7) / 7)
    position.first[0], position.second[0] = wave, 0.5 * wave
    roots = np.asarray(model.order_parameters(position, TINY, None))
    np.testing.assert_allclose(roots[:, 0, 2], [1.0, 0.5], rtol=1e-6)
    shifted = roots + 0.5 * shards.POWER_WIDTH
    counts = np.asarray(model.count_powers(shifted))
    assert counts[0] == 5
    assert counts[20 * shards.POWER_BINS + 10] == 1
    assert counts.sum() == 6


def test_root_power_mass_against_adaptive_integration():
    """Without interaction both powers are independent, with a known one-dimensional density."""
    edges = np.arange(shards.POWER_BINS + 1) * shards.POWER_WIDTH
    mass = theory.root_power_mass(0.0, TINY, edges).sum(axis=1)

    def density(root):
        return root * np.exp(-2 * theory.mode_action(root**2, 0.0, 0.0, 7, 4.0))

    total = quad(density, 0, 5)[0]
    exact = [quad(density, a, b)[0] / total for a, b in pairwise(edges)]
    np.testing.assert_allclose(mass, exact, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("closure", theory.CLOSURES)
def test_root_power_mass_resolves_the_peaks_of_the_published_size(closure):
    """Their widths are a hundredth and a thousandth of a bin; the barrier lies between them."""
    found = theory.branch(PAPER, np.array([0.2]), closure, "quadrature")
    unit = np.sqrt(theory.closed_form(PAPER, "corrected").power)
    edges = unit * np.arange(shards.POWER_BINS + 1) * shards.POWER_WIDTH
    mass = theory.root_power_mass(float(found.interaction[0]), PAPER, edges)
    assert mass.sum() == pytest.approx(1, rel=1e-12)
    droplets = mass[10:, 10:].sum()
    wanted = theory.mode_averages(found.interaction, PAPER.prime, PAPER.sextic_decay).side_mass[0]
    assert droplets == pytest.approx(wanted, rel=1e-6)


def test_theory_tables_at_the_published_size():
    wanted = ModularTheorySpecification(
        parameters=PAPER,
        noises=(0.2,),
        theory=ModularTheory(lowest_noise=0.15, highest_noise=0.26, noise_points=3),
    )
    transitions = modular_prediction.transition_table(wanted).to_pandas()
    limit = transitions.set_index(["closure", "average"]).loc[("as_published", "limit")]
    assert limit["noise_start"] == pytest.approx(0.2360, abs=5e-5)
    assert limit["noise_end"] == pytest.approx(0.1760, abs=5e-5)
    assert limit["discrepancy_end"] == pytest.approx(-0.746, abs=5e-4)
    assert limit["power"] == pytest.approx(173.2, abs=5e-2)
    branches = modular_prediction.branch_table(wanted).to_pandas()
    corrected = branches.query(
        "closure == 'corrected' and average == 'quadrature' and noise == 0.2"
    )
    assert not corrected["mean_field_holds"].iloc[0] or corrected["phase"].iloc[0] == "GFL"
    spectrum = modular_prediction.spectrum_table(wanted).to_pandas()
    assert spectrum.query("kernel == 'prior'")["multiplicity"].tolist() == [1, 800, 160_000]


def as_aggregated(**changes):
    values = {
        "point": "noise~0.0001",
        "model": "modular_addition",
        "training": specification(),
        "datasets": 2,
        "networks_per_dataset": 2,
        "subsets": 2,
        "control_variates": True,
        "stein_variates": True,
        "convergence": Convergence(),
    }
    return AggregationSpecification(**values | changes)


def test_aggregates_are_those_of_the_shards_in_place_and_order(shard_files, tmp_path):
    """Halves, traces, errors, joint bins and saved weights, against the shards' columns."""
    files = {name: tmp_path / name for name in AGGREGATES["modular_addition"]}
    modular_aggregation.aggregate(as_aggregated(), shard_files, *files.values())
    observables = OBSERVABLES["modular_addition"]
    schema = shards.schema(observables, "modular_addition")
    rows = pa.concat_tables([read_table(path, schema) for path in shard_files]).to_pylist()
    tables = {name: read_table(files[name], getattr(modular_aggregates, name.upper())).to_pandas()
              for name in ("starts", "histogram", "eigenvalues", "neurons")}  # fmt: skip
    for kind in ("prior", "planted"):
        mine = [row for row in rows if row["start"] == kind]
        here = {name: table[table["start"] == kind] for name, table in tables.items()}
        starts = here["starts"].set_index("observable")
        for name in observables:
            draws = np.array([row[name] for row in mine], float)
            found = starts.loc[name]
            assert found["first_half"] == pytest.approx(draws[:, :3].mean(), rel=1e-5)
            assert found["second_half"] == pytest.approx(draws[:, 3:].mean(), rel=1e-5)
            np.testing.assert_allclose(found["trace"], draws.mean(axis=0), rtol=1e-5)
            assert found["trace_stride"] == 1
        counts = np.array([row["power_counts"] for row in mine])
        histogram = here["histogram"]
        assert histogram["count"].tolist() == counts[:, :-1].sum(axis=0).tolist()
        bins = shards.POWER_BINS
        centres = (np.arange(bins) + 0.5) * shards.POWER_WIDTH
        np.testing.assert_allclose(histogram["first_root_power"], np.repeat(centres, bins))
        np.testing.assert_allclose(histogram["second_root_power"], np.tile(centres, bins))
        share = counts[:, :-1] / counts.sum(axis=1, keepdims=True) / shards.POWER_WIDTH**2
        error = share.std(axis=0, ddof=1) / np.sqrt(2)
        np.testing.assert_allclose(histogram["density_error"], error, rtol=1e-6)
        values = np.array([row["target_eigenvalues"] for row in mine])
        error = values.std(axis=0, ddof=1) / np.sqrt(2)
        np.testing.assert_allclose(here["eigenvalues"]["error"], error, rtol=1e-5)
        saved = np.array(mine[0]["neurons"]).reshape(-1, 2, 2, 7)
        for one in here["neurons"].to_dict("records"):
            moment, operand = (
                ("start", "end").index(one["moment"]),
                ("first", "second").index(one["operand"]),
            )
            np.testing.assert_array_equal(one["weights"], saved[one["neuron"], moment, operand])


def test_saved_neurons_are_the_most_concentrated_at_the_end():
    """A wave among noise comes first; its weights at the start before those at the end."""
    generator = np.random.default_rng(5)
    start, end = (
        model.ModularNetwork(*generator.standard_normal((3, 1, 20, 7)).astype(np.float32))
        for _ in range(2)
    )
    wave = np.cos(2 * np.pi * 2 * np.arange(7) / 7)
    end.first[0, 13], end.second[0, 13] = wave, 2 * wave
    saved = model.saved(start, end, TINY)["neurons"].reshape(-1, 2, 2, 7)
    assert len(saved) == min(shards.SAVED_NEURONS, 20)
    np.testing.assert_array_equal(saved[0, 0], [start.first[0, 13], start.second[0, 13]])
    np.testing.assert_array_equal(
        saved[0, 1], [wave.astype(np.float32), 2 * wave.astype(np.float32)]
    )


@pytest.mark.parametrize("train_fraction", [1.0, 0.6])
def test_observables_against_the_table_of_outputs(train_fraction):
    """Losses, accuracies, droplets and power, of the whole table and of a part of it."""
    of = TINY.model_copy(
        update={"train_fraction": train_fraction, "readout_variance": 0.05, "noise": 0.3}
    )
    data = model.load_data(of, generate_dataset(order(0)))
    position = model.place(jax.random.key(1), "prior", of, data, PlantedWaves())
    position = position._replace(
        first=position.first.at[:3].multiply(4), second=position.second.at[:3].multiply(4)
    )
    network = model.to_network(position, of)
    value, _ = model.target(of, data).potential_and_gradient(position)
    found = dict(
        zip(
            OBSERVABLES["modular_addition"],
            np.asarray(model.observables(position, value, of, data)),
            strict=True,
        )
    )
    output, target = (
        np.asarray(x, float) for x in (model.output_table(network), model.target_table(7))
    )
    squares = ((output - target) ** 2).sum(axis=2)
    correct = output.argmax(axis=2) == target.argmax(axis=2)
    train = np.asarray(data.mask)
    test = ~train if train_fraction < 1 else train
    for part, name in ((train, "train"), (test, "test")):
        assert found[f"{name}_loss"] == pytest.approx(squares[part].mean(), rel=1e-4)
        assert found[f"{name}_accuracy"] == pytest.approx(correct[part].mean(), rel=1e-6)
    powers = np.abs(np.fft.rfft(np.stack([network.first, network.second]), axis=-1) / 7) ** 2
    powers = powers[:, :, 1:]
    assert found["mean_power"] == pytest.approx(powers.mean() * 7, rel=1e-5)
    barrier = np.sqrt(3 / of.sextic_decay) / 3
    droplets = (np.sqrt(powers[0] * powers[1]) > barrier).sum()
    assert found["droplets_per_neuron"] == pytest.approx(droplets / of.width)
    assert 0 < droplets < 36
