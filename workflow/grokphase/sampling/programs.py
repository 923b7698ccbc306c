"""Compiled programs kept in files, so that a job neither traces nor compiles what another one has.

JAX's own cache of compiled programs asks for a program that has been traced and lowered. With it a
training job of the teacher-student model draws after 2.2 s; with the files after 1.1 s, of which
0.6 s are imports and 0.3 s the loading of programs (of 2 MiB; x86, JAX 0.10).
"""

import contextlib
import fcntl
import logging
import pickle
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from grokphase.files import digest, remove_abandoned, replaced, sealed, unsealed
from grokphase.sampling.program_identity import (
    digest_now,
    modules_elsewhere,
    package_digest,
    surroundings,
    unknown_imports,
)

DAYS_KEPT = 30

LONGEST_WAIT = 60.0
"""Seconds for which a process waits for another one that compiles the program that it needs."""

_LABEL = "grokphase-program"
_LAPACK = "lapack_"
_OUTSIDE = re.compile(r"custom_call @([\w.]+)")

_log = logging.getLogger(__name__)


class Programs:
    """Programs of one identity, in files of a folder; without a folder JAX keeps them itself.

    identity : what decides, beside its arguments and the code, what a function computes (JSON
        values). The functions may close over nothing else. The code of this package, what is
        installed, settings of JAX, the processor and the number of threads are added.

    On an accelerator JAX keeps the programs; where its cache is off, nobody does. JAX also keeps
    them while this package imports what it does not itself need, as a kernel of the user's may:
    nobody here knows when that changes.
    """

    def __init__(self, folder: Path | None = None, identity: Any = None) -> None:
        self._folder: Path | None = None
        usable = jax.default_backend() == "cpu" and len(jax.devices()) == 1
        if folder is None or not usable:
            return
        settings = jax.config.values
        if settings["jax_disable_jit"] or not settings["jax_enable_compilation_cache"]:
            return
        if unknown := unknown_imports():
            _log.info(f"programs are traced anew: a module imports {', '.join(unknown)}")
            return
        self._folder = folder
        self._identity = [identity, surroundings()]

    def kept(self, name: str, function: Any) -> Callable[..., Any]:
        """A function made by jax.jit, which no process traces once a program of it is kept.

        Each shape and type of its arguments is a program of its own. Of processes that ask at the
        same time one compiles it, with all cores: LLVM has threads whatever JAX is told.
        """
        folder = self._folder
        if folder is None:
            return function
        ready: dict[str, Callable[..., Any]] = {}

        def call(*arguments: Any) -> Any:
            signature = _signature(arguments)
            if signature not in ready:
                key = digest([self._identity, name, signature])
                path = folder / f"{name}-{key}.program"
                ready[signature] = _load(path) or _compile_in_turn(function, arguments, path)
            return ready[signature](*arguments)

        return call


def _signature(arguments: Any) -> str:
    """Structure, shapes and types of arguments; numbers of Python are of types of their own."""
    leaves, structure = jax.tree.flatten(arguments)
    return f"{structure} {', '.join(str(jax.typeof(leaf)) for leaf in leaves)}"


def _load(path: Path) -> Callable[..., Any] | None:
    """The program in a file; None if there is none, or none that is whole."""
    try:
        body = unsealed(path.read_bytes(), _LABEL)
        # So that it counts as used, where that can be written.
        with contextlib.suppress(OSError):
            path.touch()
    except OSError:
        return None
    if body is None:
        _log.warning(f"{path} is damaged (checksum): compiled anew")
        return None
    try:
        outside, program = pickle.loads(body)
        if outside:
            _initialise_lapack()
        return serialize_executable.deserialize_and_load(*program)
    except Exception as error:
        # Of whatever kind: another build of the same version, say.
        _log.warning(f"{path} cannot be loaded ({error}): compiled anew")
        return None


def _compile_in_turn(function: Any, arguments: Any, path: Path) -> Callable[..., Any]:
    """The program for such arguments, from the file if another process compiles it now.

    Where files cannot be locked, after LONGEST_WAIT, and if the other process kept none, it is
    compiled all the same.
    """
    lock = path.with_name(f".{path.name}.lock")
    with contextlib.ExitStack() as until_compiled:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = until_compiled.enter_context(lock.open("w"))
            if _locks(file.fileno()):
                until_compiled.callback(_remove, lock)
            else:
                end = time.monotonic() + LONGEST_WAIT
                while not _locks(file.fileno()) and time.monotonic() < end:
                    time.sleep(0.02)
                # What waits beside this process need not wait until this one has compiled it.
                file.close()
                if program := _load(path):
                    return program
        return _compile(function, arguments, path)


def _remove(path: Path) -> None:
    """Delete a file if that can be done."""
    with contextlib.suppress(OSError):
        path.unlink()


def _locks(descriptor: int) -> bool:
    """Whether this process holds the lock of a file now, until it closes it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _compile(function: Any, arguments: Any, path: Path) -> Callable[..., Any]:
    """The program for such arguments, also written to a file unless that cannot be.

    The function itself if the program calls functions outside it that nothing here makes ready.
    """
    lowered = function.lower(*arguments)
    outside = sorted(set(_OUTSIDE.findall(lowered.as_text())))
    if modules_elsewhere() or not all(name.startswith(_LAPACK) for name in outside):
        return cast("Callable[..., Any]", function)
    with _without_cache():
        program = lowered.compile()
    try:
        body = pickle.dumps((outside, serialize_executable.serialize(program)))
        if digest_now() != package_digest():
            # Edited since this process began: which code was imported is not known.
            return cast("Callable[..., Any]", program)
        with replaced(path) as temporary:
            temporary.write_bytes(sealed(body, _LABEL))
        _remove_unused(path.parent)
        remove_abandoned(path)
    except Exception as error:
        # No space, say, or a program that cannot be written; this one can be used all the same.
        _log.warning(f"{path} is not kept: {error.__cause__ or error}")
    return cast("Callable[..., Any]", program)


def _remove_unused(folder: Path) -> None:
    """Delete programs that were not used for DAYS_KEPT, such as those of earlier code, and what
    killed processes left of some."""
    name = f"*-{'[0-9a-f]' * 64}.program"
    for path in (*folder.glob(name), *folder.glob(f".{name}.*")):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > DAYS_KEPT * 86400:
                _remove(path)


def _initialise_lapack() -> None:
    """What JAX does when it lowers a call of LAPACK, without which such a call ends the process."""
    jax.jit(jnp.linalg.cholesky).lower(jax.ShapeDtypeStruct((1, 1), jnp.float32))


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
    """Compile: a program that JAX has loaded from its own cache cannot be written again."""
    enabled = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()
