"""Ensembles of networks: sharding, adding networks, resuming and divergence change nothing."""

from functools import cache, partial
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase import datasets as datasets_module
from grokphase import training
from grokphase.datasets import generate_dataset, write_dataset
from grokphase.errors import DivergenceError, GrokphaseError
from grokphase.models import teacher_student
from grokphase.parameters import TeacherStudent
from grokphase.sampling import ensemble, programs
from grokphase.sampling.checkpoint import Checkpoint
from grokphase.sampling.ensemble import Profiles, Sampler, Schedule, count_overlaps
from grokphase.sampling.kernels import Info, Kernel, State, Target, load
from grokphase.sampling.sweeps import sweeps_per_step
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import (
    Annealing,
    Networks,
    PlantedStart,
    TrainingSpecification,
    Umbrella,
)
from grokphase.storage import read_table
from grokphase.tables import shards
from grokphase.tables.observables import OBSERVABLES

PARAMETERS = TeacherStudent(
    input_dim=3,
    width=4,
    train_size=6,
    weight_variance=1.5,
    readout_variance=1.0,
    noise=0.5,
    cubic_strength=-0.3,
)
HAMILTONIAN = {"kernel": "hamiltonian", "step_size": 0.2, "leapfrog_steps": 2}
KERNELS = {
    "hamiltonian": HAMILTONIAN,
    "pcn_langevin": {"kernel": "pcn_langevin", "step_size": 0.1},
    "isotropic_langevin": {"kernel": "isotropic_langevin", "step_size": 0.01},
}


def specification(**changes):
    values = {
        "experiment": "e",
        "seed": 3,
        "point": "noise~0.5/cubic_strength~-0.3",
        "model": "teacher_student",
        "parameters": PARAMETERS,
        "kernel": HAMILTONIAN,
        "burn_in": 5,
        "draws": 8,
        "thin": 1,
        "networks": Networks(prior=1, planted=1),
        "planted": PlantedStart(fraction=0.3),
    }
    return TrainingSpecification(**values | changes)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    for index in range(3):
        write_dataset(
            DatasetSpecification(experiment="e", seed=3, dataset=index, input_dim=3, train_size=6),
            folder / f"{index}.npz",
        )
    return {index: folder / f"{index}.npz" for index in range(3)}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Three draws in a block: blocks end within burn-in, at its end, and short at the end."""
    monkeypatch.setattr(training, "block_size", lambda *arguments: 3)


@pytest.fixture(scope="module")
def program_folder(tmp_path_factory):
    """Programs that the tests share; one that changes what they compute trains without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grokphase.sampling.programs.modules_elsewhere", list)
        yield tmp_path_factory.mktemp("programs")


@pytest.fixture
def train(tmp_path, datasets, program_folder):
    """Train on some datasets and return the path of the shard; each shard has a folder of its own
    for checkpoints."""

    def run(spec, indices=(0, 1, 2), name="shard", code_digest="", **options):
        training.train(
            spec,
            {index: datasets[index] for index in indices},
            tmp_path / name,
            tmp_path / f"checkpoints of {name}",
            code_digest,
            **{"program_folder": program_folder} | options,
        )
        return tmp_path / name

    return run


def rows(path):
    """(dataset, start, network) -> row."""
    table = read_table(path, shards.schema(OBSERVABLES["teacher_student"]))
    return {(r["dataset"], r["start"], r["network"]): r for r in table.to_pylist()}


# --- the unadjusted part of burn-in ---------------------------------------------------------------


def test_more_sweeps_are_made_in_the_unadjusted_part_of_burn_in_alone():
    """The position of these networks is the number of sweeps that were made."""
    spec = specification(neuron_sweeps=2, unadjusted_sweeps=5, burn_in=7, draws=3, thin=2)

    def make_kernel(data, accept_all):
        def step(key, state):
            made = state.position + sweeps_per_step(spec, accept_all)
            return state._replace(position=made), Info(jnp.ones(()), jnp.zeros(()))

        return Kernel(lambda x: State(x, jnp.zeros(()), jnp.zeros(())), step)

    schedule = Schedule(burn_in=4, draws=3, thin=2, block=2)
    sampler = Sampler(
        make_kernel, lambda data, state: (state.position[None], jnp.zeros(1)), 1, schedule
    )
    keys = jnp.stack([jax.random.key(0)])[None]
    ended = sampler.run(
        keys, sampler.start(jnp.zeros((1, 1)), jnp.zeros(1)), jnp.zeros(1), lambda now: None
    )
    # Three of the four draws of burn-in, each of two steps.
    assert ended.observables[0, 0, :, 0].tolist() == [38, 42, 46]
    assert spec.sweeps_in_all == 46
    assert spec.steps_in_all == 14
    assert specification(neuron_sweeps=2).sweeps_in_all == 2 * 13


# --- which networks share a shard -----------------------------------------------------------------


@pytest.mark.parametrize("name", KERNELS)
def test_splitting_a_shard_changes_no_network(train, name):
    """Bit for bit, in any order of the datasets."""
    spec = specification(kernel=KERNELS[name])
    together = rows(train(spec))
    split = rows(train(spec, (2,), "a")) | rows(train(spec, (1, 0), "b"))
    assert together == split
    assert list(together) == [(d, s, 0) for d in range(3) for s in ("prior", "planted")]


def test_how_a_program_is_compiled_depends_on_the_work_of_a_dataset_alone(train, monkeypatch):
    """Not on how datasets are shared out; and it changes the networks by rounding alone."""
    works, choose = [], ensemble.compiler_options

    def recorded(work):
        works.append(work)
        return choose(work)

    monkeypatch.setattr(ensemble, "compiler_options", recorded)
    spec = specification(neuron_sweeps=1)
    for datasets in (1, 3):
        training._sampler(spec, teacher_student, datasets)
    assert len(set(works)) == 1
    assert not choose(works[0])["xla_cpu_use_fusion_emitters"]
    short = rows(train(spec, (0,), "short"))
    monkeypatch.setattr(ensemble, "SHORT_WORK", works[0])
    assert choose(works[0])["xla_cpu_use_fusion_emitters"]
    for place, row in rows(train(spec, (0,), "long", program_folder=None)).items():
        for name in OBSERVABLES["teacher_student"]:
            np.testing.assert_allclose(row[name], short[place][name], rtol=1e-3, atol=1e-4)


WINDOW = Umbrella(overlaps=(0.5,), burn_in=1, draws=1)


def test_points_share_programs_that_give_what_their_own_would(train, tmp_path, monkeypatch):
    """Bit for bit, at another noise and cubic strength too, where no program is added; annealed
    networks and windows included. A point without windows needs none of its own either."""
    monkeypatch.setattr(programs, "modules_elsewhere", list)
    folder, networks = tmp_path / "programs", Networks(prior=1, planted=0, cooled=1)

    def of_point(noise, strength, umbrella=WINDOW):
        changes = {"noise": noise, "cubic_strength": strength}
        return specification(
            parameters=PARAMETERS.model_copy(update=changes),
            point=f"noise~{noise}",
            networks=networks,
            annealing=Annealing(highest_noise=1.0, lowest_noise=0.01),
            umbrella=umbrella,
        )

    train(of_point(0.2, 0.0), (0,), "first", program_folder=folder)
    second = train(of_point(0.3, -0.4), (0,), "second", program_folder=folder)
    third = train(of_point(0.4, -0.1, None), (0,), "third", program_folder=folder)
    names = sorted(file.name.split("-")[0] for file in folder.iterdir())
    assert names == ["advance", "begin", "profile"]
    traced = partial(train, indices=(0,), program_folder=None)
    assert rows(second) == rows(traced(of_point(0.3, -0.4), name="alone"))
    assert rows(third) == rows(traced(of_point(0.4, -0.1, None), name="without"))


def test_annealed_networks_begin_at_their_own_noise(train, monkeypatch):
    """Readouts of a cooled network are those of its posterior at the highest noise."""
    begun, settle = [], teacher_student.settle

    def recorded(key, position, parameters, data):
        jax.debug.callback(lambda noise: begun.append(float(noise)), data.noise)
        return settle(key, position, parameters, data)

    monkeypatch.setattr(teacher_student, "settle", recorded)
    networks = Networks(prior=1, planted=0, cooled=1, heated=1)
    annealing = Annealing(highest_noise=2, lowest_noise=0.05)
    train(specification(networks=networks, annealing=annealing), program_folder=None)
    assert sorted(begun) == pytest.approx([0.05] * 3 + [PARAMETERS.noise] * 3 + [2.0] * 3)


def test_datasets_that_move_together_change_none_of_the_others(train, monkeypatch):
    """As on an accelerator; on a CPU bit for bit, annealed networks and sweeps included."""
    spec = specification(
        networks=Networks(prior=1, cooled=1, planted=0),
        annealing=Annealing(highest_noise=4.0, lowest_noise=0.05),
        neuron_sweeps=1,
    )
    alone = rows(train(spec, name="alone"))
    monkeypatch.setattr(training, "datasets_together", lambda _, datasets: [datasets])
    assert rows(train(spec, name="together")) == alone


def test_the_program_of_an_accelerator_gives_the_networks_of_a_cpu(train, monkeypatch):
    """Run here: vmap over datasets and networks, all training points in one block."""
    spec = specification(neuron_sweeps=1)
    expected = rows(train(spec, name="cpu"))
    device = SimpleNamespace(memory_stats=lambda: None)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [device])
    found = rows(train(spec, name="accelerator"))
    assert list(found) == list(expected)
    for key, row in found.items():
        for name in (*OBSERVABLES["teacher_student"], "acceptance"):
            np.testing.assert_allclose(row[name], expected[key][name], rtol=2e-3, atol=2e-4)


def test_datasets_that_move_together_resume_where_they_were(train, monkeypatch):
    monkeypatch.setattr(training, "datasets_together", lambda _, datasets: [datasets])
    train = partial(train, specification())
    expected = train(name="uninterrupted").read_bytes()
    # Two blocks of burn-in, three of draws, and the state in which all are finished.
    for _ in range(6):
        with monkeypatch.context() as patch:
            stop_after_saves(patch, 1)
            with pytest.raises(Interrupted):
                train(name="resumed", checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        stop_after_saves(patch, 1)
        assert train(name="resumed").read_bytes() == expected


def test_datasets_that_move_together_fit_in_the_memory_of_the_accelerator(monkeypatch):
    """Equal groups, none larger than half of the memory holds, and one dataset at least."""
    of_dataset = 2 * teacher_student.bytes_per_network(PARAMETERS)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for held, expected in [(100, 12), (11, 6), (5, 4), (1, 1), (0.1, 1)]:
        device = SimpleNamespace(
            memory_stats=lambda held=held: {"bytes_limit": 2 * held * of_dataset}
        )
        monkeypatch.setattr(jax, "devices", lambda device=device: [device])
        groups = training.datasets_together(specification(), list(range(12)))
        assert {len(group) for group in groups} == {expected}
        assert [dataset for group in groups for dataset in group] == list(range(12))


def test_adding_networks_changes_none_of_the_others(train):
    """Bit for bit on a CPU, where each network is computed by itself."""
    few = rows(train(specification(), name="few"))
    many = rows(train(specification(networks=Networks(prior=3, planted=2)), name="many"))
    assert len(many) == 15
    assert {identity: many[identity] for identity in few} == few
    losses = [tuple(row["train_loss"]) for row in many.values()]
    assert len(set(losses)) == 15


def test_a_shard_is_a_function_of_its_specification(train):
    assert (
        train(specification(), name="a").read_bytes()
        == train(specification(), name="b").read_bytes()
    )


@pytest.mark.parametrize("change", [{"experiment": "f"}, {"seed": 4}, {"point": "noise~0.6"}])
def test_another_identity_gives_other_noise(train, program_folder, tmp_path, monkeypatch, change):
    """On the very same data: only the keys differ."""
    first = rows(train(specification(), (0,)))
    changed = specification(**change)
    identity = {"experiment": changed.experiment, "seed": changed.seed, "dataset": 0}
    same = generate_dataset(
        DatasetSpecification(experiment="e", seed=3, dataset=0, input_dim=3, train_size=6)
    )
    monkeypatch.setattr(datasets_module, "generate_dataset", lambda specification: same)
    write_dataset(DatasetSpecification(input_dim=3, train_size=6, **identity), tmp_path / "0.npz")
    files = {0: tmp_path / "0.npz"}
    training.train(changed, files, tmp_path / "other", tmp_path, "", program_folder=program_folder)
    other = rows(tmp_path / "other")
    for key, row in first.items():
        assert row["weight_norm"][0] != other[key]["weight_norm"][0]


def test_rows_hold_one_value_per_draw_and_count_every_neuron(train):
    for row in rows(train(specification())).values():
        for name in OBSERVABLES["teacher_student"]:
            assert len(row[name]) == 8
            assert np.isfinite(row[name]).all()
        assert sum(row["overlap_counts"]) == 8 * PARAMETERS.width
        assert len(row["overlap_counts"]) == shards.FINE_BINS + 2
        assert 0 < row["acceptance"] <= 1


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_the_size_of_a_block_changes_no_draw(train, monkeypatch, size):
    first = rows(train(specification(), (0,), "a"))
    monkeypatch.setattr(training, "block_size", lambda *arguments: size)
    second = rows(train(specification(), (0,), "b", program_folder=None))
    for key, row in first.items():
        assert row.pop("acceptance") == pytest.approx(second[key].pop("acceptance"), rel=1e-6)
        assert row == second[key]


def test_burn_in_and_thinning_select_from_one_trajectory(train):
    """Draws are steps burn_in + thin, burn_in + 2 thin, ... of one and the same chain."""
    kernel = KERNELS["isotropic_langevin"]
    every = rows(train(specification(kernel=kernel, burn_in=0, draws=14), name="every"))
    thinned = rows(train(specification(kernel=kernel, burn_in=4, draws=5, thin=2), name="thinned"))
    for key, row in thinned.items():
        for name in OBSERVABLES["teacher_student"]:
            np.testing.assert_allclose(row[name], every[key][name][5::2], rtol=1e-5, atol=1e-6)


# --- interruption ---------------------------------------------------------------------------------


class Interrupted(BaseException):
    """The process is stopped."""


def stop_after_saves(monkeypatch, number):
    """Stop right after the given number of checkpoints."""
    save, saved = Checkpoint.save, []

    def save_and_stop(self, arrays):
        save(self, arrays)
        saved.append(1)
        if len(saved) == number:
            raise Interrupted

    monkeypatch.setattr(Checkpoint, "save", save_and_stop)


@pytest.mark.parametrize("name", [*KERNELS, "with sweeps"])
def test_a_run_interrupted_at_every_block_gives_the_same_bytes(train, monkeypatch, tmp_path, name):
    """Each attempt gets one block further; its shard is that of an uninterrupted run."""
    if name in KERNELS:
        spec = specification(kernel=KERNELS[name])
    else:
        spec = specification(neuron_sweeps=1)
    expected = train(spec, (0, 1), "uninterrupted").read_bytes()
    resume = partial(train, spec, (0, 1), "resumed", checkpoint_seconds=0)
    # Two datasets of two blocks of burn-in (3 + 2 draws) and three of draws (3 + 3 + 2), and the
    # state in which both are finished.
    for _ in range(11):
        with monkeypatch.context() as patch:
            stop_after_saves(patch, 1)
            with pytest.raises(Interrupted):
                resume()
        assert not (tmp_path / "resumed").exists()
    with monkeypatch.context() as patch:
        stop_after_saves(patch, 1)
        resumed = resume()
    assert resumed.read_bytes() == expected
    assert len(list((tmp_path / "checkpoints of resumed").glob("*.checkpoint"))) == 1


def test_datasets_that_are_finished_are_not_needed_again(train, tmp_path):
    """The shard is written from the last checkpoint; any other dataset is missed at once."""
    expected = train(specification(), name="shard").read_bytes()
    missing = {index: tmp_path / f"missing {index}" for index in range(3)}
    folder = tmp_path / "checkpoints of shard"
    training.train(specification(), missing, tmp_path / "again", folder, "")
    assert (tmp_path / "again").read_bytes() == expected
    with pytest.raises(GrokphaseError, match=r"missing \d does not exist"):
        training.train(specification(), missing, tmp_path / "new", tmp_path / "empty", "")


@pytest.mark.parametrize("damaged", ["newest", "both"])
def test_a_run_resumes_in_spite_of_damaged_checkpoints(
    train, monkeypatch, tmp_path, caplog, damaged
):
    expected = train(specification(), name="uninterrupted").read_bytes()
    with monkeypatch.context() as patch:
        stop_after_saves(patch, 8)
        with pytest.raises(Interrupted):
            train(specification(), name="resumed", checkpoint_seconds=0)
    files = sorted((tmp_path / "checkpoints of resumed").iterdir())
    assert [path.suffix for path in files] == [".checkpoint", ".previous"]
    for path in files[: 1 if damaged == "newest" else 2]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    loaded, load_checkpoint = [], Checkpoint.load
    monkeypatch.setattr(
        Checkpoint, "load", lambda self: loaded.append(load_checkpoint(self)) or loaded[-1]
    )
    resumed = train(specification(), name="resumed", checkpoint_seconds=0)
    assert (loaded[0] is None) == (damaged == "both")
    if loaded[0]:
        # The second dataset, one block before the newest checkpoint.
        assert loaded[0]["current/dataset"] == 1
        assert loaded[0]["current/done"] == 5
    assert caplog.text.count("is damaged") == (1 if damaged == "newest" else 2)
    assert resumed.read_bytes() == expected


@pytest.mark.parametrize("change", ["specification", "code", "datasets"])
def test_a_checkpoint_of_another_computation_is_not_used(train, monkeypatch, change):
    """After a change of settings, code or datasets nothing of the old run is left over."""
    with monkeypatch.context() as patch:
        stop_after_saves(patch, 7)
        with pytest.raises(Interrupted):
            train(specification(), (0, 1), checkpoint_seconds=0, code_digest="old")
    spec = specification(draws=9) if change == "specification" else specification()
    options = {
        "indices": (0, 2) if change == "datasets" else (0, 1),
        "code_digest": "new" if change == "code" else "old",
    }
    loaded, load_checkpoint = [], Checkpoint.load
    monkeypatch.setattr(
        Checkpoint, "load", lambda self: loaded.append(load_checkpoint(self)) or loaded[-1]
    )
    train(spec, **options)
    assert loaded == [None]


# --- failures -------------------------------------------------------------------------------------


def test_diverging_dynamics_name_the_point_the_dataset_the_steps_and_the_step_size(train):
    kernel = {"kernel": "isotropic_langevin", "step_size": 7.5}
    spec = specification(kernel=kernel, burn_in=200, thin=4, draws=100)
    with pytest.raises(GrokphaseError) as error:
        train(spec, (2,))
    message = str(error.value)
    for part in (
        "noise~0.5/cubic_strength~-0.3",
        "dataset 2",
        "diverged between steps",
        "'step_size': 7.5",
        "experiments.e.sampler",
    ):
        assert part in message


@pytest.fixture
def debugging():
    """Options with which JAX raises errors of its own."""
    for value in (True, False):
        jax.config.update("jax_debug_nans", value)
        jax.config.update("jax_debug_infs", value)
        if value:
            yield


def test_divergence_is_named_whatever_jax_is_told_to_debug(train, debugging):
    kernel = KERNELS["isotropic_langevin"] | {"step_size": 10.0}
    with pytest.raises(DivergenceError, match="diverged between steps"):
        train(specification(kernel=kernel))


def test_divergence_is_located_at_its_draw():
    """A target that is undefined from the sixth draw on: steps 10 and 12 with two per draw."""
    kernel = load("pcn_langevin").build(
        Target(lambda x: (jnp.sum(x) * 0, x * 0), 1.0, 1.0),
        load("pcn_langevin").Settings(step_size=0.5, metropolis=False),
    )

    def step(key, state):
        # The position counts the steps.
        return state._replace(position=state.position + 1), kernel.step(key, state)[1]

    sampler = Sampler(
        make_kernel=lambda data, burn_in: kernel._replace(step=step),
        observe=lambda data, state: (
            jnp.where(state.position <= 10, state.position, jnp.nan),
            state.position,
        ),
        observable_count=1,
        schedule=Schedule(burn_in=2, draws=9, thin=2, block=3),
    )
    keys = jax.random.split(jax.random.key(0), (1, 2))
    start = sampler.start(jnp.zeros((1, 2, 1)), None)
    with pytest.raises(GrokphaseError, match="diverged between steps 10 and 12"):
        sampler.run(keys, start, None, lambda _: None)


@pytest.mark.parametrize("name", ["hamiltonian", "pcn_langevin"])
def test_a_sampler_that_accepts_nothing_is_refused(train, name):
    """At this noise and step every proposal is far away; burn-in is skipped."""
    kernel = {
        "hamiltonian": {"kernel": name, "step_size": 1.5, "leapfrog_steps": 30},
        "pcn_langevin": {"kernel": name, "step_size": 1.9},
    }[name]
    stiff = PARAMETERS.model_copy(update={"noise": 1e-7})
    with pytest.raises(GrokphaseError, match="no proposal was accepted") as error:
        train(specification(kernel=kernel, parameters=stiff, burn_in=0), (1,))
    assert "dataset 1" in str(error.value)
    assert f"'step_size': {kernel['step_size']}" in str(error.value)


def test_too_little_memory_is_reported_with_the_keys_that_help(train, monkeypatch):
    def exhausted(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying ...")

    monkeypatch.setattr(Sampler, "run", exhausted)
    with pytest.raises(GrokphaseError, match="does not hold 2 networks") as error:
        train(specification())
    assert "lower networks or datasets_per_job in experiments.e" in str(error.value)


def test_a_dataset_of_other_parameters_is_refused(train, datasets):
    other = PARAMETERS.model_copy(update={"train_size": 7})
    with pytest.raises(GrokphaseError, match=r"0\.npz was made with other parameters"):
        train(specification(parameters=other))
    with pytest.raises(GrokphaseError, match=r"0\.npz was made with other parameters"):
        train(specification(seed=4))


def test_a_truncated_dataset_is_refused(tmp_path, datasets):
    content = datasets[0].read_bytes()
    (tmp_path / "0.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(GrokphaseError, match=r"0\.npz is truncated or damaged"):
        training.train(specification(), {0: tmp_path / "0.npz"}, tmp_path / "s", tmp_path, "")


# --- counts of overlaps ---------------------------------------------------------------------------


def test_overlaps_are_counted_as_by_numpy():
    """Interior values, both ends, and everything beyond them."""
    edges = -shards.FINE_LIMIT + shards.FINE_WIDTH * np.arange(shards.FINE_BINS + 1)
    generator = np.random.default_rng(0)
    bins = generator.integers(-60, shards.FINE_BINS + 60, 20_000)
    # Away from the edges, whose side is a matter of rounding.
    inside = generator.uniform(0.01, 0.99, 20_000)
    q = -shards.FINE_LIMIT + shards.FINE_WIDTH * (bins + inside)
    counts = np.asarray(count_overlaps(jnp.asarray(q, jnp.float32)))
    np.testing.assert_array_equal(counts[1:-1], np.histogram(q, edges)[0])
    assert counts[0] == (bins < 0).sum() > 0
    assert counts[-1] == (bins >= shards.FINE_BINS).sum() > 0
    assert counts.sum() == q.size


@pytest.mark.parametrize("size", [2.0, 2.5, 1e3, 1e6])
def test_overlaps_beyond_the_bins_are_counted_on_their_side(size):
    counts = np.asarray(count_overlaps(jnp.array([size, size, -size * 1.001])))
    assert (counts[0], counts[-1], counts.sum()) == (1, 2, 3)


# --- annealing ------------------------------------------------------------------------------------


class Noise(NamedTuple):
    noise: jax.Array


def recorded_noises(ratios, burn_in=6, draws=4, thin=2, stop_after=None):
    """Noise of every kernel step of an ensemble whose positions record it, [networks, steps].

    With `stop_after` blocks the run is interrupted there and another sampler goes on.
    """
    steps = burn_in + draws

    def make_kernel(data, is_burn_in):
        def step(key, state):
            number = state.position[0].astype(int)
            position = state.position.at[number + 1].set(data.noise).at[0].add(1)
            return state._replace(position=position), Info(jnp.ones(()), jnp.zeros(()))

        return Kernel(lambda x: State(x, jnp.zeros(()), x), step)

    def sampler():
        return Sampler(
            make_kernel=make_kernel,
            observe=lambda data, state: (state.position[:1], state.position),
            observable_count=1,
            schedule=Schedule(burn_in=burn_in, draws=draws, thin=thin, block=2),
        )

    blocks = []

    def after_block(ensemble):
        # The states' memory is given to the next block.
        blocks.append(ensemble._replace(state=jax.tree.map(jnp.copy, ensemble.state)))

    keys = jax.random.split(jax.random.key(0), (1, len(ratios)))
    start = sampler().start(jnp.zeros((1, len(ratios), steps * thin + 1)), Noise(jnp.ones(1)))
    data, ratios = Noise(jnp.asarray([0.5])), None if ratios == [1] else jnp.asarray(ratios)
    ensemble = sampler().run(keys, start, data, after_block, ratios)
    if stop_after is not None:
        ensemble = sampler().run(keys, blocks[stop_after - 1], data, lambda _: None, ratios)
    return np.asarray(ensemble.state.position)[0, :, 1:]


def test_noise_moves_geometrically_during_burn_in_and_then_stays():
    noise = recorded_noises([4.0, 0.25, 1.0])
    left = np.maximum(1 - np.arange(1, 21) / 12, 0)
    expected = 0.5 * np.array([4.0, 0.25, 1.0])[:, None] ** left
    np.testing.assert_allclose(noise, expected, rtol=1e-6)
    np.testing.assert_allclose(noise[:, 11:], 0.5, rtol=1e-6)
    assert (noise[:, 12:] == 0.5).all()


def test_noise_stays_where_nothing_anneals():
    assert (recorded_noises([1]) == 0.5).all()


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_an_interrupted_annealing_goes_on_where_it_was(blocks):
    ratios = [4.0, 0.25]
    np.testing.assert_array_equal(
        recorded_noises(ratios), recorded_noises(ratios, stop_after=blocks)
    )


def test_annealed_networks_change_none_of_the_others(train):
    """Bit for bit; and what they do themselves is not what the constant noise does."""
    annealed = specification(
        networks=Networks(prior=1, planted=1, cooled=1, heated=1),
        annealing=Annealing(highest_noise=4.0, lowest_noise=0.05),
    )
    alone = rows(train(specification(), name="alone"))
    together = rows(train(annealed, name="annealed"))
    assert {identity: together[identity] for identity in alone} == alone
    losses = [tuple(row["train_loss"]) for row in together.values()]
    assert len(set(losses)) == 12


# --- windows --------------------------------------------------------------------------------------


@cache
def sampler_in_windows(stuck_at, stuck_beyond, purpose):
    """One sampler for every purpose, whose profiles are those of `in_windows`."""

    def make_kernel(data, accept_all):
        def step(key, state):
            position = state.position + 1 + 0.01 * jax.random.uniform(key)
            stuck = (data.noise == stuck_at) & (position[0] > stuck_beyond)
            return state._replace(position=position), Info(1.0 - stuck, jnp.zeros(()))

        return Kernel(lambda x: State(x, jnp.zeros(()), x), step)

    def compute(key, position, data):
        return jnp.stack([data.noise, position[0], jax.random.uniform(key)])

    return Sampler(
        make_kernel=make_kernel,
        observe=lambda data, state: (state.position, state.position),
        observable_count=1,
        schedule=Schedule(4, 3, 2, 2, windows=2, window_burn_in=1, window_draws=3),
        profiles=Profiles(
            3,
            compute,
            lambda data, window: Noise(data.noise + 10 * window),
            lambda positions, data: np.full_like(positions, 100 * data.noise[0]),
            noise=lambda profiles: 0.0,
            largest_noise=1.0,
            compared=2,
        ),
    )


def in_windows(stop_after=None, stuck_at=-1.0, stuck_beyond=0.0):
    """An ensemble whose profiles record the centre of the window, the position and the key's draw.

    With `stop_after` blocks the run is interrupted there and another sampler goes on. At noise
    `stuck_at` no proposal is accepted beyond that position.
    """
    blocks = []

    def after_block(ensemble):
        blocks.append(ensemble._replace(state=jax.tree.map(jnp.copy, ensemble.state)))

    sampler = partial(sampler_in_windows, stuck_at, stuck_beyond)
    keys = jax.random.split(jax.random.key(0), (1, 2))
    data = Noise(jnp.asarray([0.5]))
    try:
        start = sampler("begin").start(jnp.zeros((1, 2, 1)), data)
        ensemble = sampler("begin").run(keys, start, data, after_block)
    except DivergenceError:
        if stop_after is None:
            raise
    if stop_after is not None:
        ensemble = sampler("go on").run(keys, blocks[stop_after - 1], data, lambda _: None)
    return ensemble, len(blocks)


# Blocks of `in_windows`: 3 of burn-in and 3 draws, then of every window one of burn-in and 3 draws.
@pytest.mark.parametrize(("window", "blocks_before"), [(1, 9), (2, 13)])
def test_a_window_in_which_nothing_is_accepted_is_refused(window, blocks_before):
    """By a run that goes on from any state before too."""
    for stop_after in [None, *range(1, blocks_before + 1)]:
        with pytest.raises(GrokphaseError, match=f"no proposal was accepted in window {window}"):
            in_windows(stop_after, stuck_at=0.5 + 10 * window)


@pytest.mark.parametrize("stop_after", [None, 6, 7, 8, 9])
def test_a_window_in_which_a_single_recorded_draw_moves_is_kept(stop_after):
    """The first of three, at 1050 + 4: it is remembered in whatever block a run goes on."""
    ensemble, _ = in_windows(stop_after, stuck_at=10.5, stuck_beyond=1054.5)
    assert (ensemble.window_acceptance > 0).all()


def test_windows_come_after_the_draws_and_begin_where_they_should():
    """Three draws of two steps from the posterior, and three of each window after one discarded."""
    ensemble, _ = in_windows()
    assert ensemble.done == 4 + 3 + 2 * 4
    assert ensemble.observables.shape == (1, 2, 3, 1)
    assert ensemble.profiles.shape == (1, 2, 9, 3)
    noise, position, draw = np.moveaxis(ensemble.profiles[0], 2, 0)
    np.testing.assert_allclose(noise, [[0.5] * 3 + [10.5] * 3 + [20.5] * 3] * 2)
    starts = [[10, 12, 14, 1054, 1056, 1058, 2054, 2056, 2058]] * 2
    np.testing.assert_allclose(position, starts, atol=0.2)
    assert len(np.unique(draw)) == draw.size
    # Nothing of the windows is among what is recorded of the posterior.
    assert np.ptp(ensemble.observables) < 5
    assert (ensemble.counts.sum(axis=2) == 3).all()


def test_a_window_begins_at_its_own_noise_in_its_own_posterior():
    """Annealed networks too, which begin burn-in at another one."""

    def make_kernel(data, accept_all):
        def step(key, state):
            # The potential with which the network began.
            return state._replace(position=state.position.at[1].set(state.potential)), Info(
                jnp.ones(()), jnp.zeros(())
            )

        return Kernel(lambda x: State(x, data.noise, x), step)

    sampler = Sampler(
        make_kernel=make_kernel,
        observe=lambda data, state: (state.position, state.position),
        observable_count=2,
        schedule=Schedule(4, 1, 1, 2, windows=2, window_burn_in=1, window_draws=1),
        profiles=Profiles(
            2,
            lambda key, position, data: position,
            lambda data, window: Noise(data.noise + 10 * window),
            lambda positions, data: np.zeros_like(positions),
            noise=lambda profiles: 0.0,
            largest_noise=1.0,
            compared=2,
        ),
        settle=lambda key, position, data: position.at[0].set(data.noise),
    )
    keys, ratios = jax.random.split(jax.random.key(0), (1, 2)), jnp.array([4.0, 1.0])
    data = Noise(jnp.asarray([0.5]))
    start = sampler.start(jnp.zeros((1, 2, 2)), data, keys, ratios)
    np.testing.assert_allclose(start.state.position[0, :, 0], [2.0, 0.5])
    ensemble = sampler.run(keys, start, data, lambda _: None, ratios)
    for network in range(2):
        in_windows = ensemble.profiles[0, network, 1:]
        np.testing.assert_allclose(in_windows, [[10.5, 10.5], [20.5, 20.5]])


def test_interrupted_windows_go_on_where_they_were():
    """Also between the end of one window and the beginning of the next."""
    whole, blocks = in_windows()
    for stop_after in range(1, blocks):
        np.testing.assert_array_equal(in_windows(stop_after)[0].profiles, whole.profiles)
