"""Environments, commands and citation: what a fresh clone relies on."""

import ast
import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml
from snakemake.cli import get_argument_parser

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "envs"
README = (ROOT / "README.md").read_text()

# In pieces, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("conda", "anaconda", "org"),
        ("repo", "anaconda", "com"),
        ("registry", "npmjs", "org"),
        ("download", "pytorch", "org"),
        ("pypi", "nvidia", "com"),
        ("mirrors", "aliyun", "com"),
    )
]


def tracked_files():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git repository")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def wanted(name):
    """Names of the packages in a list of requirements, and of the lists that it includes."""
    names = set()
    for line in (ENVIRONMENTS / name).read_text().splitlines():
        if line.startswith("-r "):
            names |= wanted(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            names.add(normalised(re.split(r"[\[<>=!~; ]", line)[0]))
    return names


def locked(name):
    """Package -> (version, number of hashes) of a lock."""
    text = (ENVIRONMENTS / name).read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        pin = re.match(r"([\w.-]+)(?:\[[\w, -]+\])?==([^\s;]+)", line)
        if pin:
            assert normalised(pin[1]) not in found, f"{pin[1]} is locked twice"
            found[normalised(pin[1])] = (pin[2], len(re.findall(r"--hash=sha256:\w{64}\b", line)))
        else:
            assert not line.strip() or line.lstrip().startswith("#"), f"not a pin: {line}"
    return found


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", ["run", "dev", "bench"])
def test_the_lock_holds_every_requirement_with_hashes(name):
    lock = locked(f"{name}.txt")
    assert wanted(f"{name}.in")
    assert wanted(f"{name}.in") <= set(lock)
    assert [package for package, (_, hashes) in lock.items() if hashes == 0] == []


def test_the_locks_agree():
    run, dev = locked("run.txt"), locked("dev.txt")
    assert {package: dev.get(package) for package in run} == run
    assert wanted("run.in") < wanted("dev.in")


def test_the_benchmarks_compare_with_the_locked_versions():
    run, bench = locked("run.txt"), locked("bench.txt")
    assert {package: bench.get(package) for package in run} == run
    assert wanted("run.in") < wanted("bench.in")


def test_the_conda_list_agrees_with_the_lock():
    listed = yaml.safe_load((ENVIRONMENTS / "conda.yaml").read_text())["dependencies"]
    pins = dict(entry.split("=") for entry in listed)
    assert pins.pop("python")
    lock = locked("run.txt")
    assert {normalised(name): version for name, version in pins.items()} == {
        name: lock[name][0] for name in wanted("run.in")
    }


def test_every_package_that_is_imported_is_required():
    """By name in run.in, not only because another package needs it."""
    names = {"yaml": "pyyaml", "arviz_stats": "arviz-stats"}
    imported = set()
    for path in (ROOT / "workflow" / "grokphase").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    outside = imported - set(sys.stdlib_module_names) - {"grokphase"}
    assert {names.get(name, name) for name in outside} <= wanted("run.in")


def test_the_rules_name_environments_that_exist():
    for path in (ROOT / "rules").glob("*.smk"):
        for name in re.findall(r'"(\.\./envs/[^"]+)"', path.read_text()):
            assert (path.parent / name).resolve() in tracked_files(), f"{path.name}: {name}"


@pytest.mark.parametrize("path", sorted(ENVIRONMENTS.iterdir()), ids=lambda path: path.name)
def test_no_environment_names_an_address(path):
    text = path.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--(extra-)?index-url|--find-links)\b", text, re.M)


def test_no_committed_file_names_a_registry():
    for path in tracked_files():
        content = path.read_bytes().decode(errors="replace").lower()
        assert [host for host in REGISTRY_HOSTS if host in content] == [], path


def run(*options):
    return subprocess.run([sys.executable, ROOT / "run", *options], capture_output=True, text=True)


def test_the_commands_of_the_readme_exist():
    commands = re.findall(r"^    (\./run \w+)", README, re.M)
    assert commands[:2] == ["./run figures", "./run test"]
    done = run("--help")
    assert done.returncode == 0
    used = {
        name for line in re.findall(r"`?\./run ([\w`, ]+)", README) for name in line.split()[:1]
    }
    for name in {name.strip("`,") for name in used} | {"figures", "test"}:
        assert re.search(rf"\b{name}\b", done.stdout), name
    assert (ROOT / "run").stat().st_mode & 0o111


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    ("options", "cores", "targets"),
    [
        (["fig1", "fig2"], "all", ["fig1", "fig2"]),
        (["fig1", "--cores", "2"], 2, ["fig1"]),
        (["--config", "scale=quick"], "all", []),
        ([], "all", []),
    ],
)
def test_figures_passes_targets_and_options_to_snakemake(
    monkeypatch, terminal, options, cores, targets
):
    """On a terminal progress bars are asked for, by an option that does not swallow a target."""
    loader = importlib.machinery.SourceFileLoader("run", str(ROOT / "run"))
    script = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(script)
    commands = []
    monkeypatch.setattr(script, "execute", lambda *command, **_: commands.append(command))
    monkeypatch.setattr("sys.stderr", mock.Mock(isatty=lambda: terminal))
    script.figures(*options)
    (command,) = commands
    assert command[0] == "snakemake"
    parsed = get_argument_parser().parse_args(command[1:])
    assert list(parsed.targets) == targets
    assert parsed.cores == (os.cpu_count() if cores == "all" else cores)
    assert bool(parsed.logger) == terminal


def test_an_unknown_command_is_answered_with_the_known_ones():
    done = run("figurs")
    assert done.returncode == 2
    assert "./run figures" in done.stdout


def test_continuous_integration_runs_the_test_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "exec ./run test"


def test_the_readme_names_targets_files_and_folders_that_exist():
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    targets = re.findall(r"^\| `(\w+)` \| \d? ?\|", README, re.M)
    assert sorted(targets) == sorted(config["figures"])
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
    package = ROOT / "workflow" / "grokphase"
    stages = re.search(r"\| stage \|(.|\n)*?\n\n", README)[0]
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", stages):
        assert (package / name).exists(), name
    assert not re.search(r"\b(TODO|FIXME|TIME_[A-Z]+)\b", README)


def test_the_citation_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    for key in ("message", "title", "authors", "version", "license"):
        assert citation[key]
    works = [citation["preferred-citation"], *citation["references"]]
    for work in works:
        assert [author["family-names"] for author in work["authors"]] == [
            "Rubin",
            "Seroussi",
            "Ringel",
        ]
    assert any("2310.03789" in str(work) for work in works)
    assert "2310.03789" in README


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert f'\nversion = "{citation["version"]}"\n' in (ROOT / "pyproject.toml").read_text()
