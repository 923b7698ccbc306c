"""Aggregation: histogram of q, outputs and their errors on data with known statistics."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from grokphase import convergence
from grokphase.aggregation import (
    Action,
    Networks,
    Shards,
    action_of_datasets,
    aggregate,
    as_networks,
    chains_table,
    expected_counts,
    histogram,
    outputs,
    rebin,
)
from grokphase.config import load_config
from grokphase.convergence import judge
from grokphase.errors import GrokphaseError
from grokphase.models.umbrella_cost import PROFILE_NODES
from grokphase.overlap_density import overlap_density
from grokphase.sampling.chains import summarise
from grokphase.sampling.diagnostics import Diagnostics
from grokphase.specifications.aggregation import AggregationSpecification, Histogram
from grokphase.specifications.convergence import Convergence
from grokphase.specifications.training import Umbrella
from grokphase.storage import iterate_rows, read_table, write_table
from grokphase.tables import aggregates, shards
from grokphase.tables.observables import OBSERVABLES
from grokphase.tables.stein_moments import SteinMoments
from scipy.stats import chi2, kstest, norm, t

OBSERVED = OBSERVABLES["teacher_student"]
FINE_EDGES = np.concatenate(
    [
        [-np.inf],
        -shards.FINE_LIMIT + shards.FINE_WIDTH * np.arange(shards.FINE_BINS + 1),
        [np.inf],
    ]
)


CONFIG = load_config(Path(__file__).parents[2] / "config.yaml")
TRAINING = CONFIG.training("teacher_student", "noise~0.18/cubic_strength~-0.1").model_copy(
    update={"point": "noise~0.18"}
)


def specification(**changes):
    values = {
        "point": "noise~0.18",
        "training": TRAINING,
        "model": "teacher_student",
        "datasets": 20,
        "networks_per_dataset": 2,
        "subsets": 5,
        "control_variates": True,
        "stein_variates": True,
        "histogram": Histogram(),
        "convergence": Convergence(),
    }
    return AggregationSpecification(**values | changes)


def judged(networks, wanted=None):
    """The row of diagnostics of networks."""
    table = chains_table(networks, wanted or specification())
    return judge(table, "noise~0.18", Convergence()).to_pylist()[0]


def columns(table):
    return {name: table[name].to_numpy() for name in table.column_names}


# --- histogram ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bins",
    [
        Histogram(),
        Histogram(bin_width=0.01, bins=401 - 2),
        Histogram(bin_width=0.02, bins=61),
        Histogram(bin_width=0.1, bins=39),
        Histogram(bin_width=0.05, bins=1),
    ],
    ids=str,
)
def test_rebinned_counts_are_those_of_the_coarse_bins(bins):
    """Fine bins add up to coarse ones, the middle one centred on q = 0."""
    edges = (np.arange(bins.bins + 1) - bins.bins / 2) * bins.bin_width
    q = np.random.default_rng(0).uniform(-2.3, 2.3, (3, 20_000))
    fine = np.stack([np.histogram(row, FINE_EDGES)[0] for row in q])
    expected = np.stack([np.histogram(row, edges)[0] for row in q])
    np.testing.assert_array_equal(rebin(fine, bins), expected)
    assert edges[bins.bins // 2] == pytest.approx(-edges[bins.bins // 2 + 1])


def test_bins_are_symmetric_about_zero():
    """q -> -q reverses the coarse counts."""
    fine = np.random.default_rng(1).integers(0, 100, shards.FINE_BINS + 2)
    np.testing.assert_array_equal(rebin(fine[::-1], Histogram()), rebin(fine, Histogram())[::-1])
    middle = np.zeros(shards.FINE_BINS + 2, int)
    middle[1 + shards.FINE_BINS // 2 - 5 : 1 + shards.FINE_BINS // 2 + 5] = 1
    assert rebin(middle, Histogram())[30] == 10


def gaussian_counts(scale, networks, values):
    """Fine counts of N(0, scale^2), `values` per network."""
    probability = np.diff(norm(scale=scale).cdf(FINE_EDGES))
    return np.random.default_rng(2).multinomial(values, probability, size=networks)


def uncounted(counts):
    """Expected counts of training without sweeps."""
    return np.zeros((len(counts), 0))


def test_action_of_gaussian_overlaps_is_a_parabola():
    """-log p = q^2/(2 s^2) + log(s sqrt(2 pi)), averaged over each bin; errors of the right size.

    Chi-squared of all bins with the counting errors (false alarm 1e-5 on either side).
    """
    scale, networks, values = 0.4, 40, 20_000
    counts = gaussian_counts(scale, networks, values)
    table = columns(histogram(counts, uncounted(counts), np.arange(networks) // 8, Histogram()))
    assert table["count"].sum() == rebin(counts, Histogram()).sum()
    mass = norm(scale=scale).cdf(table["bin_right"]) - norm(scale=scale).cdf(table["bin_left"])
    z = (table["action"] + np.log(mass / 0.05)) * np.sqrt(table["count"])
    seen = table["count"] > 50
    assert seen.sum() > 50
    assert 1e-5 < chi2(seen.sum()).sf((z[seen] ** 2).sum()) < 1 - 1e-5

    centre = (table["bin_left"] + table["bin_right"]) / 2
    parabola = centre**2 / (2 * scale**2) + math.log(scale * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(table["action"][15:46], parabola[15:46], atol=0.03)
    np.testing.assert_allclose(table["action"][seen], -np.log(table["density"][seen]))

    # Five subsets: the squared error is chi-squared with 4 degrees of freedom about 1/count.
    ratio = (table["action_error"][seen] ** 2 * table["count"][seen]).mean()
    assert ratio == pytest.approx(1, abs=5 * math.sqrt(2 / 4 / seen.sum()))


def test_every_neuron_is_conserved():
    """With bins wide enough, counts sum to networks x draws x neurons and the density to one."""
    counts = gaussian_counts(0.2, 10, 3000)
    table = columns(histogram(counts, uncounted(counts), np.arange(10) // 2, Histogram()))
    assert table["count"].sum() == 10 * 3000
    assert table["density"].sum() * 0.05 == pytest.approx(1)
    assert table["networks"].max() == pytest.approx(10, rel=1e-2)


def test_what_lies_beyond_the_bins_stays_in_the_norm_of_the_density():
    counts = gaussian_counts(1.5, 10, 3000)
    table = columns(histogram(counts, uncounted(counts), np.arange(10) // 2, Histogram()))
    share = rebin(counts, Histogram()).sum() / counts.sum()
    assert share < 0.8
    assert table["density"].sum() * 0.05 == pytest.approx(share)


def test_empty_bins_have_no_action():
    counts = np.zeros((4, shards.FINE_BINS + 2), int)
    counts[:, 1 + shards.FINE_BINS // 2] = 7
    table = columns(histogram(counts, uncounted(counts), np.array([0, 0, 1, 1]), Histogram()))
    empty = np.arange(61) != 30
    assert np.isnan(table["action"][empty]).all()
    assert np.isnan(table["action_error"][empty]).all()
    assert table["action"][30] == pytest.approx(math.log(0.05))
    assert table["networks"].tolist() == [4 if i == 30 else 0 for i in range(61)]


def test_a_bin_seen_by_one_subset_has_an_error_of_order_one():
    counts = np.zeros((4, shards.FINE_BINS + 2), int)
    counts[:, 1 + shards.FINE_BINS // 2] = 1000
    counts[0, 1 + shards.FINE_BINS // 2 + 100] = 1
    table = columns(histogram(counts, uncounted(counts), np.arange(4), Histogram()))
    assert table["count"][40] == 1
    assert table["action_error"][40] == pytest.approx(1)


def test_expected_counts_decide_the_action_and_counts_stand_beside_it():
    """Exact expected counts of a Gaussian give its action where nothing was counted."""
    scale = 0.15
    counts = gaussian_counts(scale, 10, 3000)
    probability = np.diff(norm(scale=scale).cdf(FINE_EDGES))
    table = columns(
        histogram(counts, np.tile(3000 * probability, (10, 1)), np.arange(10) // 2, Histogram())
    )
    of_counts = columns(histogram(counts, uncounted(counts), np.arange(10) // 2, Histogram()))
    mass = norm(scale=scale).cdf(table["bin_right"]) - norm(scale=scale).cdf(table["bin_left"])
    far = (mass > 1e-15) & (table["count"] == 0)
    assert far.sum() > 10
    near = mass > 1e-15
    np.testing.assert_allclose(table["action"][near], -np.log(mass[near] / 0.05), rtol=1e-6)
    np.testing.assert_allclose(table["networks"][near], 10)
    assert np.abs(table["action_error"][near]).max() < 1e-6
    for name in ("action", "action_error"):
        np.testing.assert_array_equal(of_counts[name], table[f"counted_{name}"])
        np.testing.assert_array_equal(of_counts[name], of_counts[f"counted_{name}"])


def test_a_density_that_rests_on_one_network_says_so():
    expected = np.ones((6, shards.FINE_BINS + 2))
    expected[0, 1 + shards.FINE_BINS // 2] = 1e9
    counts = np.ones_like(expected, dtype=int)
    table = columns(histogram(counts, expected, np.arange(6) // 2, Histogram()))
    assert table["networks"][30] == pytest.approx(1, abs=0.2)
    assert table["networks"][31] == pytest.approx(5, abs=0.2)


def of_datasets(error, action=3.0):
    """An action of every bin with this error, as from profiles of six networks."""
    return Action(*(np.full(61, x) for x in (6.0, math.exp(-action), action, error)))


def test_profiles_decide_the_action_where_counts_rest_on_few_networks():
    """And from there outwards, whatever their error."""
    expected = np.ones((6, shards.FINE_BINS + 2))
    expected[1:, 1 + shards.FINE_BINS // 2 + 65 :] = 0
    counts = np.ones_like(expected, dtype=int)
    inputs = (counts, expected, np.arange(6) // 2, Histogram())
    without = columns(histogram(*inputs))
    assert (without["networks"][37:] < 2).all()
    assert (without["networks"][:37] > 0.75 * 6).all()
    for error in (0.0, 1e9):
        found = columns(histogram(*inputs, of_datasets(error)))
        outside = np.abs(np.arange(61) - 30) >= 7
        assert (found["action"][outside] == 3.0).all()
        assert (found["action_error"][outside] == error).all()
        assert (found["networks"][outside] == 6).all()
        np.testing.assert_array_equal(found["action"][~outside], without["action"][~outside])
        np.testing.assert_array_equal(found["counted_action"], without["counted_action"])


def gaussian_profiles(widths, variates):
    """Two networks of each dataset, whose profiles are those of a Gaussian of its width."""
    overlaps = np.linspace(0, 1.6, PROFILE_NODES)
    prior = math.sqrt(0.5 / 150)
    names = shards.schema(OBSERVED).names
    rows = {name: [] for name in names}
    for dataset, width in enumerate(widths):
        profile = overlaps**2 * (prior**-2 - width**-2) / 2
        for start in ("prior", "planted"):
            row = dict.fromkeys(OBSERVED, [0.0] * 3) | {
                "dataset": dataset,
                "start": start,
                "network": 0,
                "acceptance": 1.0,
                "sweep_acceptance": 1.0,
                "control_variates": variates[dataset],
                "stein_means": [],
                "stein_covariances": [],
                "overlap_counts": gaussian_counts(prior, 1, 600)[0],
                "expected_overlap_counts": gaussian_counts(prior, 1, 600)[0].astype(float),
                "overlap_profiles": np.tile(profile, 5),
            }
            for name in names:
                rows[name].append(row[name])
    return pa.Table.from_pydict(rows, schema=shards.schema(OBSERVED))


UMBRELLA = TRAINING.model_copy(
    update={
        "umbrella": Umbrella(overlaps=(0.5,), burn_in=0, draws=2),
        "draws": 3,
        "point": "noise~0.18",
    }
)


def test_the_last_control_variate_takes_its_share_of_the_action():
    """Precisions of the datasets are linear in the third variate: the action hardly varies else."""
    generator = np.random.default_rng(8)
    variates = generator.standard_normal((10, 3))
    prior = math.sqrt(0.5 / 150)
    widths = prior * (1 + 0.05 * variates[:, 2]) ** -0.5
    table = gaussian_profiles(widths, variates)
    networks = as_networks(Shards(table, {}), "teacher_student")
    found, plain = (
        action_of_datasets(table, networks, specification(training=UMBRELLA, datasets=10, **more))
        for more in ({}, {"control_variates": False})
    )
    place = 30 + 7  # q = 0.35, at 18 nats
    assert found.error[place] < plain.error[place] / 20
    typical = action_of_datasets(
        gaussian_profiles([prior] * 4, np.zeros((4, 3))),
        networks._replace(
            dataset=networks.dataset[:8], control_variates=networks.control_variates[:8]
        ),
        specification(training=UMBRELLA, datasets=4, subsets=2),
    )
    assert found.action[place] == pytest.approx(typical.action[place], abs=5 * found.error[place])


def test_the_action_of_a_typical_dataset_comes_from_its_profiles(tmp_path):
    """Profiles of which each dataset has its own, and those of the windows: a Gaussian of known
    width per dataset, the mean of whose actions is not the action of the mean."""
    prior = math.sqrt(0.5 / 150)
    widths = prior * np.array([0.9, 1.0, 1.1, 1.2])
    table = gaussian_profiles(widths, np.zeros((4, 3)))
    spec = specification(datasets=4, subsets=2, training=UMBRELLA)
    networks = as_networks(Shards(table, {}), "teacher_student")
    found = action_of_datasets(table, networks, spec)
    shown = np.abs(np.arange(61) - 30) <= 8
    left = (np.arange(61) - 30.5)[shown] * 0.05
    mass = [norm(scale=width).cdf(left + 0.05) - norm(scale=width).cdf(left) for width in widths]
    actions = -np.log(np.array(mass) / 0.05)
    # The density is taken at the middle of the fine bins: at 120 nats per unit, 0.015 off.
    np.testing.assert_allclose(found.action[shown], actions.mean(axis=0), rtol=1e-3, atol=1e-3)
    error = actions.std(axis=0, ddof=1) / 2
    np.testing.assert_allclose(found.error[shown], error, rtol=1e-2, atol=1e-3)
    assert (found.networks == 8).all()
    assert action_of_datasets(table, networks, specification(datasets=4, subsets=2)) is None


# --- outputs --------------------------------------------------------------------------------------


def no_stein_variates(networks):
    return SteinMoments(np.zeros((networks, 0)), np.zeros((networks, 0, 0)))


def synthetic(
    between=2.0, within=1.0, repeats=300, datasets=20, networks=2, draws=50, explained=None, seed=3
):
    """Many independent observables: dataset effect + white noise of each draw.

    `explained` adds that coefficient times two statistics of the dataset, the control variates;
    without it there are none.
    """
    generator = np.random.default_rng(seed)
    dataset = np.repeat(np.arange(datasets), networks)
    effect = between * generator.standard_normal((repeats, datasets))[:, dataset]
    variates = np.zeros((len(dataset), 0))
    if explained is not None:
        variates = generator.standard_normal((datasets, 2))[dataset]
        effect = effect + explained * variates.sum(axis=1)
    noise = within * generator.standard_normal((repeats, len(dataset), draws))
    return Networks(
        dataset,
        ["prior", "planted"] * datasets,
        np.ones(len(dataset)),
        np.ones(len(dataset)),
        {f"o{i}": summarise(5 + effect[i][:, None] + noise[i]) for i in range(repeats)},
        np.zeros((len(dataset), shards.FINE_BINS + 2), int),
        np.zeros((len(dataset), 0)),
        variates,
        no_stein_variates(len(dataset)),
    )


def test_control_variates_remove_what_they_explain():
    """The error is that of the unexplained part, and the mean has that error.

    The variance of the intercept is between^2 (A^T A)^-1_00 for the given variates; 300
    observables, 5 standard errors (false alarm < 1e-5).
    """
    networks = synthetic(between=0.1, within=0.0, explained=3.0)
    table = columns(outputs(networks, specification()))
    design = np.column_stack([np.ones(20), networks.control_variates[::2]])
    variance = 0.1**2 * np.linalg.inv(design.T @ design)[0, 0]
    tolerance = 5 * math.sqrt(2 / 17 / 300)
    assert (table["dataset_error"] ** 2).mean() / variance == pytest.approx(1, abs=tolerance)
    scatter = ((table["mean"] - 5) ** 2).mean() / variance
    assert scatter == pytest.approx(1, abs=5 * math.sqrt(2 / 300))
    assert np.abs(table["raw_mean"] - 5).mean() > 5 * np.abs(table["mean"] - 5).mean()


def test_stein_variates_remove_what_they_explain():
    """One variate that is twice the deviation of every draw: the datasets' effect remains."""
    generator = np.random.default_rng(4)
    effect = generator.standard_normal(20)
    noise = generator.standard_normal((40, 50))
    draws = np.repeat(effect, 2)[:, None] + noise
    square = noise.var(axis=1)
    stein = SteinMoments(
        2 * noise.mean(axis=1)[:, None], np.stack([2 * square, 4 * square], 1)[..., None]
    )
    networks = synthetic(repeats=1)._replace(draws={"o0": summarise(draws)}, stein=stein)
    found = columns(outputs(networks, specification()))
    off = columns(outputs(networks, specification(stein_variates=False)))
    assert found["mean"] == pytest.approx(effect.mean(), abs=1e-9)
    assert found["dataset_error"] == pytest.approx(effect.std(ddof=1) / np.sqrt(20))
    assert off["mean"] == off["raw_mean"] == found["raw_mean"] == pytest.approx(draws.mean())


def nearly_explained(gap):
    """40 networks in two starts, `gap` apart after adjustment, of spread 0.01 instead of 1."""
    generator = np.random.default_rng(5)
    left = 0.01 * generator.standard_normal((40, 1))
    left[1::2] += gap  # Prior starts and planted ones take turns.
    noise = generator.standard_normal((40, 50))
    square = noise.var(axis=1)
    stein = SteinMoments(noise.mean(axis=1)[:, None], np.stack([square, square], 1)[..., None])
    return synthetic(repeats=1)._replace(draws={"o0": summarise(left + noise)}, stein=stein)


@pytest.mark.parametrize("gap", [0.0, 0.02])
def test_starts_that_differ_once_they_are_adjusted_are_not_converged(gap):
    """The gap is far below the spread of a network's plain mean, 0.14, and six of its errors."""
    schema = aggregates.diagnostics(("o0",))
    assert "adjusted_start_difference_o0" in schema.names
    row = judged(nearly_explained(gap))
    problem = "the starts of o0, adjusted for Stein variates, differ by"
    assert (problem in row["problems"]) == (not row["converged"]) == (gap > 0)
    assert (abs(row["adjusted_start_difference_o0"]) > 4) == (gap > 0)
    plain = specification(stein_variates=False)
    row = judged(nearly_explained(gap), plain)
    assert row["converged"]
    assert math.isnan(row["adjusted_start_difference_o0"])


def test_a_kernel_that_hardly_moves_has_not_converged():
    """Networks that stay where they are agree as well as any, if both starts leave them there."""
    networks = synthetic(repeats=1)
    slow = networks._replace(acceptance=np.full(40, 0.05))
    row = judged(slow)
    assert not row["converged"]
    assert row["problems"] == "0.050 of the proposals are accepted < 0.1"
    assert judged(networks)["converged"]


def test_control_variates_can_be_switched_off():
    """Then the mean is the raw mean, and the errors are those of the raw values."""
    networks = synthetic(between=0.1, within=0.0, explained=3.0)
    table = columns(outputs(networks, specification(control_variates=False)))
    np.testing.assert_allclose(table["mean"], table["raw_mean"])
    np.testing.assert_allclose(table["dataset_error"], table["dataset_spread"] / np.sqrt(20))


@pytest.mark.parametrize("datasets", [10, 20])
@pytest.mark.parametrize("explained", [0.0, 5.0])
def test_means_with_control_variates_are_right_within_their_errors(explained, datasets):
    """(mean - truth)/dataset_error is Student's t with D - 3 degrees of freedom.

    Kolmogorov-Smirnov over ten draws of the control variates, 100 observables each (1e-5).
    """
    sizes = {"datasets": datasets, "networks": 1, "draws": 2, "repeats": 100}
    ratios = []
    for seed in range(10):
        networks = synthetic(explained=explained, seed=seed, **sizes)
        table = columns(outputs(networks, specification(datasets=datasets)))
        ratios.append((table["mean"] - 5) / table["dataset_error"])
    assert kstest(np.concatenate(ratios), t(datasets - 3).cdf).pvalue > 1e-5


def test_both_errors_agree_with_control_variates():
    """The variances have one expectation; the subsets' varies by 14 % with the control variates.

    Over 40 draws of those, 50 observables each, 5 standard errors are 13 %.
    """
    ratios = []
    for seed in range(40):
        networks = synthetic(explained=5.0, seed=seed, datasets=10, networks=1, repeats=50, draws=2)
        table = columns(outputs(networks, specification(datasets=10)))
        ratios.append((table["subset_error"] ** 2).mean() / (table["dataset_error"] ** 2).mean())
    assert np.mean(ratios) == pytest.approx(1, abs=0.13)


def test_few_datasets_do_without_control_variates():
    """A regression on two variates needs eight datasets."""
    networks = synthetic(datasets=6, explained=3.0)
    options = {"datasets": 6, "subsets": 3}
    table = outputs(networks, specification(**options))
    assert table == outputs(networks, specification(**options, control_variates=False))


def test_errors_come_from_datasets():
    """Variance of the mean = between^2/D + within^2/(D m T); both errors estimate it.

    300 observables; 5 standard errors of a chi-squared mean (false alarm < 1e-5).
    """
    table = columns(outputs(synthetic(), specification()))
    variance = 2.0**2 / 20 + 1.0 / (20 * 2 * 50)
    for name, degrees in (("subset_error", 4), ("dataset_error", 19)):
        ratio = (table[name] ** 2).mean() / variance
        assert ratio == pytest.approx(1, abs=5 * math.sqrt(2 / degrees / 300)), name
    assert ((table["mean"] - 5) ** 2).mean() / variance == pytest.approx(
        1, abs=5 * math.sqrt(2 / 300)
    )
    assert (table["dataset_spread"] ** 2).mean() == pytest.approx(20 * variance, rel=0.1)
    assert (table["network_spread"] ** 2).mean() == pytest.approx(1, rel=0.02)


def test_more_networks_per_dataset_do_not_shrink_the_error():
    """Networks of one dataset are not independent measurements."""
    few = columns(outputs(synthetic(networks=1), specification()))["subset_error"]
    many = columns(outputs(synthetic(networks=8), specification()))["subset_error"]
    assert np.sqrt((many**2).mean() / (few**2).mean()) == pytest.approx(1, abs=0.15)


def test_outputs_of_known_numbers():
    """Two subsets of two datasets, one network each."""
    networks = Networks(
        np.arange(4),
        ["prior"] * 4,
        np.ones(4),
        np.ones(4),
        {"x": summarise(np.array([[1.0, 3], [3, 5], [9, 11], [11, 13]]))},
        np.zeros((4, shards.FINE_BINS + 2), int),
        np.zeros((4, 0)),
        np.zeros((4, 0)),
        no_stein_variates(4),
    )
    row = outputs(networks, specification(datasets=4, subsets=2, networks_per_dataset=1))
    found = row.to_pylist()[0]
    assert found["observable"] == "x"
    assert found["mean"] == pytest.approx(7)
    assert found["raw_mean"] == 7
    assert found["subset_error"] == pytest.approx(4)  # means 3 and 11
    spread = np.std([2, 4, 10, 12], ddof=1)
    assert found["dataset_spread"] == pytest.approx(spread)
    assert found["dataset_error"] == pytest.approx(spread / 2)
    assert found["network_spread"] == pytest.approx(np.sqrt(2))


# --- the whole stage ------------------------------------------------------------------------------


def write_shard(path, datasets, shift=0.0, seed=0, length=60, point="noise~0.18"):
    """Two networks per dataset of white noise; planted ones moved by `shift`."""
    generator = np.random.default_rng(seed)
    columns = {name: [] for name in shards.schema(OBSERVED).names}
    for dataset in datasets:
        for start in ("prior", "planted"):
            columns["dataset"].append(dataset)
            columns["start"].append(start)
            columns["network"].append(0)
            columns["acceptance"].append(0.75)
            columns["sweep_acceptance"].append(np.nan)
            columns["control_variates"].append([0.1 * dataset, -0.2])
            columns["stein_means"].append([])
            columns["stein_covariances"].append([])
            for name in OBSERVED:
                draws = generator.standard_normal(length) + 10 * dataset
                columns[name].append(draws + shift * (start == "planted"))
            columns["overlap_counts"].append(gaussian_counts(0.3, 1, 600)[0])
            columns["expected_overlap_counts"].append([])
            columns["overlap_profiles"].append([])
    table = pa.Table.from_pydict(columns, schema=shards.schema(OBSERVED))
    trained = TRAINING.model_copy(update={"point": point}).model_dump(mode="json")
    write_table(path, table, {"specification": trained})
    return path


NAMES = ("histogram", "outputs", "chains")


def run(tmp_path, files):
    spec = specification(datasets=4, subsets=2)
    aggregate(spec, files, *(tmp_path / name for name in NAMES))
    return (
        read_table(tmp_path / "histogram", aggregates.HISTOGRAM),
        read_table(tmp_path / "outputs", aggregates.OUTPUTS),
        judge(read_table(tmp_path / "chains", aggregates.CHAINS), spec.point, Convergence()),
    )


def test_shards_are_combined_in_any_order(tmp_path):
    files = [write_shard(tmp_path / "a", [0, 1]), write_shard(tmp_path / "b", [2, 3], seed=1)]
    table, averages, diagnostics = run(tmp_path, files)
    written = [(tmp_path / name).read_bytes() for name in NAMES]
    run(tmp_path, files[::-1])
    assert [(tmp_path / name).read_bytes() for name in NAMES] == written
    assert sum(table["count"].to_pylist()) == 8 * 600
    assert averages["observable"].to_pylist() == list(OBSERVED)
    assert averages["mean"].to_pylist() == pytest.approx([15] * len(OBSERVED), abs=1)
    [row] = diagnostics.to_pylist()
    assert (row["networks"], row["draws"], row["acceptance"]) == (8, 60, 0.75)
    assert row["converged"]
    assert row["problems"] == ""


def test_expected_counts_of_sweeps_that_reject_are_not_used(caplog):
    """The densities that the sweeps propose from are then not those of the neurons."""
    networks = Networks(
        np.arange(4),
        ["prior"] * 4,
        np.ones(4),
        np.array([0.98, 0.97, 0.96, 0.97]),
        {},
        np.zeros((4, shards.FINE_BINS + 2), int),
        np.ones((4, shards.FINE_BINS + 2)),
        np.zeros((4, 0)),
        no_stein_variates(4),
    )
    np.testing.assert_array_equal(expected_counts(networks), networks.expected_counts)
    one_sided = networks.expected_counts.copy()
    one_sided[:, 5] = 3.0
    both = expected_counts(networks._replace(expected_counts=one_sided))
    assert (both[:, [5, -6]] == 2.0).all()
    assert not caplog.text
    worse = networks._replace(sweep_acceptance=np.full(4, 0.9))
    assert expected_counts(worse).shape == (4, 0)
    assert "accept only 0.90 of their proposals" in caplog.text


def test_starts_that_disagree_have_not_converged(tmp_path):
    files = [write_shard(tmp_path / "a", range(4), shift=3.0)]
    [row] = run(tmp_path, files)[2].to_pylist()
    assert row["point"] == "noise~0.18"
    assert not row["converged"]
    assert "nested R-hat of cubic_overlap" in row["problems"]


def problems(draws, starts):
    """What the verdict says of networks with these draws [networks, draws]."""
    names = np.array(starts)
    networks = Networks(
        np.arange(len(names)) // 2,
        names,
        np.ones(len(names)),
        np.ones(len(names)),
        {name: summarise(draws) for name in OBSERVED},
        np.zeros((len(names), shards.FINE_BINS + 2), int),
        np.zeros((len(names), 0)),
        np.zeros((len(names), 0)),
        no_stein_variates(len(names)),
    )
    return judged(networks)["problems"]


@pytest.mark.parametrize("draws", [8, 40])
def test_networks_that_stand_still_pass_by_their_number_only_if_draws_are_few(draws):
    """Sixty networks, each with a value of its own: more than the 50 that are asked for."""
    generator = np.random.default_rng(2)
    still = generator.standard_normal((60, 1)) + 1e-3 * generator.standard_normal((60, draws))
    found = problems(still, ["prior", "planted"] * 30)
    assert ("ESS of cubic_overlap is" in found) == (draws == 40)
    assert ("< 120" in found) == (draws == 40)


def test_what_cannot_be_judged_is_said_in_words():
    noise = np.random.default_rng(0).standard_normal
    both = ["prior", "planted"]
    few = problems(noise((4, 3)), both * 2)
    assert few == "it takes 2 networks and 4 draws of each to judge"
    assert "a drift of cubic_overlap cannot be seen with one network" in problems(
        noise((2, 40)), both
    )
    all_alike = np.repeat([[0.0, 1.0]], 20, axis=1) + np.arange(4)[:, None]
    assert "differs from the first equally in every network" in problems(all_alike, both * 2)
    for found in (few, problems(noise((2, 40)), both), problems(all_alike, both * 2)):
        assert "nan" not in found
        assert "inf" not in found


def test_networks_of_other_settings_are_refused(tmp_path):
    """As of a stage run by hand with another configuration."""
    files = [write_shard(tmp_path / "a", range(4))]
    wider = TRAINING.model_copy(
        update={"parameters": TRAINING.parameters.model_copy(update={"width": 701})}
    )
    spec = specification(datasets=4, subsets=2, training=wider)
    with pytest.raises(GrokphaseError, match=r"other settings than are wanted \(parameters\)"):
        aggregate(spec, files, *(tmp_path / name for name in NAMES))


@pytest.mark.parametrize("datasets", [[0, 1, 2], [0, 1, 2, 2], [0, 1, 2, 3, 4]])
def test_shards_with_other_networks_are_refused(tmp_path, datasets):
    with pytest.raises(GrokphaseError, match=r"2 networks of each of 4 datasets are wanted"):
        run(tmp_path, [write_shard(tmp_path / "a", datasets)])


def test_shards_of_another_point_are_refused(tmp_path):
    files = [write_shard(tmp_path / "a", range(2))]
    files.append(write_shard(tmp_path / "b", range(2, 4), point="noise~0.2"))
    with pytest.raises(GrokphaseError, match=r"/b holds networks of the point noise~0.2, not of"):
        run(tmp_path, files)


def test_a_damaged_shard_is_named(tmp_path):
    path = write_shard(tmp_path / "a", range(4))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(GrokphaseError, match=r"/a is truncated or damaged"):
        run(tmp_path, [path])


def test_chains_are_read_one_at_a_time(tmp_path):
    """While one of sixteen is held, with its levels in the file, the others are not."""
    length = 100_000
    path = write_shard(tmp_path / "a", range(8), length=length)
    before, held, rows = pa.total_allocated_bytes(), [], 0
    for row in iterate_rows(path, shards.schema(OBSERVED), OBSERVED[0]):
        rows += 1
        assert len(row) == length
        held.append(pa.total_allocated_bytes() - before)
    assert rows == 16
    assert max(held) < 4 * (4 * length)


def test_networks_with_different_numbers_of_draws_are_refused(tmp_path):
    files = [write_shard(tmp_path / "a", [0, 1]), write_shard(tmp_path / "b", [2, 3], length=61)]
    with pytest.raises(GrokphaseError, match=r"different numbers of draws.*delete"):
        run(tmp_path, files)


def test_profiles_are_those_of_the_posterior_and_then_of_each_window():
    """Three draws of the posterior and two of each of two windows, each with a shape of its own."""
    overlaps, prior = np.linspace(0, 1.6, PROFILE_NODES), math.sqrt(0.5 / 150)
    windows = Umbrella(overlaps=(0.3, 0.5), burn_in=1, draws=2)
    training = UMBRELLA.model_copy(update={"umbrella": windows})
    shapes = [curvature * overlaps**2 for curvature in (0.0, 40.0, 60.0)]
    table = gaussian_profiles([prior] * 4, np.zeros((4, 3)))
    networks = as_networks(Shards(table, {}), "teacher_student")
    place = table.schema.get_field_index("overlap_profiles")
    of_network = np.concatenate([np.tile(x, n) for x, n in zip(shapes, (3, 2, 2), strict=True)])
    column = pa.array([of_network] * len(table), table.schema.field(place).type)
    table = table.set_column(place, table.schema.field(place), column)
    found = action_of_datasets(
        table, networks, specification(datasets=4, subsets=2, training=training)
    )
    parts = [np.tile(x, (n, 1)) for x, n in zip(shapes, (6, 4, 4), strict=True)]
    density = overlap_density(parts, overlaps, prior, windows)
    wanted = -np.log(rebin(density.shares, Histogram()) / 0.05)
    np.testing.assert_allclose(found.action, wanted, rtol=1e-6)
    np.testing.assert_allclose(found.density, np.exp(-found.action))


def test_beyond_the_profiles_nothing_is_said_of_the_action_and_counts_decide():
    """Profiles end at 1.6, in the middle of a bin."""
    prior, bins = math.sqrt(0.5 / 150), Histogram(bin_width=0.05, bins=71)
    table = gaussian_profiles([prior] * 4, np.zeros((4, 3)))
    networks = as_networks(Shards(table, {}), "teacher_student")
    spec = specification(datasets=4, subsets=2, training=UMBRELLA, histogram=bins)
    profiles = action_of_datasets(table, networks, spec)
    outside = np.abs(np.arange(71) - 35) > 31
    assert np.isnan(profiles.action).tolist() == outside.tolist()
    assert (profiles.networks[outside] == 0).all()
    expected = np.ones((6, shards.FINE_BINS + 2))
    expected[0, 1 + shards.FINE_BINS // 2 + 70] = 1e6
    inputs = (np.ones_like(expected, dtype=int), expected, np.arange(6) // 2, bins)
    found, without = columns(histogram(*inputs, profiles)), columns(histogram(*inputs))
    np.testing.assert_array_equal(found["action"][outside], without["action"][outside])
    assert np.isfinite(found["action"]).all()
    np.testing.assert_allclose(found["density"], np.exp(-found["action"]))


@pytest.mark.parametrize(("contribute", "decide"), [(4, "profiles"), (5, "counts")])
def test_counts_decide_where_three_quarters_of_the_networks_contribute(contribute, decide):
    expected = np.ones((6, shards.FINE_BINS + 2))
    expected[contribute:, 1:-1][:, np.abs(shards.FINE_CENTRES) > 0.325] = 0
    inputs = (np.ones_like(expected, dtype=int), expected, np.arange(6) % 2, Histogram())
    found = columns(histogram(*inputs, of_datasets(0.5)))
    assert found["networks"][37] == pytest.approx(6 if decide == "profiles" else contribute)
    assert (found["action"][37] == 3.0) == (decide == "profiles")


def test_expected_counts_decide_the_density():
    expected = np.ones((6, shards.FINE_BINS + 2))
    expected[:, 1 + shards.FINE_BINS // 2] = 100
    found = columns(
        histogram(np.ones_like(expected, dtype=int), expected, np.arange(6) // 2, Histogram())
    )
    np.testing.assert_allclose(found["density"], np.exp(-found["action"]))


@pytest.mark.parametrize("datasets", [7, 8])
def test_two_control_variates_take_eight_datasets(datasets):
    networks = synthetic(datasets=datasets, explained=3.0, repeats=5)
    of_both = {"datasets": datasets, "subsets": 7 if datasets == 7 else 2}
    found = outputs(networks, specification(**of_both))
    plain = outputs(networks, specification(**of_both, control_variates=False))
    assert (found["mean"] != plain["mean"]) == (datasets == 8)


def test_the_tail_takes_one_control_variate_of_five_datasets():
    variates = np.random.default_rng(8).standard_normal((5, 3))
    prior = math.sqrt(0.5 / 150)
    table = gaussian_profiles(prior * (1 + 0.05 * variates[:, 2]) ** -0.5, variates)
    networks = as_networks(Shards(table, {}), "teacher_student")
    found, plain = (
        action_of_datasets(table, networks, specification(training=UMBRELLA, datasets=5, **more))
        for more in ({}, {"control_variates": False})
    )
    assert found.error[37] < plain.error[37] / 10


@pytest.mark.parametrize("sign", [1, -1])
def test_starts_and_halves_that_differ_in_either_direction_are_not_converged(sign):
    """Planted starts above prior ones or below them; draws that rise or fall."""
    noise = np.random.default_rng(4).standard_normal((40, 60))
    both = ["prior", "planted"] * 20
    planted = np.array([start == "planted" for start in both])[:, None]
    assert problems(noise, both) == ""
    assert "nested R-hat of cubic_overlap" in problems(noise + sign * 3.0 * planted, both)
    assert "cubic_overlap drifts" in problems(noise + sign * np.linspace(-1, 1, 60), both)
    row = judged(nearly_explained(sign * 0.02))
    assert "the starts of o0, adjusted for Stein variates, differ by" in row["problems"]
    assert row["adjusted_start_difference_o0"] * sign > 4


GOOD = Diagnostics(1.0, 1.0, 0.0, 0.0, 1000.0, 1000.0, 0.0)


NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"nested_rhat": 1.1, "start_difference": NAN}, ""),
        ({"nested_rhat": 1.11, "start_difference": NAN}, "nested R-hat of o0 is 1.110 > 1.1"),
        ({"nested_rhat": NAN, "start_difference": NAN}, "nested R-hat of o0 is nan > 1.1"),
        ({"nested_rhat": 2.0, "start_difference": 3.0}, ""),
        ({"nested_rhat": 2.0, "start_difference": -3.0}, ""),
        ({"nested_rhat": 1.09, "start_difference": 9.0}, ""),
        ({"nested_rhat": 2.0, "start_difference": 3.1}, "its starts differ by 3.1 standard errors"),
        ({"nested_rhat": 2.0, "start_difference": -3.1}, "its starts differ by -3.1 standard err"),
        ({"adjusted_start_difference": 4.0}, ""),
        ({"adjusted_start_difference": 4.1}, "adjusted for Stein variates, differ by 4.1 standard"),
        ({"adjusted_start_difference": -4.1}, "adjusted for Stein variates, differ by -4.1 stand"),
        ({"drift": 4.0}, ""),
        ({"drift": 4.1}, "o0 drifts: the second half of its draws differs from the first by 4.1"),
        ({"drift": -4.1}, "o0 drifts: the second half of its draws differs from the first by -4.1"),
        ({"drift": NAN}, "a drift of o0 cannot be seen"),
        ({"ess_bulk": 80.0}, ""),
        ({"ess_bulk": 79.9}, "bulk ESS of o0 is 79.9 < 80"),
        ({"ess_tail": 79.9}, "tail ESS of o0 is 79.9 < 80"),
        ({"ess_tail": NAN}, "tail ESS of o0 is nan < 80"),
    ],
    ids=str,
)
def test_every_bound_is_kept_on_either_side(monkeypatch, changes, problem):
    """Of 40 networks of fifty draws, each of which is to be worth two."""
    monkeypatch.setattr(convergence, "diagnose", lambda *_: GOOD._replace(**changes))
    row = judged(synthetic(repeats=1))
    assert row["problems"].startswith(problem) or problem in row["problems"]
    assert row["converged"] == (not row["problems"]) == (problem == "")


@pytest.mark.parametrize(
    ("draws", "networks", "ess", "bound"), [(9, 40, 49, 50), (10, 40, 79, 80), (10, 20, 49, 50)]
)
def test_effective_draws_that_are_asked_for(monkeypatch, draws, networks, ess, bound):
    """Fifty; of ten draws and more two of every network, if that is more."""
    monkeypatch.setattr(convergence, "diagnose", lambda *_: GOOD._replace(ess_bulk=ess))
    of = synthetic(repeats=1, datasets=networks // 2, draws=draws)
    row = judged(of)
    assert row["problems"] == f"bulk ESS of o0 is {ess}.0 < {bound}"
    monkeypatch.setattr(convergence, "diagnose", lambda *_: GOOD._replace(ess_bulk=bound))
    assert judged(of)["converged"]


def test_the_spread_between_datasets_is_that_of_the_raw_values():
    """Control variates explain the mean's error, not how much datasets differ."""
    networks = synthetic(between=0.1, within=0.0, explained=3.0, repeats=5)
    found, plain = (
        columns(outputs(networks, specification(control_variates=x))) for x in (True, False)
    )
    np.testing.assert_array_equal(found["dataset_spread"], plain["dataset_spread"])
    assert (found["dataset_error"] < 0.2 * plain["dataset_error"]).all()


def test_acceptances_are_those_of_all_networks():
    half = np.repeat([0.2, 0.6], 20)
    networks = synthetic(repeats=1)._replace(acceptance=half, sweep_acceptance=half + 0.3)
    row = judged(networks)
    assert (row["acceptance"], row["sweep_acceptance"]) == pytest.approx((0.4, 0.7))


def test_a_rare_centre_leaves_the_wells_around_it_to_the_counts():
    """No neuron but one visits q = 0; nearly all lie between 0.2 and 0.6."""
    expected = np.zeros((6, shards.FINE_BINS + 2))
    centres = np.concatenate([[-9], shards.FINE_CENTRES, [9]])
    expected[:, (np.abs(centres) > 0.2) & (np.abs(centres) < 0.6)] = 1
    expected[0] += 0.01
    inputs = (np.ones_like(expected, dtype=int), expected, np.arange(6) // 2, Histogram())
    found, without = columns(histogram(*inputs, of_datasets(0.5))), columns(histogram(*inputs))
    distance = np.abs(np.arange(61) - 30)
    np.testing.assert_array_equal(
        found["action"][distance < 12], np.asarray(without["action"])[distance < 12]
    )
    assert (np.asarray(found["action"])[distance > 12] == 3.0).all()
