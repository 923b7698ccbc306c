"""Compiled programs in files: found again, never in the place of another."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grokphase.files import sealed
from grokphase.sampling import program_identity
from grokphase.sampling.programs import Programs


@pytest.fixture
def programs(program_folder):
    """Function: programs of an identity, as in a process of its own."""
    return lambda identity="one": Programs(program_folder, identity)


def counted(factor=2.0):
    """A function x -> factor x, and the list of its tracings."""
    traced = []

    def function(x):
        traced.append(x)
        return jax.tree.map(lambda leaf: factor * leaf, x)

    return jax.jit(function), traced


def files(tmp_path):
    return sorted((tmp_path / "programs").glob("*"))


def test_a_program_is_traced_once_for_all_processes(programs, tmp_path):
    x = {"a": np.arange(3, dtype=np.float32), "b": jnp.ones(())}
    for process in range(3):
        function, traced = counted()
        kept = programs().kept("double", function)
        for _ in range(2):
            np.testing.assert_array_equal(kept(x)["a"], [0, 2, 4])
        assert len(traced) == (process == 0)
    assert len(files(tmp_path)) == 1


def held_lock(path):
    """The lock of a program, held as by a process that compiles it; an open file."""
    file = path.with_name(f".{path.name}.lock").open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def test_what_another_process_compiles_is_waited_for(programs, tmp_path):
    programs().kept("double", counted()[0])(1.0)
    (path,) = files(tmp_path)
    path.rename(tmp_path / "compiled")
    function, traced = counted()
    found = []
    with held_lock(path):
        process = threading.Thread(
            target=lambda: found.append(programs().kept("double", function)(1.0))
        )
        process.start()
        process.join(timeout=0.5)
        assert process.is_alive()
        (tmp_path / "compiled").rename(path)
    process.join(timeout=60)
    assert found == [2.0]
    assert traced == []


def test_nobody_waits_for_long_nor_where_files_cannot_be_locked(programs, tmp_path, monkeypatch):
    programs().kept("double", counted()[0])(1.0)
    (path,) = files(tmp_path)
    monkeypatch.setattr("grokphase.sampling.programs.LONGEST_WAIT", 0.1)
    with held_lock(path):
        path.unlink()
        function, traced = counted()
        assert programs().kept("double", function)(1.0) == 2.0
        assert len(traced) == 1
    monkeypatch.setattr("grokphase.sampling.programs.LONGEST_WAIT", 1e9)
    monkeypatch.setattr(fcntl, "flock", mock.Mock(side_effect=OSError("no locks available")))
    path.unlink()
    function, traced = counted()
    assert programs().kept("double", function)(1.0) == 2.0
    assert len(traced) == 1
    assert path.exists()


def test_files_that_cannot_be_deleted_stop_nothing(programs, tmp_path, monkeypatch, caplog):
    """Of another user, in a folder whose files only their owners may delete."""
    programs().kept("old", counted()[0])(1.0)
    os.utime(files(tmp_path)[0], (0, time.time() - 31 * 86400))
    monkeypatch.setattr("pathlib.Path.unlink", mock.Mock(side_effect=PermissionError("not yours")))
    assert programs().kept("double", counted()[0])(1.0) == 2.0
    assert [file.suffix for file in files(tmp_path)] == [".lock", ".program", ".program"]
    assert "is not kept" not in caplog.text


def test_random_keys_and_donated_arguments_are_as_in_the_function_itself(programs):
    def step(key, x):
        return x + jax.random.normal(key, x.shape)

    keys, x = jax.random.split(jax.random.key(0), 2), np.ones(5, np.float32)
    expected = jax.jit(step)(keys[1], x)
    for _ in range(2):
        kept = programs().kept("step", jax.jit(step, donate_argnums=1))
        np.testing.assert_array_equal(kept(keys[1], jnp.asarray(x)), expected)


def run_python(code, *arguments, path=None, **environment):
    """Output of a program in a process of its own, which also imports from `path`."""
    folders = [*filter(None, [path]), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))} | environment
    command = [sys.executable, "-c", code, *arguments]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


FACTORISATION = """
import sys
from pathlib import Path
import jax, numpy as np
from grokphase.sampling.programs import Programs
def function(x):
    print("traced")
    return jax.numpy.linalg.cholesky(x)
kept = Programs(Path(sys.argv[1]), "one").kept("f", jax.jit(function))
print(float(kept(4 * np.eye(3, dtype=np.float32))[2, 2]))
"""


AT_ONCE = """
import sys, time
from pathlib import Path
import jax
from grokphase.errors import GrokphaseError
from grokphase.sampling import programs
def full(path):
    raise GrokphaseError("no space is left")
def function(x):
    print(time.monotonic())
    time.sleep(4)
    print(time.monotonic())
    return 2 * x
if sys.argv[2] == "full":
    programs.replaced = full
kept = programs.Programs(Path(sys.argv[1]), "one").kept("double", jax.jit(function))
assert kept(1.0) == 2.0
"""


@pytest.mark.parametrize("disk", ["empty", "full"])
def test_of_processes_that_ask_at_once_one_compiles(tmp_path, disk):
    """And if it cannot keep what it compiled, the others compile side by side."""
    folder = tmp_path / "programs"
    with ThreadPoolExecutor(3) as threads:
        outputs = threads.map(lambda _: run_python(AT_ONCE, folder, disk), range(3))
    traced = sorted(tuple(map(float, text.split())) for text in outputs if text)
    if disk == "empty":
        assert len(traced) == 1
        assert len(files(tmp_path)) == 1
    else:
        (_, first_ends), (second, second_ends), (third, _) = traced
        assert first_ends < second <= third < second_ends


def test_a_program_that_calls_lapack_runs_in_a_process_that_has_not_traced_it(tmp_path):
    assert run_python(FACTORISATION, tmp_path) == "traced\n2.0\n"
    assert run_python(FACTORISATION, tmp_path) == "2.0\n"


def test_a_program_that_calls_what_is_not_known_is_left_to_jax(programs, tmp_path):
    """Here a function of Python, whose address would be that of another process."""

    def function(x):
        return jax.pure_callback(lambda y: 2 * np.asarray(y), jax.ShapeDtypeStruct((), x.dtype), x)

    kept = programs().kept("double", jax.jit(function))
    assert kept(np.float32(1)) == 2
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "other",
    [np.ones(4, np.float32), np.int32(1), np.ones((1, 1), np.float32), [np.float32(1)], 1.0],
)
def test_other_arguments_have_a_program_of_their_own(programs, tmp_path, other):
    """Also a number of Python, whose type gives way to that of others."""
    function, traced = counted()
    kept = programs().kept("double", function)
    kept(np.float32(1))
    doubled = kept(other)
    assert jax.tree.all(jax.tree.map(lambda x, y: (x == 2 * y).all(), doubled, other))
    assert len(traced) == 2
    assert len(files(tmp_path)) == 2


def test_another_identity_name_or_setting_has_a_program_of_its_own(programs, tmp_path, monkeypatch):
    """So that a program never stands for another: each of these functions gives its own value."""
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})

    def value(factor, identity="one", name="f"):
        return float(programs(identity).kept(name, counted(factor)[0])(np.float32(1)))

    assert value(2.0) == value(3.0) == 2
    assert value(4.0, identity=["one"]) == 4
    assert value(5.0, name="g") == 5
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    assert value(6.0) == 6
    jax.config.update("jax_default_matmul_precision", "float32")
    try:
        assert value(7.0) == 7
    finally:
        jax.config.update("jax_default_matmul_precision", None)
    for number, name in enumerate(("processor_digest", "package_digest"), 8):
        monkeypatch.setattr(f"grokphase.sampling.program_identity.{name}", lambda: "another")
        assert value(float(number)) == number
    monkeypatch.setattr(
        "grokphase.sampling.program_identity.installed_distributions", lambda: ["other"]
    )
    assert value(10.0) == 10
    monkeypatch.setenv("NPROC", "1")
    assert value(11.0) == 11
    monkeypatch.setenv("NPROC", "64")
    assert value(12.0) == 10
    assert len(files(tmp_path)) == 9


def test_a_damaged_program_is_compiled_anew(programs, tmp_path, damaged_copies, caplog):
    function, _ = counted()
    programs().kept("double", function)(np.ones(3, np.float32))
    (file,) = files(tmp_path)
    for content in damaged_copies(file.read_bytes(), 20, seed=3):
        file.write_bytes(content)
        function, traced = counted()
        kept = programs().kept("double", function)
        assert kept(np.ones(3, np.float32)).tolist() == [2, 2, 2]
        assert len(traced) == 1
        assert f"{file} is damaged" in caplog.text
    assert files(tmp_path) == [file]


def test_a_program_of_another_build_is_compiled_anew(programs, tmp_path, caplog):
    function, _ = counted()
    programs().kept("double", function)(np.float32(1))
    (file,) = files(tmp_path)
    file.write_bytes(sealed(b"not a program", "grokphase-program"))
    function, traced = counted()
    assert programs().kept("double", function)(np.float32(1)) == 2
    assert len(traced) == 1
    assert f"{file} cannot be loaded" in caplog.text


def test_where_the_cache_is_off_nothing_is_kept(programs, tmp_path):
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert programs().kept("double", counted()[0])(np.float32(1)) == 2
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert files(tmp_path) == []


def test_programs_that_nobody_uses_are_deleted(programs, tmp_path):
    """The age of one that is loaded begins anew; locks that killed processes left go as well."""
    for name in ("old", "used"):
        programs().kept(name, counted()[0])(np.float32(1))
    held_lock(files(tmp_path)[0]).close()
    for file in files(tmp_path):
        os.utime(file, (0, time.time() - 31 * 86400))
    programs().kept("used", counted()[0])(np.float32(1))
    programs().kept("new", counted()[0])(np.float32(1))
    assert [file.name.split("-")[0] for file in files(tmp_path)] == ["new", "used"]


def test_nothing_is_kept_of_code_that_was_edited_since_it_was_imported(
    programs, tmp_path, monkeypatch
):
    monkeypatch.setattr("grokphase.sampling.programs.digest_now", lambda: "edited")
    assert programs().kept("double", counted()[0])(np.float32(1)) == 2
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "line",
    ["import myfactor", "    from myfactor.a import b", "import numpy as np, myfactor"],
)
def test_while_a_module_imports_the_user_s_own_nothing_is_kept(
    programs, tmp_path, monkeypatch, line
):
    """Nor is a program of before loaded; modules in linked folders count."""
    package = tmp_path / "package"
    (package / "kernels").mkdir(parents=True)
    monkeypatch.setattr(program_identity, "_PACKAGE", package)
    program_identity.package_digest.cache_clear()
    try:
        assert programs().kept("double", counted()[0])(np.float32(1)) == 2
        before = program_identity.digest_now()
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "mine.py").write_text(f"{line}\n")
        (package / "kernels" / "linked").symlink_to(tmp_path / "elsewhere")
        assert program_identity.unknown_imports() == ["myfactor"]
        assert program_identity.digest_now() != before
        assert programs().kept("double", counted(3.0)[0])(np.float32(1)) == 3
        assert len(files(tmp_path)) == 1
    finally:
        program_identity.package_digest.cache_clear()


def test_the_package_imports_what_is_known():
    assert program_identity.unknown_imports() == []


KERNEL = """
from grokphase.sampling.programs import Programs
from pathlib import Path
import sys, jax, numpy as np
def function(x):
    import helper
    return helper.FACTOR * x
kept = Programs(Path(sys.argv[1]), "one").kept("f", jax.jit(function))
print(float(kept(np.float32(1))))
"""


def test_a_program_of_a_user_s_own_module_is_never_kept(tmp_path):
    """Imported while it is traced: a change of that module counts at once."""
    for factor in (2.0, 3.0):
        (tmp_path / "helper.py").write_text(f"FACTOR = {factor}")
        # Python's own cache takes two files of one second and size for the same.
        found = run_python(
            KERNEL, tmp_path / "programs", path=tmp_path, PYTHONDONTWRITEBYTECODE="1"
        )
        assert found == f"{factor}\n"
    assert files(tmp_path) == []


def test_several_devices_of_one_processor_are_left_to_jax(tmp_path):
    """A program loaded for them would expect its arguments on all of them."""
    for _ in range(2):
        found = run_python(
            FACTORISATION,
            tmp_path,
            XLA_FLAGS="--xla_force_host_platform_device_count=2",
        )
        assert found == "traced\n2.0\n"


def test_without_a_place_to_keep_them_programs_run_all_the_same(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("grokphase.sampling.programs.modules_elsewhere", list)
    (tmp_path / "file").write_text("")
    for folder in (None, tmp_path / "file" / "programs"):
        function, traced = counted()
        kept = Programs(folder, "one").kept("double", function)
        assert kept(np.float32(1)) == kept(np.float32(1)) == 2
        assert len(traced) == 1
    assert "is not kept" in caplog.text
    assert "Not a directory" in caplog.text
