"""Which code a result depends on: digests of the modules a stage imports.

A stage's digest covers the syntax trees, without docstrings, of its own module and of every module
of this package that it imports, directly or not. Comments, formatting and documentation change
nothing; a changed statement changes exactly the stages that can reach it.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent
_PACKAGE = _ROOT.name


@cache
def code_digest(*modules: str) -> str:
    """SHA-256 (hexadecimal, 16 digits) of the code reachable from these modules of the package."""
    found: set[str] = set()
    queue = list(modules)
    while queue:
        module = queue.pop()
        if module in found:
            continue
        found.add(module)
        queue += imported_modules(module)
    text = "\n".join(f"{module} {_tree_digest(module)}" for module in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def training_modules(model: str, kernel: str) -> tuple[str, ...]:
    """Modules that decide the trajectories of the networks of a model under a kernel."""
    return (
        f"{_PACKAGE}.training",
        f"{_PACKAGE}.models.{model}",
        f"{_PACKAGE}.models.{model}_moves",
        f"{_PACKAGE}.sampling.kernels.{kernel}",
    )


@cache
def imported_modules(module: str) -> tuple[str, ...]:
    """Modules of the package that `module` imports anywhere, with the packages they lie in."""
    names: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return tuple(sorted(_with_packages(n for n in names if n.split(".")[0] == _PACKAGE)))


def _with_packages(names: Iterable[str]) -> set[str]:
    """The names that are modules, with every package that importing them runs."""
    result: set[str] = set()
    for name in names:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            prefix = ".".join(parts[:length])
            if _path(prefix) is not None:
                result.add(prefix)
    return result


def _path(module: str) -> Path | None:
    base = _ROOT.parent / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _tree(module: str) -> ast.Module:
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(f"no module {module}")
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [s for s in node.body if not _is_documentation(s)] or [ast.Pass()]
    return tree


def _is_documentation(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@cache
def _tree_digest(module: str) -> str:
    return hashlib.sha256(ast.dump(_tree(module)).encode()).hexdigest()
