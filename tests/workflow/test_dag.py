"""What runs, and what runs again after a change: exactly what the change can affect."""

import math
import os
import re
import shutil
from collections import Counter

import pytest
import yaml

EXPERIMENT = "experiments.teacher_student"


def points(jobs):
    """The points whose networks a plan trains."""
    return {"/".join(output.split("/")[3:-2]) for output in jobs.get("train", ())}


AGGREGATED = {"aggregate", "summary", "figure"}
TRAINED = AGGREGATED | {"train"}
THEORY = {"theory", "baseline"}


def rules(jobs):
    """The rules of a plan, without the targets that only collect files."""
    return set(jobs) - {"all", "fig1", "fig2"}


# --- from nothing ---------------------------------------------------------------------------------


def test_fig1_asks_for_what_it_draws_and_no_more(shipped):
    config = yaml.safe_load((shipped.folder / "config.yaml").read_text())
    one, noises = config["experiments"]["teacher_student"], config["figures"]["fig1"]["select"]
    jobs = shipped.plan("fig1")
    assert points(jobs) == {f"noise~{n}/cubic_strength~-0.3" for n in noises["noise"]}
    assert len(jobs["aggregate"]) == len(noises["noise"])
    assert len(jobs["dataset"]) == one["datasets"]
    folder = "results/paper/teacher_student/theory/cubic_strength~-0.3"
    assert jobs["theory"] == {f"{folder}/branches.parquet"}
    assert jobs["figure"] == {"results/paper/figures/fig1.pdf"}
    assert "baseline" not in jobs


def test_everything_asks_for_the_whole_sweep_once(shipped):
    config = yaml.safe_load((shipped.folder / "config.yaml").read_text())
    wanted = Counter({"all": 1, "figure": len(config["figures"])})
    drawn = {figure["experiment"] for figure in config["figures"].values()}
    for name, one in config["experiments"].items():
        suffix = "" if one["model"] == "teacher_student" else f"_{one['model']}"
        lengths = {swept: len(values) for swept, values in one["sweep"].items()}
        sweep = math.prod(lengths.values())
        wanted["theory" + suffix] += sweep // lengths["noise"] if name in drawn else 0
        if "networks" in one:
            wanted["dataset"] += one["datasets"]
            wanted["train"] += sweep * math.ceil(one["datasets"] / one["datasets_per_job"])
            wanted["aggregate" + suffix] += sweep
            wanted["summary"] += 1
    wanted["baseline"] = config["figures"]["fig2"]["baseline"]
    assert {rule: len(outputs) for rule, outputs in shipped.plan().items()} == wanted


def test_every_rule_is_reached(shipped):
    listed = re.findall(r"^\w+$", shipped.snakemake("--list-rules").output, re.M)
    figures = yaml.safe_load((shipped.folder / "config.yaml").read_text())["figures"]
    assert set(listed) == set(shipped.plan("all", *figures))


def test_what_takes_longest_comes_first_and_finished_points_before_others_train(shipped):
    """The point with an umbrella among the training jobs; aggregation before all of them.

    Theory and baselines come last, but for the figures that wait for them.
    """
    found = {}
    for rule, lines in shipped.planned("fig2"):
        point = re.search(r"point=([^,\n]*)", lines)
        priority = re.search(r"^    priority: (.*)", lines, re.M)
        key = (rule, point and point[1])
        found[key] = float(priority[1]) if priority else 0.0
    umbrella = ("train", "noise~0.25/cubic_strength~-0.3")
    training = [value for key, value in found.items() if key[0] == "train" and key != umbrella]
    assert len(training) > 5
    assert 1 < max(training) < found[umbrella] < 2
    others = {key[0]: value for key, value in found.items() if key[0] != "train"}
    assert others["aggregate"] == 2
    assert 1 > others["theory"] == others["baseline"] > others["figure"]


def test_warnings_are_of_the_experiments_that_are_asked_for(shipped):
    """Of the nine figures one is of an experiment with a modulus that is not prime."""
    one = shipped.snakemake("results/paper/teacher_student/datasets/dataset~0.npz")
    other = shipped.snakemake("results/paper/modular_spectrum/theory/prime~5/spectrum.parquet")
    one.check_success()
    other.check_success()
    assert "Warning: experiments." not in one.output
    assert "Warning: experiments.modular_spectrum: prime=15 is not prime" in other.output


def test_planning_imports_neither_jax_nor_pandas(project):
    heavy = ("jax", "pandas", "matplotlib", "scipy", "pyarrow")
    # Snakemake's own plugins import what they like, before the Snakefile is read.
    snakefile = project.folder / "Snakefile"
    listing = f"[n for n in {heavy} if n in set(sys.modules) - BEFORE]"
    snakefile.write_text(
        f"import sys\nBEFORE = set(sys.modules)\n{snakefile.read_text()}\n"
        f"print('imported:', {listing}, CONFIG.scale)\n"
    )
    outcome = project.command("snakemake", "--dry-run", "--quiet", "all")
    assert "imported: [] paper" in outcome.output


def test_scales_never_share_a_file(project):
    for scale in ("paper", "quick"):
        jobs = project.plan("all", "--config", f"scale={scale}")
        outputs = set().union(*jobs.values()) - {""}
        assert {output.split("/")[1] for output in outputs} == {scale}


# --- after a change -------------------------------------------------------------------------------


def test_a_finished_run_does_nothing(finished):
    assert finished.plan() == {}


def test_another_scale_starts_from_nothing(finished):
    assert len(finished.plan("--config", "scale=quick")["train"]) == 4


def test_a_new_noise_trains_its_point_alone(finished):
    finished.configure({f"{EXPERIMENT}.sweep.noise": [0.2, 0.25, 0.3]})
    jobs = finished.plan()
    assert points(jobs) == {"noise~0.25/cubic_strength~-0.3"}
    assert len(jobs["train"]) == 2
    assert len(jobs["aggregate"]) == 1
    assert rules(jobs) == TRAINED | THEORY


def test_new_datasets_train_themselves_alone(finished):
    finished.configure({f"{EXPERIMENT}.datasets": 4})
    jobs = finished.plan()
    assert {output.split("~")[-1] for output in jobs["dataset"]} == {"2.npz", "3.npz"}
    assert {output.split("~")[-1] for output in jobs["train"]} == {"2-2.parquet", "3-3.parquet"}
    assert len(jobs["aggregate"]) == 2
    assert rules(jobs) == TRAINED | {"dataset"}


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("parameters.train_size", 41, TRAINED | THEORY | {"dataset"}),
        ("parameters.weight_variance", 0.6, TRAINED | THEORY),
        ("seed", 7, TRAINED | {"dataset", "baseline"}),
        ("sampler.step_size", 0.2, TRAINED),
        ("histogram", {"bins": 41}, AGGREGATED),
        ("convergence", {"ess": 7}, AGGREGATED),
        ("theory.modes", 3, {"theory", "figure"}),
        ("datasets_per_job", 2, TRAINED),
    ],
)
def test_a_changed_setting_reruns_what_depends_on_it(finished, key, value, wanted):
    finished.configure({f"{EXPERIMENT}.{key}": value})
    assert rules(finished.plan()) == wanted


def test_a_changed_selection_draws_only(finished):
    finished.configure({"figures.fig1.select": {"noise": [0.3]}})
    assert finished.plan() == {"figure": {"results/paper/figures/fig1.pdf"}, "all": {""}}


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        ("sampling/tree", TRAINED),
        ("sampling/kernels/hamiltonian", TRAINED),
        ("sampling/kernels/pcn_langevin", set()),
        ("training", TRAINED),
        ("aggregation", AGGREGATED),
        ("theory/phases", {"theory", "figure"}),
        ("theory/gaussian_process", {"baseline", "figure"}),
        ("figures/style", {"figure"}),
        ("config", set()),
        ("cli", set()),
    ],
)
def test_changed_code_reruns_the_stages_that_reach_it(finished, module, wanted):
    with finished.module(module).open("a") as file:
        file.write("\n_CHANGED = True\n")
    assert rules(finished.plan()) == wanted


def test_changed_code_of_one_figure_draws_this_one(finished):
    with finished.module("figures/fig2").open("a") as file:
        file.write("\n_CHANGED = True\n")
    assert finished.plan()["figure"] == {"results/paper/figures/fig2.pdf"}


def test_comments_and_touched_sources_rerun_nothing(finished):
    for module in finished.modules():
        module.write_text(f"# Another comment.\n\n{module.read_text()}\n# And one more.\n")
    for path in finished.folder.rglob("*"):
        if path.is_file() and not path.is_relative_to(finished.results):
            os.utime(path)
    assert finished.plan() == {}


def test_figures_are_drawn_from_released_tables_alone(finished):
    """With aggregates, theory and baseline only, nothing is trained."""
    shutil.rmtree(finished.folder / ".snakemake")
    shutil.rmtree(finished.path("datasets"))
    for folder in finished.path(".").rglob("shards"):
        shutil.rmtree(folder)
    before = finished.files()
    shutil.rmtree(finished.results / "paper" / "figures")
    assert rules(finished.plan()) == {"figure"}
    finished.snakemake().check_success()
    assert finished.files() == before
