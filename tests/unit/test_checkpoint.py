"""Checkpoints: whole or ignored, the previous one kept until the next is safe."""

import os

import numpy as np
import pytest
from grokphase.errors import GrokphaseError
from grokphase.sampling.checkpoint import Checkpoint


def arrays(value):
    return {
        "current/state/0": np.full((3, 4), value, np.float32),
        "current/done": np.asarray(value),
        "finished/0/overlap_counts": np.arange(5) * value,
    }


def value(checkpoint):
    """What the checkpoint holds, after a check that it is one of the whole states saved here."""
    loaded = checkpoint.load()
    if loaded is None:
        return None
    found = int(loaded["current/done"])
    assert loaded.keys() == arrays(found).keys()
    for name, array in arrays(found).items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype
    return found


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "folder" / "a.checkpoint", "0123abcd")


def test_round_trip_and_removal(checkpoint):
    assert checkpoint.load() is None
    for number in (1, 2, 3):
        checkpoint.save(arrays(number))
        assert value(checkpoint) == number
    checkpoint.remove()
    assert checkpoint.load() is None
    assert list(checkpoint.path.parent.iterdir()) == []
    checkpoint.remove()


def test_the_previous_checkpoint_takes_the_place_of_a_damaged_one(checkpoint, caplog):
    checkpoint.save(arrays(1))
    checkpoint.save(arrays(2))
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-1])
    assert value(checkpoint) == 1
    assert f"checkpoint {checkpoint.path} is damaged" in caplog.text
    checkpoint.path.unlink()
    assert value(checkpoint) == 1


def test_two_damaged_checkpoints_are_not_used(checkpoint):
    checkpoint.save(arrays(1))
    checkpoint.save(arrays(2))
    checkpoint.path.write_bytes(b"")
    checkpoint.previous.write_bytes(b"grokphase-checkpoint \n")
    assert checkpoint.load() is None


@pytest.mark.parametrize("key", ["0123abce", "0123abc", "0123abcd0", ""])
def test_the_checkpoint_of_another_computation_is_ignored(checkpoint, key):
    checkpoint.save(arrays(1))
    assert Checkpoint(checkpoint.path, key).load() is None
    assert value(checkpoint) == 1


def test_damage_never_loads_wrong_data(checkpoint, damaged_copies):
    """400 damaged files: each is refused, and the whole predecessor is used."""
    checkpoint.save(arrays(1))
    checkpoint.save(arrays(2))
    for content in damaged_copies(checkpoint.path.read_bytes(), 400, seed=1):
        checkpoint.path.write_bytes(content)
        assert value(checkpoint) == 1


@pytest.mark.parametrize("damaged", [False, True], ids=["newest_whole", "newest_damaged"])
@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.write_bytes"])
def test_an_interrupted_save_keeps_a_whole_checkpoint(checkpoint, monkeypatch, call, damaged):
    """Wherever writing stops, the newest state that was whole before can still be loaded."""
    checkpoint.save(arrays(1))
    checkpoint.save(arrays(2))
    if damaged:
        checkpoint.path.write_bytes(b"damaged")

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(call, stop)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(arrays(3))
    assert value(checkpoint) == (1 if damaged else 2)


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.hardlink_to"])
def test_a_killed_save_does_not_hinder_the_next(checkpoint, monkeypatch, call):
    """A process killed within a save leaves its temporary files; process ids come again."""
    checkpoint.save(arrays(1))

    def killed(*arguments, **options):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(call, killed)
        patch.setattr("pathlib.Path.unlink", lambda *a, **o: None)
        with pytest.raises(SystemExit):
            checkpoint.save(arrays(2))
    checkpoint.save(arrays(3))
    assert value(checkpoint) == 3


def test_a_full_disk_is_named(checkpoint, monkeypatch):
    checkpoint.save(arrays(1))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GrokphaseError, match=r"a\.checkpoint: No space left on device"):
        checkpoint.save(arrays(2))
    assert value(checkpoint) == 1
