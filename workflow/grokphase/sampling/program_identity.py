"""What decides, beside its settings and arguments, what a compiled program is."""

import hashlib
import os
import platform
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import jax

from grokphase.processor import processor_digest

_PACKAGE = Path(__file__).parents[1]


def surroundings() -> list[Any]:
    """JSON values: this package's code, what is installed, settings of JAX, threads, processor."""
    settings = {k: repr(v) for k, v in jax.config.values.items() if "cache" not in k}
    cores = len(os.sched_getaffinity(0))
    return [
        package_digest(),
        [platform.python_version(), *installed_distributions()],
        settings,
        os.environ.get("XLA_FLAGS", ""),
        min(cores, int(os.environ.get("NPROC", cores))),
        processor_digest(),
    ]


@cache
def package_digest() -> str:
    """SHA-256 (hexadecimal) of all of this package's code, byte for byte.

    It is that of the moment, unlike the digests of grokphase.provenance, which a job is told.
    """
    found = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        found.update(f"{path.relative_to(_PACKAGE)} {path.stat().st_size}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def installed_distributions() -> list[str]:
    """Names and versions of what is installed where Python looks for packages."""
    folders = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    return sorted({path.name for folder in folders for path in folder.glob("*.dist-info")})


def modules_elsewhere() -> list[str]:
    """Imported modules that are neither of this package nor installed, such as one of the user's
    that a kernel imports: nothing here knows of their changes."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [_PACKAGE, *(Path(sysconfig.get_path(name)) for name in names)]
    known = tuple(f"{root}{os.sep}" for root in [*folders, *(one.resolve() for one in folders)])
    files = {n: getattr(module, "__file__", None) for n, module in list(sys.modules.items())}
    return [name for name, file in files.items() if file and not file.startswith(known)]
