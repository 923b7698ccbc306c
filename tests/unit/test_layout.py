"""Where compiled programs are kept, and names of ranges of datasets."""

import hashlib
import platform

import pytest
from grokphase import processor
from grokphase.layout import Layout, default_cache, parse_range, range_name

PROCESSOR = "processor\t: {n}\nmodel name\t: {name}\ncpu MHz\t\t: {mhz}\nflags\t\t: fpu {flag}\n\n"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Function: the folder on a machine with these cores."""
    monkeypatch.setattr(processor, "CPU_INFORMATION", tmp_path / "cpuinfo")

    def of(*cores):
        text = "".join(PROCESSOR.format(n=n, **core) for n, core in enumerate(cores))
        (tmp_path / "cpuinfo").write_text(text)
        return default_cache("results")

    return of


def test_each_kind_of_processor_has_a_folder_of_programs(cache):
    """Not each machine, nor each moment: its clock and the number of its cores do not matter."""
    one = {"name": "A", "mhz": 1000, "flag": "avx2"}
    folder = cache(one)
    assert folder.parent.as_posix() == "results/.cache/compiled"
    assert cache(one, one) == cache(one | {"mhz": 2000.5}) == folder
    assert len({folder, cache(one | {"name": "B"}), cache(one | {"flag": "avx512f"})}) == 3


def test_processors_of_arm_are_told_apart(cache, tmp_path):
    """By their features and kind; nothing there is called a model or a flag."""
    lines = (
        "BogoMIPS\t: {mips}\nFeatures\t: fp {flag}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n"
    )
    names = set()
    for mips, flag, part in (
        (1, "", "0x1"),
        (2, "", "0x1"),
        (1, "sve bf16", "0x1"),
        (1, "", "0x2"),
    ):
        (tmp_path / "cpuinfo").write_text(lines.format(mips=mips, flag=flag, part=part))
        names.add(default_cache("results"))
    assert len(names) == 3


def test_the_folder_is_the_same_in_every_process(cache):
    """Of cores of several kinds too, whatever the order of a set of them is today."""
    names = "FBDACE"
    found = cache(*({"name": name, "mhz": 1, "flag": "sse"} for name in names))
    lines = ["flags\t\t: fpu sse", *(f"model name\t: {name}" for name in sorted(names))]
    digest = hashlib.sha256("".join([platform.machine(), *lines]).encode()).hexdigest()
    assert found.name == digest[:8]


def test_a_machine_that_says_nothing_of_its_processor_has_a_folder_too(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPU_INFORMATION", tmp_path / "none")
    folder = default_cache("results")
    monkeypatch.setattr(processor.platform, "machine", lambda: "another")
    assert default_cache("results") != folder


def test_names_of_ranges_are_read_back():
    for datasets in (range(3, 4), range(10), range(8, 25)):
        assert parse_range(range_name(datasets)) == datasets
    assert range_name(range(8, 25)) == "8-24"
    assert parse_range("7") == range(7, 8)


def test_results_of_no_scale_are_those_of_the_paper():
    assert Layout(None).base == Layout("paper").base == "results/paper"
