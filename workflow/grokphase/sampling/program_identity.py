"""What decides, beside its settings and arguments, what a compiled program is."""

import hashlib
import os
import platform
import re
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import jax

from grokphase.processor import processor_digest

KNOWN = {
    *("grokphase", "arviz_stats", "click", "jax", "jaxlib", "matplotlib", "numpy", "pandas"),
    *("pyarrow", "pydantic", "scipy", "snakemake", "tqdm", "yaml"),
}
"""What this package imports, whose versions are among those of `installed_distributions`."""

_PACKAGE = Path(__file__).parents[1]
_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+(\w[\w.]*)[ \t]+import|import[ \t]+(\w[^\n#;]*))", re.MULTILINE
)


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
    """SHA-256 (hexadecimal) of all of this package's code, byte for byte, at the first call.

    Called before the modules are imported, and compared with `digest_now` afterwards, it is that of
    the code that runs. The digests of grokphase.provenance are those that a job is told.
    """
    return digest_now()


def digest_now() -> str:
    """The same at this moment."""
    found = hashlib.sha256()
    for name, content in _modules():
        found.update(f"{name} {len(content)}\n".encode() + content)
    return found.hexdigest()


def unknown_imports() -> list[str]:
    """What this package's modules import, kernels of the user's among them, beside the standard
    library and KNOWN: nothing here knows when it changes."""
    found: set[str] = set()
    for _, content in _modules():
        for one, several in _IMPORT.findall(content):
            found |= {
                name.split(b".")[0].split()[0].decode() for name in (one or several).split(b",")
            }
    return sorted(found - KNOWN - sys.stdlib_module_names)


def _modules() -> list[tuple[str, bytes]]:
    """Names and contents of this package's files, those in linked folders too."""
    found = []
    for folder, _, files in os.walk(_PACKAGE, followlinks=True):
        found += [Path(folder, name) for name in files if name.endswith(".py")]
    return [(str(path.relative_to(_PACKAGE)), path.read_bytes()) for path in sorted(found)]


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
