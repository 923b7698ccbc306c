"""Configuration of modular-addition experiments: what is accepted and what is refused, and how."""

import copy

import pytest
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
        ({"parameters__sextic_decay": -1.0}, "sextic_decay=-1.0: must be positive.*normalised"),
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


def test_composite_modulus_needs_the_flag():
    config = load(SMALL, parameters__prime=15, parameters__allow_composite=True)
    [warning] = config.warnings()
    assert "experiments.e: prime=15 is not prime" in warning
    assert not load(SMALL).warnings()
    assert next(iter(config.experiments["e"].points().values())).prime == 15


def test_a_figure_of_the_other_model_is_refused():
    raw = {"experiments": {"e": SMALL}, "scales": {"paper": {}}}
    assert load_config(raw | {"figures": {"fig3": {"experiment": "e"}}}).figures
    with pytest.raises(GrokphaseError, match=r"fig1.experiment: fig1 draws .*teacher_student, but"):
        load_config(raw | {"figures": {"fig1": {"experiment": "e"}}})


def test_size_is_not_swept_where_networks_are_trained():
    sweep = {"noise": [0.2], "prime": [5, 7]}
    with pytest.raises(GrokphaseError, match="prime cannot be swept"):
        load(TRAINED, parameters__prime=None, sweep=sweep)
    assert len(load(SMALL, parameters__prime=None, sweep=sweep).experiments["e"].points()) == 2
