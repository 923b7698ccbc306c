"""Files that are whole or absent, whatever happens while they are written."""

import contextlib
import glob
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grokphase.errors import GrokphaseError


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path` that takes its place once the block succeeds.

    The name is this process's own, so that two writers of one file never mix their bytes. Raises
    GrokphaseError where the folder cannot be written or the disk is full; `path` then keeps what
    it held.
    """
    if not path.name or path.is_dir():
        raise GrokphaseError(f"cannot write '{path}': it is a folder; name a file")
    temporary = path.with_name(
        f".{path.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError as error:
        raise GrokphaseError(
            f"cannot write {path}: {error.strerror or error}; check the permissions and the free "
            "space of its folder, then run the same command again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_abandoned(path: Path) -> None:
    """Delete temporary files of `replaced(path)` left by killed processes of this machine."""
    prefix = f".{path.name}.{socket.gethostname()}."
    for leftover in path.parent.glob(f"{glob.escape(prefix)}*"):
        process = leftover.name.removeprefix(prefix).split(".")[0]
        if not process.isdigit() or _is_running(int(process)):
            continue
        leftover.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sealed(body: bytes, label: str) -> bytes:
    """Contents of a file that holds `body`, of the kind that the label says, with a checksum."""
    return f"{label} {hashlib.sha256(body).hexdigest()}\n".encode() + body


def unsealed(contents: bytes, label: str) -> bytes | None:
    """The body of `sealed`; None if it is damaged or of another label."""
    header, newline, body = contents.partition(b"\n")
    wanted = f"{label} {hashlib.sha256(body).hexdigest()}".encode()
    return body if newline and header == wanted else None


def digest(value: Any) -> str:
    """SHA-256 of a JSON-serialisable value in canonical form (hexadecimal)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
