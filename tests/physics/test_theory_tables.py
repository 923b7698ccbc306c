"""What the theory stages write, against the solutions and closed forms that they are of."""

import math

import numpy as np
import pytest
from grokphase import modular_prediction, prediction
from grokphase.parameters import ModularAddition, TeacherStudent
from grokphase.specifications.theory import (
    ModularTheory,
    ModularTheorySpecification,
    Theory,
    TheorySpecification,
)
from grokphase.tables import shards
from grokphase.theory import modular_addition as theory
from grokphase.theory import one_neuron, phases, teacher_student

PAPER = ModularAddition(prime=401, width=1000, readout_variance=2e-6, sextic_decay=1e-4, noise=0.2)


def modular_theory(**changes):
    settings = {"lowest_noise": 0.15, "highest_noise": 0.26, "noise_points": 3} | changes
    return ModularTheorySpecification(
        parameters=PAPER, noises=(0.2, 0.25), theory=ModularTheory(**settings)
    )


def test_the_limit_is_tabulated_with_its_phases():
    """Of both closures' closed forms: between their ends the mass grows linearly."""
    table = modular_prediction.branch_table(modular_theory()).to_pandas()
    limit = table.query("closure == 'as_published' and average == 'limit'").set_index("noise")
    assert limit["phase"][[0.15, 0.2, 0.25, 0.26]].tolist() == ["GMFL-II", "GMFL-I", "GFL", "GFL"]
    form = theory.closed_form(PAPER, "as_published")
    share = (form.noise_start - 0.2) / (form.noise_start - form.noise_end)
    assert limit["side_mass"][0.2] == pytest.approx(share, rel=1e-9)
    assert limit["side_mass"][[0.15, 0.25]].tolist() == [1, 0]
    assert limit["discrepancy"][0.2] == pytest.approx(-0.2 / form.noise_start)
    assert limit["interaction"][0.2] == pytest.approx(form.interaction)
    assert limit["side_power"][0.2] == pytest.approx(form.power)
    assert limit["barrier_power"][0.2] == pytest.approx(form.power / 3)
    assert limit["side_action"][0.2] == pytest.approx(0, abs=1e-6)
    assert limit["eigenvalue"][0.2] == pytest.approx(form.noise_start - 0.2)
    assert limit["mean_field_holds"].all()
    corrected = table.query("closure == 'corrected' and average == 'limit'").set_index("noise")
    assert corrected["mean_field_holds"][[0.2, 0.25]].tolist() == [False, True]


def test_solutions_are_tabulated_as_they_are():
    table = modular_prediction.branch_table(modular_theory()).to_pandas()
    for average in theory.AVERAGES:
        found = table.query("closure == 'as_published' and average == @average").set_index("noise")
        [solution] = [theory.branch(PAPER, np.array([0.2]), "as_published", average)]
        row = found.loc[0.2]
        for name in (
            "discrepancy",
            "interaction",
            "eigenvalue",
            "side_mass",
            "side_action",
            "barrier_action",
        ):
            assert row[name] == pytest.approx(getattr(solution, name)[0], rel=1e-9), name
        assert row["side_power"] == pytest.approx(solution.saddles.side[0])
        assert row["barrier_power"] == pytest.approx(solution.saddles.barrier[0])
        assert row["eigenvalue"] == pytest.approx(
            PAPER.readout_variance * row["side_mass"] * row["side_power"] ** 2, rel=2e-2
        )
        assert row["droplets_per_frequency"] == pytest.approx(1000 * row["side_mass"])
        assert found["phase"][[0.15, 0.2, 0.25]].tolist() == ["GMFL-II", "GMFL-I", "GFL"]
        assert np.isfinite(found["counted_mass"]).all() == (average == "quadrature")
        if average == "quadrature":
            np.testing.assert_allclose(
                found["counted_mass"], found["side_mass"], rtol=1e-3, atol=1e-6
            )


def test_a_mode_that_is_learned_by_few_neurons_is_no_gaussian_phase():
    """Droplets are fewer than the threshold, and yet lambda is a fifth of the noise."""
    table = modular_prediction.branch_table(modular_theory()).to_pandas()
    found = table.query("closure == 'corrected' and average == 'quadrature' and noise == 0.2")
    [row] = found.to_dict("records")
    assert row["side_mass"] < 0.01
    assert row["eigenvalue"] > 0.1 * 0.2
    assert (row["phase"], row["mean_field_holds"]) == ("GMFL-I", False)


@pytest.mark.parametrize("closure", theory.CLOSURES)
def test_landscapes_and_densities_are_those_of_their_noise(closure):
    specification = modular_theory()
    branches = (
        modular_prediction.branch_table(specification).to_pandas().query("closure == @closure")
    )
    landscapes = (
        modular_prediction.landscape_table(specification).to_pandas().query("closure == @closure")
    )
    densities = (
        modular_prediction.density_table(specification).to_pandas().query("closure == @closure")
    )
    for noise in specification.noises:
        here = branches[branches["noise"] == noise].set_index("average")
        line = landscapes[landscapes["noise"] == noise]
        at_side = np.interp(
            math.sqrt(here["side_power"]["two_point"]), line["root_power"], line["action"]
        )
        if np.isfinite(at_side):
            assert at_side == pytest.approx(here["side_action"]["two_point"], abs=0.1)
        density = densities[densities["noise"] == noise]
        mass = density["density"] * shards.POWER_WIDTH**2
        assert mass.sum() == pytest.approx(1, rel=1e-9)
        beyond = density["first_root_power"] * density["second_root_power"] > 1 / 3
        assert mass[beyond].sum() == pytest.approx(
            here["side_mass"]["quadrature"], rel=1e-3, abs=1e-9
        )


def test_ends_of_the_mixed_phase_lie_on_their_branches():
    table = modular_prediction.transition_table(modular_theory()).to_pandas()
    for row in table.query("average != 'limit'").to_dict("records"):
        if np.isfinite(row["noise_end"]):
            end = theory.branch(PAPER, np.array([row["noise_end"]]), row["closure"], row["average"])
            assert row["discrepancy_end"] == pytest.approx(end.discrepancy[0])
            assert end.side_mass[0] == pytest.approx(0.99, rel=1e-3)
            assert row["discrepancy_end"] < -0.5


TEACHER = TeacherStudent(
    input_dim=150,
    width=700,
    train_size=3000,
    weight_variance=0.5,
    readout_variance=8 / 700,
    noise=0.18,
    cubic_strength=-0.3,
)


def line(**changes):
    return TheorySpecification(
        parameters=TEACHER,
        noises=[0.1, 0.15, 0.18],
        theory=Theory(**{"lowest_noise": 0.09, "highest_noise": 0.2, "noise_points": 4} | changes),
        bin_width=0.05,
    )


def test_branches_are_tabulated_as_they_are():
    """Every column against the solution; the mixture's confined wells are not selected."""
    table = prediction.branch_table(line()).to_pandas()
    found = teacher_student.solve(TEACHER, 0.1)
    derived = phases.observables(found)
    [row] = table.query("closure == 'quadrature' and noise == 0.1").to_dict("records")
    for name in ("linear_overlap", "cubic_overlap", "test_loss", "mean_square_overlap"):
        assert row[name] == pytest.approx(float(np.ravel(getattr(derived, name))[0])), name
    assert row["droplet_fraction"] == pytest.approx(float(np.ravel(derived.droplet_fraction)[0]))
    for name in ("side_minimum", "action_difference", "side_mass"):
        assert row[name] == pytest.approx(float(np.ravel(getattr(derived.landscape, name))[0])), (
            name
        )
    assert row["phase"] == "GMFL-I"
    mixture = table.query("closure == 'gaussian_mixture'")
    assert set(mixture["wells"]) == {"all", "central"}
    assert set(mixture[mixture["selected"]]["wells"]) == {"all"}
    # In the gap where the side wells are about to appear, the central well's solution stands alone.
    assert mixture.query("noise == 0.18 and result == 'converged'")["wells"].tolist() == ["central"]
    assert not mixture.query("noise == 0.18")["selected"].any()
    best = (
        mixture.query("wells == 'all' and result == 'converged'")
        .groupby("noise")["free_energy"]
        .min()
    )
    chosen = mixture[mixture["selected"]].set_index("noise")["free_energy"]
    assert chosen.to_dict() == best.to_dict()


def test_densities_are_tabulated_pointwise_and_averaged_over_a_bin_around():
    table = prediction.density_table(line()).to_pandas()
    for noise in (0.1, 0.15):
        here = table[table["noise"] == noise]
        solution = teacher_student.select(teacher_student.solve(TEACHER, np.array([noise])))
        for q in (-0.6, 0.0, 0.13, 1.2):
            [row] = here[np.isclose(here["overlap"], q)].to_dict("records")
            density = teacher_student.density(solution, [q])[0, 0]
            assert row["action"] == pytest.approx(-math.log(density), rel=1e-9)
            [mass] = teacher_student.bin_probability(solution, [q - 0.025, q + 0.025])[0]
            assert row["binned_action"] == pytest.approx(-math.log(mass / 0.05), rel=1e-9)


def test_transitions_are_tabulated_with_their_threshold_and_end():
    settings = {"side_mass_threshold": 0.03}
    weak = TEACHER.model_copy(
        update={"input_dim": 50, "width": 100, "readout_variance": 1e-4, "cubic_strength": -1.0}
    )
    rows = {
        row["transition"]: row
        for row in prediction.transition_table(
            line(**settings).model_copy(update={"parameters": weak})
        ).to_pylist()
    }
    ends = [
        phases.transition_noise(weak, tau=0.03, end=end, noise_range=(0.0225, 0.8))
        for end in (False, True)
    ]
    for name, found in zip(("gfl_end", "mixed_end"), ends, strict=True):
        assert rows[name]["noise"] == pytest.approx(float(found.noise), rel=1e-6)
        assert rows[name]["effective_interaction"] == pytest.approx(
            float(one_neuron.effective_interaction(weak, found.noise)), rel=1e-6
        )
    assert rows["mixed_end"]["noise"] < rows["gfl_end"]["noise"]
    [last] = prediction.transition_table(line()).to_pylist()[2:]
    assert last["transition"] == "limit"
    assert last["noise"] == pytest.approx(0.1787, abs=1e-4)
    assert last["effective_interaction"] == pytest.approx(30.67, abs=0.02)
