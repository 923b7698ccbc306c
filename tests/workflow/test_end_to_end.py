"""The shipped configuration at its quick scale, from nothing to figures; and stage by stage."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import yaml
from grokphase.config import load_config
from grokphase.layout import AGGREGATES, THEORY_TABLES

EXPERIMENT = load_config(Path(__file__).parents[2] / "config.yaml", "quick").experiments[
    "teacher_student"
]
NOISES, STRENGTHS = EXPERIMENT.sweep.noise, EXPERIMENT.sweep.cubic_strength
NETWORKS = EXPERIMENT.datasets * len(EXPERIMENT.networks.starts())
WIDTH, DRAWS = EXPERIMENT.parameters.width, EXPERIMENT.sampler.draws


@pytest.fixture(scope="module")
def quick(quick_once):
    """Folder of the results of the quick run."""
    return quick_once.results / "quick"


def table(quick, noise, strength, name):
    folder = quick / "teacher_student" / f"noise~{noise}" / f"cubic_strength~{strength}"
    return pd.read_parquet(folder / f"{name}.parquet")


def theory(quick, strength, name):
    folder = quick / "teacher_student" / "theory" / f"cubic_strength~{strength}"
    return pd.read_parquet(folder / f"{name}.parquet")


@pytest.mark.parametrize("figure", ["fig1", "fig2"])
def test_figures_are_there_in_three_formats(quick, figure):
    folder = quick / "figures"
    assert (folder / f"{figure}.pdf").read_bytes().startswith(b"%PDF-")
    assert (folder / f"{figure}.pdf").read_bytes().rstrip().endswith(b"%%EOF")
    drawing = ElementTree.parse(folder / f"{figure}.svg").getroot()
    assert drawing.tag.endswith("svg")
    assert len(list(drawing.iter("{http://www.w3.org/2000/svg}path"))) > 30
    image = matplotlib.image.imread(folder / f"{figure}.png")[..., :3]
    height, width, _ = image.shape
    assert height > 400
    assert width > 800
    ink = (image < 0.9).any(axis=2)
    assert 0.005 < ink.mean() < 0.5
    # Something is drawn from end to end of the picture's left two thirds, where the axes are.
    axes = ink[:, : 2 * width // 3]
    for direction in (0, 1):
        assert all(part.mean() > 0.003 for part in np.array_split(axes, 5, axis=direction))


def test_every_table_of_the_sweep_is_there(quick):
    folder = quick / "teacher_student"
    points = {f"noise~{n}/cubic_strength~{e}" for n in NOISES for e in STRENGTHS}
    lines = {f"theory/cubic_strength~{e}" for e in STRENGTHS}
    for names, parts in ((AGGREGATES, points), (THEORY_TABLES, lines)):
        wanted = {f"{part}/{name}.parquet" for part in parts for name in names["teacher_student"]}
        assert wanted <= {str(p.relative_to(folder)) for p in folder.rglob("*.parquet")}
    assert len(list((folder / "baseline").iterdir())) == 5
    assert not list(folder.rglob("*.checkpoint*"))
    assert not [path for path in folder.rglob(".*") if path.is_file()]


def test_points_are_aggregated_while_others_train(quick):
    def times(name):
        return [path.stat().st_mtime for path in (quick / "teacher_student").rglob(name)]

    assert min(times("histogram.parquet")) < max(times("datasets~*.parquet"))


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("noise", NOISES)
def test_aggregates_are_complete_and_the_sampling_is_sound(quick, noise, strength):
    outputs = table(quick, noise, strength, "outputs").set_index("observable")
    assert np.isfinite(outputs.to_numpy()).all()
    assert (outputs[["subset_error", "dataset_error"]] > 0).all(axis=None)
    histogram = table(quick, noise, strength, "histogram")
    assert histogram["count"].sum() == pytest.approx(NETWORKS * WIDTH * DRAWS, rel=1e-3)
    widths = histogram["bin_right"] - histogram["bin_left"]
    # Near zero of all networks together, in the tail of a typical dataset: 1 but for that.
    assert (histogram["density"] * widths).sum() == pytest.approx(1, abs=5e-3)
    rows = pd.read_parquet(quick / "teacher_student" / "diagnostics.parquet").set_index("point")
    diagnostics = rows.loc[f"noise~{noise}/cubic_strength~{strength}"]
    assert diagnostics["networks"] == NETWORKS
    assert diagnostics["draws"] == DRAWS
    assert 0.5 < diagnostics["acceptance"] < 0.99
    # Prior and planted starts agree on what the figures show.
    assert diagnostics["nested_rhat_linear_overlap"] < 1.1
    assert diagnostics["nested_rhat_mean_square_overlap"] < 1.1
    assert diagnostics["converged"] == (not diagnostics["problems"])


@pytest.mark.parametrize("strength", STRENGTHS)
def test_networks_agree_with_theory_at_the_highest_noise(quick, strength):
    """Mean-field theory holds up to corrections that vanish with d = 50 and N = 120.

    The tolerances are twice the deviations expected at this size; the prior alone would give
    linear overlap 0, mean square overlap 1 and action -1.4 at q = 0.
    """
    noise = NOISES[-1]
    means = table(quick, noise, strength, "outputs").set_index("observable")["mean"]
    branches = theory(quick, strength, "branches")
    [wanted] = branches[
        (branches["closure"] == "quadrature") & branches["selected"] & (branches["noise"] == noise)
    ].to_dict("records")
    assert means["linear_overlap"] == pytest.approx(wanted["linear_overlap"], rel=0.08)
    assert means["mean_square_overlap"] == pytest.approx(wanted["mean_square_overlap"], rel=0.12)
    assert means["cubic_overlap"] == pytest.approx(wanted["cubic_overlap"], rel=0.5)

    histogram = table(quick, noise, strength, "histogram")
    densities = theory(quick, strength, "densities")
    line = densities[densities["noise"] == noise]
    centre = (histogram["bin_left"] + histogram["bin_right"]) / 2
    predicted = np.interp(centre, line["overlap"], line["binned_action"])
    bulk = centre.abs() < 0.22
    assert bulk.sum() == 9
    assert (histogram["action"] - predicted)[bulk].abs().max() < 0.25


@pytest.mark.parametrize("strength", STRENGTHS)
def test_networks_learn_features_the_gaussian_process_lacks(quick, strength):
    """Finite networks have about twice the linear overlap of infinitely wide ones."""
    baseline = pd.concat(
        pd.read_parquet(path) for path in (quick / "teacher_student" / "baseline").iterdir()
    )
    linear = []
    for noise in NOISES:
        rows = baseline.query("noise == @noise and cubic_strength == @strength")
        assert len(rows) == 5
        outputs = table(quick, noise, strength, "outputs").set_index("observable")
        linear.append(outputs.loc["linear_overlap", "mean"])
        assert 1.5 < linear[-1] / rows["linear_overlap"].mean() < 3
    assert linear == sorted(linear, reverse=True)  # more noise, less of the teacher


def test_the_summary_lists_every_point(quick):
    page = (quick / "teacher_student" / "diagnostics.md").read_text()
    for noise in NOISES:
        for strength in STRENGTHS:
            assert f"| noise~{noise}/cubic_strength~{strength} |" in page


def test_stages_by_hand_give_the_bytes_of_the_workflow(finished, project):
    """The tiny sweep without Snakemake, each stage by its own command."""
    config = yaml.safe_load((project.folder / "config.yaml").read_text())
    one = load_config(config).experiments["teacher_student"]

    def stage(name, *options):
        outcome = project.grokphase(name, *options)
        assert outcome.status == 0, outcome.output

    experiment = ("--experiment", "teacher_student")
    for dataset in (0, 1):
        stage("dataset", *experiment, "--dataset", dataset)
    for point in one.points():
        for dataset in (0, 1):
            stage("train", *experiment, "--point", point, "--datasets", dataset)
        stage("aggregate", *experiment, "--point", point)
    stage("summary", *experiment)
    for line in one.lines():
        stage("theory", *experiment, "--line", line)
    stage("baseline", *experiment, "--dataset", 0)
    for figure in ("fig1", "fig2"):
        stage("figure", "--figure", figure)

    by_hand, by_workflow = project.files(), finished.files()
    assert by_hand.keys() == by_workflow.keys()
    assert [name for name in by_hand if by_hand[name] != by_workflow[name]] == []
