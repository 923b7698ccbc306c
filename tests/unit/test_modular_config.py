"""Configuration of modular-addition experiments: what is accepted and what is refused, and how."""

import copy

import pytest
import yaml
from grokphase.config import load_config
from grokphase.errors import GrokphaseError

THEORY = {"lowest_noise": 0.14, "highest_noise": 0.26}
SMALL = {
    "model": "modular_addition",
    "parameters": {"prime": 7, "width": 10, "readout_variance": 1e-6, "sextic_decay": 1.0},
    "sweep": {"noise": [0.15, 0.2]},
    "theory": THEORY,
}
TRAINED = SMALL | {
    "datasets": 2,
    "subsets": 2,
    "networks": {"prior": 1, "planted": 1},
    "sampler": {
        "kernel": "hamiltonian",
        "step_size": 0.1,
        "leapfrog_steps": 4,
        "burn_in": 4,
        "draws": 8,
    },
}


def load(experiment, **changes):
    """The configuration with dotted keys of its one experiment changed; None deletes a key."""
    experiment = copy.deepcopy(experiment)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = experiment
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return load_config({"experiments": {"e": experiment}, "figures": {}, "scales": {"paper": {}}})


def test_an_experiment_without_networks_is_theory_only():
    config = load(SMALL)
    assert not config.experiments["e"].trains
    assert load(TRAINED).experiments["e"].trains


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters__prime": 15}, "experiments.e: prime=15 is not prime .divisible by 3.*allow"),
        ({"parameters__prime": 2}, "experiments.e: prime=2: the modulus must be an odd prime"),
        ({"parameters__sextic_decay": 0.0}, "sextic_decay=0.0: must be positive.*normalised"),
        ({"parameters__sextic_decay": 1e-300}, "sextic_decay=1e-300: must be at least 1e-20"),
        ({"parameters__sextic_decay": -1.0}, "sextic_decay=-1.0: must be positive.*normalised"),
        (
            {"parameters__prime": 16, "parameters__allow_composite": True},
            "16: the modulus must be od",
        ),
        ({"parameters__train_fraction": 0.999}, "trains on 49 of the 49 pairs: at least one must"),
        ({"parameters__train_fraction": 1e-9}, "trains on 0 of the 49 pairs: at least one must be"),
        ({"parameters__width": 0}, "experiments.e.parameters.width: .*greater than 0 .got 0"),
        ({"sweep__noise": [0.0]}, "experiments.e.sweep.noise.0: .*greater than 0 .got 0"),
        ({"sweep__noise": [-0.1]}, "experiments.e.sweep.noise.0: .*greater than 0"),
        ({"parameters__width": None}, "experiments.e: width is missing"),
        ({"parameters__prim": 7}, "experiments.e.parameters.prim: .*did you mean 'prime'"),
        ({"modell": "x"}, "experiments.e.modell: .*did you mean 'model'"),
        ({"model": "modular_additon"}, "experiments.e.model: .*did you mean 'modular_addition'"),
        ({"model": None}, "experiments.e.model: missing"),
        ({"theory__lowest_noise": None}, "experiments.e.theory.lowest_noise: missing"),
        ({"sampler__kernel": "hamiltonia"}, "e.sampler.kernel: .*did you mean 'hamiltonian'"),
        ({"sampler__step_sice": 1}, "e.sampler.step_sice: .*did you mean 'step_size'"),
        ({"sampler__neuron_sweeps": -1}, "e.sampler.neuron_sweeps: .*greater than or equal to 0"),
        (
            {"sampler__collapsed_readout": True, "parameters__train_fraction": 0.5},
            "experiments.e: sampler.collapsed_readout needs the full table",
        ),
        (
            {"sampler__force_precision": "bfloat16"},
            "experiments.e: sampler.force_precision is for teacher_student only",
        ),
        ({"sampler": None}, "experiments.e: sampler is missing"),
        ({"networks": None}, "experiments.e: networks is missing"),
        ({"planted": {"waves": 4}}, "planted.waves=4: there are 3 frequencies at prime=7"),
        ({"parameters__prime": 10007}, "needs dense .* GiB, factorised .* GiB; .* are available"),
    ],
)
def test_bad_input_is_refused_with_its_reason(changes, message):
    if changes.get("parameters__prime") == 10007:
        changes = changes | {"parameters__width": 1_000_000}
    with pytest.raises(GrokphaseError, match=message):
        load(TRAINED, **changes)


def test_held_out_training_that_does_not_fit_names_the_size():
    with pytest.raises(GrokphaseError, match=r"train_fraction=0.5 needs the dense form.* GiB at"):
        load(TRAINED, parameters__prime=1009, parameters__width=100_000,
             parameters__train_fraction=0.5)  # fmt: skip


def test_sweeps_that_do_not_fit_are_refused():
    assert load(TRAINED, sampler__neuron_sweeps=1)
    with pytest.raises(
        GrokphaseError, match=r"neuron_sweeps needs .* GiB at prime=401, width=.*; this mach"
    ):
        load(TRAINED, sampler__neuron_sweeps=1, parameters__prime=401)


def test_a_collapsed_readout_that_does_not_fit_is_refused():
    assert load(TRAINED, sampler__collapsed_readout=True)
    with pytest.raises(GrokphaseError, match=r"collapsed_readout needs .* GiB at width=60000"):
        load(TRAINED, sampler__collapsed_readout=True, parameters__width=60000)


def test_composite_modulus_needs_the_flag():
    config = load(SMALL, parameters__prime=15, parameters__allow_composite=True)
    [warning] = config.warnings()
    assert "experiments.e: prime=15 is not prime" in warning
    assert config.warnings(["e", "f"]) == [warning]
    assert not config.warnings(["f"])
    assert not load(SMALL).warnings()
    assert next(iter(config.experiments["e"].points().values())).prime == 15


def test_a_figure_of_the_other_model_is_refused():
    raw = {"experiments": {"e": SMALL}, "scales": {"paper": {}}}
    assert load_config(raw | {"figures": {"fig3": {"experiment": "e"}}}).figures
    with pytest.raises(GrokphaseError, match=r"fig1.experiment: fig1 draws .*teacher_student, but"):
        load_config(raw | {"figures": {"fig1": {"experiment": "e"}}})


@pytest.mark.parametrize(
    ("figure", "networks", "message"),
    [
        ("modular_network", None, "draws networks started prior or planted, and e has none: set "),
        ("modular_features", {"prior": 0}, "draws networks started prior, and e has none: set "),
        ("modular_hysteresis", {}, "draws networks started cooled or heated, and e has none: set "),
        ("modular_features", {"planted": 0}, None),
    ],
)
def test_a_figure_needs_the_networks_it_draws(figure, networks, message):
    raw = {"figures": {figure: {"experiment": "e"}}, "scales": {"paper": {}}}
    raw["experiments"] = {"e": SMALL if networks is None else TRAINED | {"networks": networks}}
    if message is None:
        assert load_config(raw).figures
        return
    with pytest.raises(GrokphaseError, match=f"figures.{figure}.experiment: {figure} {message}"):
        load_config(raw)


def test_theory_that_does_not_fit_is_refused():
    with pytest.raises(GrokphaseError, match=r"the theory needs 372 GiB at prime=99991; this"):
        load(SMALL, parameters__prime=99991)
    with pytest.raises(GrokphaseError, match=r"GiB at prime=401.* reduce prime or theory.largest_"):
        load(SMALL, parameters__prime=401, theory=THEORY | {"largest_diagonalised": 401})


def test_theory_that_does_not_reach_the_sweep_is_warned_of():
    [warning] = load(SMALL, sweep__noise=[0.15, 0.5]).warnings()
    assert warning.startswith("experiments.e: theory is drawn from 0.14 to 0.26, and 0.5 of sweep")


def test_draws_that_are_too_few_to_judge_are_warned_of():
    [warning] = load(TRAINED, sampler__draws=3).warnings()
    assert warning.startswith("experiments.e.sampler.draws is 3: convergence is judged from 4 draw")
    assert not load(TRAINED, sampler__draws=4).warnings()


def test_networks_of_a_part_of_the_table_need_a_figure_of_them():
    raw = {"figures": {"modular_network": {"experiment": "e"}}, "scales": {"paper": {}}}
    for changes in ({"parameters": SMALL["parameters"] | {"train_fraction": 0.5}},
                    {"sweep": SMALL["sweep"] | {"train_fraction": [0.5]}}):  # fmt: skip
        with pytest.raises(GrokphaseError, match="modular_network draws networks trained on the f"):
            load_config(raw | {"experiments": {"e": TRAINED | changes}})
    both = {"e": TRAINED | {"sweep": SMALL["sweep"] | {"train_fraction": [0.5, 1.0]}}}
    chosen = {"modular_network": {"experiment": "e", "select": {"train_fraction": [1.0]}}}
    assert load_config(raw | {"experiments": both, "figures": chosen}).figures


def test_changes_alone_are_on_top_of_the_configuration_beside_them(tmp_path, monkeypatch):
    """A file without scales, as for --configfile."""
    monkeypatch.chdir(tmp_path)
    raw = {"experiments": {"e": SMALL}, "figures": {}, "scales": {"paper": {}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "mine.yaml").write_text("experiments: {e: {parameters: {prime: 11}}}")
    points = load_config(tmp_path / "mine.yaml").experiments["e"].points()
    assert {point.prime for point in points.values()} == {11}
    assert {point.width for point in points.values()} == {10}


def test_selected_counts_stay_counts():
    """A selection of an integer parameter gives the points of the sweep."""
    raw = {"scales": {"paper": {}}, "experiments": {"e": copy.deepcopy(SMALL)}}
    del raw["experiments"]["e"]["parameters"]["prime"]
    raw["experiments"]["e"]["sweep"]["prime"] = [5, 7, 11]
    raw["figures"] = {"modular_spectrum": {"experiment": "e", "select": {"prime": [11, 7]}}}
    config = load_config(raw)
    found = config.figure("modular_spectrum").lines
    assert list(found) == ["prime~7", "prime~11"]
    assert set(found) <= set(config.experiments["e"].lines())


def test_networks_need_datasets_for_every_subset():
    with pytest.raises(GrokphaseError, match="the networks of 1 datasets do not split evenly over"):
        load(TRAINED, datasets=None)
    with pytest.raises(GrokphaseError, match=r"of 2 datasets do not .* over 5 subsets"):
        load(TRAINED, subsets=None)


def test_a_huge_modulus_is_refused_at_once():
    with pytest.raises(GrokphaseError, match=r"prime: .*less than or equal to 1000000"):
        load(TRAINED, parameters__prime=10**18 + 9)


ANNEALED = TRAINED | {
    "networks": {"prior": 1, "planted": 1, "cooled": 2},
    "annealing": {"highest_noise": 0.3, "lowest_noise": 0.1},
}


def test_annealed_networks_are_networks_of_their_dataset():
    specification = load(ANNEALED).training("e", "noise~0.15")
    assert specification.networks.starts() == [
        ("prior", 0), ("planted", 0), ("cooled", 0), ("cooled", 1)
    ]  # fmt: skip
    assert specification.annealing.noise("cooled") == 0.3
    assert specification.annealing.noise("heated") == 0.1
    assert specification.annealing.noise("prior") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annealing": None}, "experiments.e: annealing is missing: networks.cooled need"),
        ({"networks__cooled": 0}, "annealing is given, but networks.cooled and .* are both 0"),
        ({"annealing__highest_noise": 0.19}, "annealing.highest_noise=0.19 is below .* 0.2"),
        ({"annealing__lowest_noise": 0.16}, "annealing.lowest_noise=0.16 is above .* 0.15"),
        ({"annealing__lowest_noise": -1.0}, "annealing.lowest_noise: .*greater than 0"),
        ({"annealing__lowest_noice": 1.0}, "lowest_noice: .*did you mean 'lowest_noise'"),
        ({"sampler__burn_in": 0}, "annealing happens during burn-in"),
        ({"networks__heatd": 1}, "networks.heatd: .*did you mean 'heated'"),
    ],
)
def test_annealing_that_cannot_be_is_refused(changes, message):
    with pytest.raises(GrokphaseError, match=message):
        load(ANNEALED, **changes)


def test_size_is_not_swept_where_networks_are_trained():
    sweep = {"noise": [0.2], "prime": [5, 7]}
    with pytest.raises(GrokphaseError, match="prime cannot be swept"):
        load(TRAINED, parameters__prime=None, sweep=sweep)
    assert len(load(SMALL, parameters__prime=None, sweep=sweep).experiments["e"].points()) == 2


def test_a_figure_of_two_starts_is_content_with_one():
    raw = {"figures": {"modular_network": {"experiment": "e"}}, "scales": {"paper": {}}}
    networks = {"networks": {"prior": 0, "planted": 1}}
    assert load_config(raw | {"experiments": {"e": TRAINED | networks}}).figures


def test_a_baseline_of_modular_addition_is_refused():
    raw = {"figures": {"modular_network": {"experiment": "e", "baseline": 1}}}
    raw |= {"experiments": {"e": TRAINED}, "scales": {"paper": {}}}
    with pytest.raises(GrokphaseError, match="only the teacher-student model has a baseline"):
        load_config(raw)


def test_a_scale_may_bring_an_experiment_of_its_own():
    raw = {"experiments": {"e": SMALL}, "figures": {}}
    raw["scales"] = {"quick": {"experiments": {"mine": copy.deepcopy(SMALL)}}}
    assert set(load_config(raw, "quick").experiments) == {"e", "mine"}


def test_an_annealing_may_begin_and_end_at_the_noises_of_the_points():
    assert load(ANNEALED, annealing__highest_noise=0.2, annealing__lowest_noise=0.15)
