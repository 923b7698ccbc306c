"""Checkpoints: atomic, with a checksum; the previous one is kept until the next is safe."""

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokphase.errors import GrokphaseError
from grokphase.files import digest, remove_abandoned, replaced, sealed, unsealed

Arrays = dict[str, NDArray]

_log = logging.getLogger(__name__)


def checkpoint_of(folder: Path, identity: dict[str, Any]) -> "Checkpoint":
    """The checkpoint of the training job whose shard has this provenance."""
    key = digest(identity)
    return Checkpoint(folder / f"{key[:32]}.checkpoint", key)


class Checkpoint:
    """The state of one unfinished computation, in `path` and its predecessor beside it.

    `key` identifies the computation (specification and code): a checkpoint of another one is
    ignored; as the key is also part of the file's name, one is met only if it was damaged.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    @property
    def previous(self) -> Path:
        """Where the checkpoint before the current one lies."""
        return self.path.with_name(self.path.name + ".previous")

    def save(self, arrays: Arrays) -> None:
        """Replace the checkpoint; at every moment one whole checkpoint exists on disk."""
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        body = buffer.getvalue()
        with replaced(self.path) as temporary:
            temporary.write_bytes(sealed(body, self._label))
            if self._read(self.path) is not None:
                # A hard link keeps the old file reachable while the new one takes its name.
                link = self.previous.with_name(f"{temporary.name}.link")
                link.unlink(missing_ok=True)
                # Another copy of this job may have finished and removed it.
                with contextlib.suppress(FileNotFoundError):
                    link.hardlink_to(self.path)
                    link.replace(self.previous)
                # Renaming onto another name of the same file leaves both names.
                link.unlink(missing_ok=True)

    def save_last(self, arrays: Arrays) -> None:
        """Replace the checkpoint by the state of the finished computation, and tidy up."""
        self.save(arrays)
        self.previous.unlink(missing_ok=True)
        remove_abandoned(self.path)

    def load(self) -> Arrays | None:
        """The newest whole checkpoint of this computation, or None. Damage is named in the log."""
        for path in (self.path, self.previous):
            body = self._read(path)
            if body is not None:
                with np.load(io.BytesIO(body)) as arrays:
                    return dict(arrays)
            if path.exists():
                _log.warning(f"checkpoint {path} is damaged (checksum); not used")
        return None

    def _read(self, path: Path) -> bytes | None:
        """The contents of a whole checkpoint of this computation, or None."""
        try:
            return unsealed(path.read_bytes(), self._label)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise GrokphaseError(
                f"cannot read the checkpoint {path}: {error.strerror or error}; check its "
                "permissions, or delete it to begin this job anew"
            ) from error

    def remove(self) -> None:
        """Delete the checkpoint: the result of its computation has been used."""
        for path in (self.path, self.previous):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
        remove_abandoned(self.path)

    @property
    def _label(self) -> str:
        return f"grokphase-checkpoint {self.key}"
