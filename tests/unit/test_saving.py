"""Between blocks of draws: what is saved when; and what a shard says of its sweeps."""

import contextlib
import logging
import signal
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from grokphase import training
from grokphase.datasets import write_dataset
from grokphase.errors import StoppedError
from grokphase.parameters import TeacherStudent
from grokphase.sampling.ensemble import Ensemble
from grokphase.sampling.kernels import State
from grokphase.specifications.dataset import DatasetSpecification
from grokphase.specifications.training import (
    Annealing,
    Networks,
    PlantedStart,
    TrainingSpecification,
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


def specification(**changes):
    values = {
        "experiment": "e",
        "seed": 3,
        "point": "noise~0.5/cubic_strength~-0.3",
        "model": "teacher_student",
        "parameters": PARAMETERS,
        "kernel": {"kernel": "hamiltonian", "step_size": 0.2, "leapfrog_steps": 2},
        "burn_in": 5,
        "draws": 8,
        "thin": 1,
        "networks": Networks(prior=1, planted=1),
        "planted": PlantedStart(fraction=0.3),
    }
    return TrainingSpecification(**values | changes)


@pytest.mark.parametrize("sweeps", [0, 2])
def test_a_shard_holds_the_share_of_accepted_moves_of_its_sweeps(tmp_path, sweeps):
    """Nearly all, per draw; and no number where there are none."""
    known = DatasetSpecification(experiment="e", seed=3, dataset=0, input_dim=3, train_size=6)
    write_dataset(known, tmp_path / "0.npz")
    files = {0: tmp_path / "0.npz"}
    training.train(specification(neuron_sweeps=sweeps), files, tmp_path / "shard", tmp_path, "")
    table = read_table(tmp_path / "shard", shards.schema(OBSERVABLES["teacher_student"]))
    found = table["sweep_acceptance"].to_pylist()
    if sweeps:
        assert all(0.8 < share <= 1 for share in found)
    else:
        assert found == [None, None]


def ensemble(done):
    empty = np.zeros((1, 1, 0))
    state = State(jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.zeros((1, 1)))
    return Ensemble(done, state, *[empty] * 6)


def keeper(monkeypatch, signals=(), every=30.0, finished=()):
    """A keeper of a job of four datasets of 20 draws, its clock [seconds], and what it saved."""
    clock, saved, signals = [0.0], [], list(signals)
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    checkpoint = SimpleNamespace(save=lambda arrays: saved.append(int(arrays["current/done"])))
    one = training._Keeper(
        checkpoint,
        every,
        lambda: signals.pop(0) if signals else None,
        {number: {} for number in finished},
        20,
        4,
    )
    return one, clock, saved


def test_the_state_is_saved_so_often_and_no_more(monkeypatch):
    one, clock, saved = keeper(monkeypatch)
    for done, now in enumerate((10, 29.9, 30, 40, 59.9, 60.1, 95), start=1):
        clock[0] = now
        one.after_block([0], ensemble(done))
    assert saved == [3, 6, 7]


def test_a_signal_saves_the_state_and_stops(monkeypatch):
    """At once; it says how far the job has come, finished datasets and all of a group included."""
    one, _, saved = keeper(monkeypatch, [None, "SIGTERM"], finished=(0,))
    one.after_block([1, 2], ensemble(5))
    assert saved == []
    with pytest.raises(StoppedError, match="stopped by SIGTERM after 34 of 80 draws"):
        one.after_block([1, 2], ensemble(7))
    assert saved == [7]


def test_annealed_networks_begin_at_the_noise_of_their_kind():
    of = specification(
        networks=Networks(prior=1, planted=1, cooled=2, heated=1),
        annealing=Annealing(highest_noise=4.0, lowest_noise=0.05),
    )
    assert training._first_noises(of) == [0.5, 0.5, 4.0, 4.0, 0.05]
    np.testing.assert_allclose(training._noise_ratios(of), [1, 1, 8, 8, 0.1])
    assert training._noise_ratios(specification()) is None


def test_a_finished_job_that_runs_again_saves_nothing(tmp_path, monkeypatch):
    """Its shard comes from the state that it left."""
    known = DatasetSpecification(experiment="e", seed=3, dataset=0, input_dim=3, train_size=6)
    write_dataset(known, tmp_path / "0.npz")
    job = specification(), {0: tmp_path / "0.npz"}
    training.train(*job, tmp_path / "first", tmp_path / "checkpoints", "")
    [state] = (tmp_path / "checkpoints").glob("*.checkpoint")
    before = state.stat().st_mtime_ns
    training.train(*job, tmp_path / "second", tmp_path / "checkpoints", "")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert state.stat().st_mtime_ns == before


def test_signals_from_the_first_line_to_the_last_end_no_job(tmp_path, monkeypatch, caplog):
    """Once a job says that it continues it can be stopped; what is left at the end is done."""
    known = DatasetSpecification(experiment="e", seed=3, dataset=0, input_dim=3, train_size=6)
    write_dataset(known, tmp_path / "0.npz")
    job = specification(), {0: tmp_path / "0.npz"}
    training.train(*job, tmp_path / "undisturbed", tmp_path / "other", "")
    with monkeypatch.context() as patch:
        at_once = contextlib.nullcontext(lambda: "SIGTERM")
        patch.setattr(training, "interruptible", lambda: at_once)
        with pytest.raises(StoppedError, match="stopped by SIGTERM after 3 of 13 draws"):
            training.train(*job, tmp_path / "shard", tmp_path, "")

    def terminate(*_):
        signal.raise_signal(signal.SIGTERM)
        return True

    class Terminates(logging.Handler):
        emit = terminate

    handler = Terminates()
    handler.addFilter(lambda record: "continuing after 3 of 13" in record.getMessage())
    caplog.set_level(logging.INFO, "grokphase.training")
    with monkeypatch.context() as patch:
        patch.setattr(logging.getLogger("grokphase.training"), "handlers", [handler])
        with pytest.raises(StoppedError, match="stopped by SIGTERM after"):
            training.train(*job, tmp_path / "shard", tmp_path, "")
    write = training.write_table
    monkeypatch.setattr(training, "write_table", lambda *a: terminate() and write(*a))
    training.train(*job, tmp_path / "shard", tmp_path, "")
    assert (tmp_path / "shard").read_bytes() == (tmp_path / "undisturbed").read_bytes()
