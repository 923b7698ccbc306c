"""The configuration: every mistake is named at once; what is right means what it says."""

import contextlib
import copy
import math
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml
from grokphase.config import load_config, read_configuration_file
from grokphase.configuration import figures
from grokphase.configuration.experiments import point_name
from grokphase.errors import GrokphaseError
from grokphase.layout import parse_range, range_name
from grokphase.sampling import kernels
from hypothesis import given, settings
from hypothesis import strategies as st

CONFIG_FILE = Path(__file__).parents[2] / "config.yaml"
RAW = yaml.safe_load(CONFIG_FILE.read_text())
E = "experiments.teacher_student"
KERNELS = ", ".join(kernels.names())
ABSENT = object()


def changed(changes):
    """The shipped configuration with changes such as {"a.b.0": value}."""
    raw = copy.deepcopy(RAW)
    for key, value in changes.items():
        *folders, last = key.split(".")
        place = raw
        for name in folders:
            place = place[name]
        if value is ABSENT:
            del place[last]
        elif isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    return raw


def problems(source, scale=None):
    """The lines of the message that refuses a configuration."""
    with pytest.raises(GrokphaseError) as caught:
        load_config(source, scale)
    first, *lines = str(caught.value).split("\n")
    assert first == "the configuration is not valid:"
    assert all(line.startswith("  ") for line in lines)
    return [line.strip() for line in lines]


# --- mistakes -------------------------------------------------------------------------------------

MISTAKES = {
    "wrong type": ({f"{E}.datasets": "many"}, f"{E}.datasets: input should be a valid integer"),
    "fraction of a count": ({f"{E}.datasets": 2.5}, f"{E}.datasets: input should be a valid int"),
    "list for a mapping": ({f"{E}.sampler": [1]}, f"{E}.sampler: input should be a valid dict"),
    "text for a list": ({f"{E}.sweep.noise": "x"}, f"{E}.sweep.noise: input should be a valid li"),
    "empty section": ({"experiments": None}, "experiments: input should be a valid dictionary"),
    "missing section": ({"figures": ABSENT}, "figures: missing"),
    "missing setting": ({f"{E}.theory.lowest_noise": ABSENT}, f"{E}.theory.lowest_noise: missing"),
    "negative noise": (
        {f"{E}.sweep.noise.1": -0.1},
        f"{E}.sweep.noise.1: input should be greater than 0 (got -0.1)",
    ),
    "noise nan": ({f"{E}.sweep.noise.0": math.nan}, f"{E}.sweep.noise.0: input should be "),
    "noise inf": (
        {f"{E}.sweep.noise.0": math.inf},
        f"{E}.sweep.noise.0: input should be a finite number",
    ),
    "criterion inf": (
        {f"{E}.convergence.nested_rhat": math.inf},
        f"{E}.convergence.nested_rhat: input should be a finite number",
    ),
    "strength nan": (
        {f"{E}.sweep.cubic_strength.0": math.nan},
        f"{E}.sweep.cubic_strength.0: input should be a finite number",
    ),
    "zero width": (
        {f"{E}.parameters.width": 0},
        f"{E}.parameters.width: input should be greater than 0 (got 0)",
    ),
    "negative networks": (
        {f"{E}.networks.prior": -1},
        f"{E}.networks.prior: input should be greater than or equal to 0 (got -1)",
    ),
    "no networks": (
        {f"{E}.networks": {"prior": 0, "planted": 0}},
        f"{E}: networks.prior and networks.planted are both 0: train at least one",
    ),
    "even bins": (
        {f"{E}.histogram.bins": 60},
        f"{E}.histogram.bins: must be odd, so that one bin is centred on q = 0; got 60, try 61",
    ),
    "bin width": (
        {f"{E}.histogram.bin_width": 0.025},
        f"{E}.histogram.bin_width: must be a multiple of 0.01 (the fine bins), such as 0.05; "
        "got 0.025",
    ),
    "tiny bin width": ({f"{E}.histogram.bin_width": 1e-9}, f"{E}.histogram.bin_width: must be a m"),
    "beyond the range": (
        {f"{E}.histogram": {"bin_width": 0.1, "bins": 41}},
        f"{E}: histogram reaches |q| = 2.05, beyond the recorded range 2: use fewer or narrower",
    ),
    "whole bins beyond the range": (
        {f"{E}.histogram": {"bin_width": 1, "bins": 5}},
        f"{E}: histogram reaches |q| = 2.5, beyond the recorded range 2: use fewer or narrower",
    ),
    "uneven subsets": (
        {f"{E}.datasets": 23},
        f"{E}: the networks of 23 datasets do not split evenly over 5 subsets: make datasets a mul",
    ),
    "repeated value": ({f"{E}.sweep.noise.1": 0.1}, f"{E}: sweep.noise repeats a value"),
    "fixed and swept": (
        {f"{E}.parameters.noise": 0.2},
        f"{E}: noise stands under both parameters and sweep; keep one",
    ),
    "neither fixed nor swept": (
        {f"{E}.parameters.width": ABSENT},
        f"{E}: width is missing: give it under parameters or sweep",
    ),
    "noise not swept": (
        {f"{E}.sweep.noise": ABSENT, f"{E}.parameters.noise": 0.2},
        f"{E}: noise must be swept: give sweep.noise as a list, even of one value",
    ),
    "empty sweep": ({f"{E}.sweep.noise": []}, f"{E}.sweep.noise: list should have at least 1 item"),
    "curve from high to low": (
        {f"{E}.theory.highest_noise": 0.01},
        f"{E}.theory: lowest_noise (0.09) must be below highest_noise (0.01)",
    ),
    "unknown kernel": (
        {f"{E}.sampler.kernel": "hamiltonain"},
        f"{E}.sampler.kernel: there is no kernel 'hamiltonain'; did you mean 'hamiltonian'?",
    ),
    "very unknown kernel": (
        {f"{E}.sampler.kernel": "xyz"},
        f"{E}.sampler.kernel: there is no kernel 'xyz'; known: {KERNELS}",
    ),
    "no kernel": ({f"{E}.sampler.kernel": ABSENT}, f"{E}.sampler"),
    "option of another kernel": (
        {f"{E}.sampler": {"kernel": "pcn_langevin", "step_size": 1, "leapfrog_steps": 8,
                          "burn_in": 1, "draws": 1}},
        f"{E}.sampler.leapfrog_steps: pcn_langevin has no such option, which is one of hamiltonian",
    ),
    "step size of a kernel": (
        {f"{E}.sampler": {"kernel": "pcn_langevin", "step_size": 2, "burn_in": 1, "draws": 1}},
        f"{E}.sampler.step_size: input should be less than 2 (got 2)",
    ),
    "unknown model": (
        {f"{E}.model": "student"},
        f"{E}.model: there is no model 'student'; did you mean 'teacher_student'?",
    ),
    "data that do not fit": (
        {f"{E}.parameters.train_size": 10**9, "figures.fig2.baseline": 0},
        f"{E}: a network needs 7.12e+03 GiB at train_size=1000000000, width=700, input_dim=150; ",
    ),
    "number that YAML reads as text": (
        {f"{E}.parameters.weight_variance": "5e-1"},
        f"{E}.parameters.weight_variance: input should be a valid number (got '5e-1'); YAML reads "
        "that as text: write 5.0e-1",
    ),
    "huge count": (
        {f"{E}.parameters.width": 10**400},
        f"{E}.parameters.width: input should be less than or equal to 1000000000 (got 1000",
    ),
    "unknown drawing": (
        {"figures.mine": {"experiment": "teacher_student", "drawing": "fig11"}},
        "figures.mine.drawing: there is no drawing 'fig11'; did you mean 'fig1'?",
    ),
    "baseline of a swept network": (
        {
            f"{E}.sweep.readout_variance": [0.1, 0.2],
            f"{E}.parameters.readout_variance": None,
            "figures.fig1.select.readout_variance": [0.1],
            "figures.fig2.select": {"readout_variance": [0.1]},
        },
        "figures.fig2.baseline: it is that of one readout_variance, which teacher_student sweeps; ",
    ),
    "figure named like a rule": (
        {"figures.all": {"experiment": "teacher_student", "drawing": "fig2"}},
        "figures.all: 'all' cannot name a figure; begin with a lower-case letter, use ",
    ),
    "figure that is no name": (
        {"figures.a b": {"experiment": "teacher_student", "drawing": "fig2"}},
        "figures.a b: 'a b' cannot name a figure; begin with a lower-case letter, use ",
    ),
    "unknown figure": (
        {"figures.fig11": {"experiment": "teacher_student"}},
        "figures.fig11: there is no figure 'fig11'; did you mean 'fig1'?",
    ),
    "unknown experiment": (
        {"figures.fig1.experiment": "teacher"},
        "figures.fig1.experiment: there is no experiment 'teacher'; did you mean 'teacher_student",
    ),
    "selected value not swept": (
        {"figures.fig1.select.noise": [0.12, 0.13]},
        "figures.fig1.select.noise: 0.13 is not among the swept values [0.1, ",
    ),
    "selected parameter not swept": (
        {"figures.fig1.select": {"nose": [0.1], "cubic_strength": [-0.3]}},
        "figures.fig1.select.nose: there is no swept parameter 'nose'; did you mean 'noise'?",
    ),
    "several lines in a figure of one": (
        {"figures.fig1.select": {"cubic_strength": [-0.2, -0.3]}},
        "figures.fig1: fig1 draws one cubic_strength, and here are 2: choose with "
        "figures.fig1.select.cubic_strength, such as [-0.2]",
    ),
    "nothing selected for a figure of one line": (
        {"figures.fig1.select": ABSENT},
        "figures.fig1: fig1 draws one cubic_strength, and here are 4: choose with ",
    ),
    "swept size of the datasets": (
        {f"{E}.parameters.train_size": ABSENT, f"{E}.sweep.train_size": [1000],
         "figures": {}},
        f"{E}: sweep.train_size: points share their datasets, so train_size cannot be swept; make ",
    ),
    "more sweeps of none": (
        {f"{E}.sampler.neuron_sweeps": 0, f"{E}.sampler.unadjusted_sweeps": 2},
        f"{E}.sampler: unadjusted_sweeps is for a sampler that sweeps: set neuron_sweeps too, or ",
    ),
    "window beyond the profiles": (
        {f"{E}.umbrella.overlaps": [0.8, 1.5]},
        f"{E}: umbrella.overlaps: the window at 1.5 reaches 1.66, beyond 1.6, where profiles end: ",
    ),
    "spring too stiff for the steps": (
        {f"{E}.umbrella.width": 0.2},
        f"{E}: umbrella.width: 0.2 is so stiff a spring that steps of 0.33 do not follow it; ",
    ),
    "tail of an unknown parameter": (
        {f"{E}.umbrella.select": {"nose": [0.1]}},
        f"{E}: umbrella.select.nose: there is no parameter 'nose'; did you mean 'noise'?",
    ),
    "nothing selected": ({"figures.fig1.select.noise": []}, "figures.fig1.select.noise: "),
    "baseline beyond the memory": (
        {f"{E}.parameters.train_size": 300_000, f"{E}.parameters.width": 10,
         f"{E}.parameters.input_dim": 10, f"{E}.umbrella": ABSENT},
        "figures.fig2.baseline: Gaussian-process regression needs ",
    ),
    "step beyond half a turn": (
        {f"{E}.sampler.unadjusted_step_size": 50.0},
        f"{E}.sampler.unadjusted_step_size: input should be less than 3.14",
    ),
    "too many baselines": (
        {"figures.fig2.baseline": 26},
        "figures.fig2.baseline: 26 datasets are wanted, but teacher_student has ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_what_would_be_right(name):
    changes, wanted = MISTAKES[name]
    [line] = problems(changed(changes))
    assert line.startswith(wanted)


@pytest.mark.parametrize(
    ("place", "known"),
    [
        ("", "figures"),
        (E, "parameters"),
        (f"{E}.parameters", "train_size"),
        (f"{E}.sweep", "cubic_strength"),
        (f"{E}.networks", "planted"),
        (f"{E}.planted", "overlap"),
        (f"{E}.sampler", "leapfrog_steps"),
        (f"{E}.sampler", "burn_in"),
        (f"{E}.histogram", "bin_width"),
        (f"{E}.convergence", "nested_rhat"),
        (f"{E}.theory", "side_mass_threshold"),
        ("figures.fig2", "baseline"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(place, known):
    """At every level of nesting."""
    wrong = known[:-2] + known[-1]
    where = f"{place}.{wrong}".lstrip(".")
    found = problems(changed({where: 1}))
    assert found == [f"{where}: there is no key {wrong!r}; did you mean {known!r}?"]


@pytest.mark.parametrize(
    ("scale", "changes", "wanted"),
    [
        ("quick", {"experiments": {"teacher_studnt": {"seed": 1}}}, "quick.experiments.teacher_st"),
        ("quick", {"figures": {"fig11": {"baseline": 1}}}, "quick.figures.fig11: there is no figu"),
        ("quick", {"figure": {}}, "quick.figure: there is no key 'figure'; did you mean "),
        ("../up", {}, "../up: a scale's name begins with a lower-case letter and has lower-case "),
    ],
)  # fmt: skip
def test_mistakes_of_a_scale_are_named_as_its_own(scale, changes, wanted):
    raw = copy.deepcopy(RAW) | {"scales": {scale: changes}}
    with pytest.raises(GrokphaseError) as error:
        load_config(raw, scale)
    [_, line] = str(error.value).splitlines()
    assert line.strip().startswith(f"scales.{wanted}")


def test_all_mistakes_are_named_at_once():
    found = problems(
        changed(
            {
                f"{E}.sweep.noise.0": -1,
                f"{E}.sampler.draws": 0,
                f"{E}.histogram.bins": 2,
                f"{E}.theory.mode": 2,
                "figures.fig1.baseline": -1,
                "figures.fig2.colour": "red",
            }
        )
    )
    keys = {line.split(":")[0] for line in found}
    assert keys == {
        f"{E}.sweep.noise.0",
        f"{E}.sampler.draws",
        f"{E}.histogram.bins",
        f"{E}.theory.mode",
        "figures.fig1.baseline",
        "figures.fig2.colour",
    }


@pytest.mark.parametrize(
    "keys",
    [
        ("unknown kernel", "repeated value"),
        ("wrong type", "fixed and swept"),
        ("even bins", "unknown figure"),
        ("no networks", "unknown experiment"),
        ("missing setting", "selected parameter not swept"),
    ],
)
def test_mistakes_of_different_kinds_are_named_at_once(keys):
    """A wrong value must not hide that two settings disagree, nor the other way round."""
    found = problems(changed({k: v for key in keys for k, v in MISTAKES[key][0].items()}))
    for key in keys:
        assert any(line.startswith(MISTAKES[key][1]) for line in found), found


def leaves(value, path=()):
    """Paths of all numbers and texts of a configuration."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from leaves(inner, (*path, key))
    else:
        yield path


LEAVES = [".".join(map(str, path)) for path in leaves(RAW) if path[0] != "scales"]
QUICK = [".".join(map(str, path)) for path in leaves(RAW["scales"]["quick"])]
WRONG = st.one_of(
    st.text(alphabet="xyz", min_size=1),
    st.dictionaries(st.sampled_from("ab"), st.integers(), min_size=1),
    st.lists(st.integers(), min_size=1, max_size=2),
    st.just(math.nan),
)


def is_named(key, lines):
    """Whether a line begins with the key, or with that of the list it is in."""
    key = re.sub(r"\.\d+$", "", key)
    return any(line.startswith((f"{key}:", f"{key}.")) for line in lines)


@given(key=st.sampled_from(LEAVES), value=WRONG)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_value_of_the_wrong_type_is_named_by_its_key(key, value):
    assert is_named(key, problems(changed({key: value})))


@given(key=st.sampled_from(QUICK), value=WRONG)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_wrong_value_of_a_scale_is_named_where_it_applies(key, value):
    raw = changed({f"scales.quick.{key}": value})
    load_config(raw, "paper")
    assert is_named(key, problems(raw, "quick"))


def nodes(value, path=()):
    """Paths of everything in a configuration, sections too."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield ".".join(map(str, (*path, key)))
        if isinstance(inner, dict | list):
            yield from nodes(inner, (*path, key))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70) | st.floats() | st.text("ab~/.", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "noise", "kernel", 5]), inner, max_size=2)
    ),
    max_leaves=3,
)


@given(keys=st.lists(st.sampled_from(list(nodes(RAW))), max_size=2), junk=st.tuples(JUNK, JUNK))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_nonsense_anywhere_is_accepted_or_refused_but_never_a_crash(keys, junk):
    try:
        raw = changed(dict(zip(sorted(keys, reverse=True), junk, strict=False)))
    except (TypeError, KeyError, IndexError):
        return  # the second key lies within what the first has replaced
    for scale in ("paper", "quick"):
        with contextlib.suppress(GrokphaseError):
            config = load_config(raw, scale)
            for name, one in config.experiments.items():
                assert [config.theory(name, line) for line in one.lines()]
                for point in one.points() if one.trains else ():
                    assert config.training(name, point).parameters == one.points()[point]
                    bins = config.aggregation(name, point).histogram
                    assert bins is None or bins.limit <= 2
            for name in config.figures:
                assert config.figure(name).lines


@pytest.mark.parametrize("name", ["Teacher", "my-sweep", "a/b", "2nd", ""])
def test_the_name_of_an_experiment_must_suit_a_file_name(name):
    """Names become folders and the workflow's wildcards."""
    raw = changed({})
    raw["experiments"][name] = copy.deepcopy(raw["experiments"]["teacher_student"])
    assert any(repr(name) in line or f"experiments.{name}" in line for line in problems(raw))


@pytest.mark.parametrize("name", ["figures", "logs", "benchmarks"])
def test_an_experiment_may_not_take_the_folder_of_other_results(name):
    raw = changed({})
    raw["experiments"][name] = copy.deepcopy(raw["experiments"]["teacher_student"])
    assert any(name in line for line in problems(raw))


def test_an_experiment_may_have_the_name_of_a_kernel():
    raw = changed({})
    raw["experiments"]["hamiltonian"] = raw["experiments"]["teacher_student"] | {"datasets": 0}
    [line] = problems(raw)
    assert line.startswith("experiments.hamiltonian.datasets: ")


@pytest.mark.parametrize("key", [f"{E}.sweep.noise.0", f"{E}.parameters.weight_variance"])
def test_yes_and_no_are_not_numbers(key):
    """YAML reads yes as true, and true must not become 1."""
    assert problems(changed({key: True}))[0].startswith(key)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "- 1\n- 2\n", "just text"])
def test_a_file_that_is_no_mapping_is_named(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(GrokphaseError, match=r"mine\.yaml must hold a mapping"):
        load_config(path)


def test_broken_yaml_is_named_with_its_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("experiments:\n  a: [1, 2\nfigures: }")
    with pytest.raises(GrokphaseError, match=r"mine\.yaml is not valid YAML(.|\n)*line 3"):
        load_config(path)


def test_a_key_given_twice_is_named_with_both_lines(tmp_path):
    """Not one that is merged from an anchor and given again."""
    path = tmp_path / "mine.yaml"
    path.write_text("a: &all {x: 1, y: 2}\nb:\n  <<: *all\n  x: 3\n")
    assert read_configuration_file(path)["b"] == {"x": 3, "y": 2}
    path.write_text("a: 1\nb:\n  - noise: 1\n    width: 2\n    noise: 3\na: {c: 1, c: 2}\n")
    with pytest.raises(GrokphaseError) as error:
        read_configuration_file(path)
    lines = str(error.value).splitlines()[1:]
    assert lines == [
        "  line 5: noise was given before, in line 3: keep one",
        "  line 6: a was given before, in line 1: keep one",
        "  line 6: c was given before, in line 6: keep one",
    ]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(GrokphaseError, match=r"no configuration file .*mine\.yaml"):
        load_config(tmp_path / "mine.yaml")


def test_a_folder_is_not_a_configuration(tmp_path):
    with pytest.raises(GrokphaseError, match=str(tmp_path)):
        load_config(tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00experiments")
    with pytest.raises(GrokphaseError, match=r"mine\.yaml"):
        load_config(path)


# --- scales ---------------------------------------------------------------------------------------


def test_an_unknown_scale_is_named():
    for scale, wanted in (("quik", "did you mean 'quick'?"), ("x", "known: paper, quick")):
        assert problems(CONFIG_FILE, scale) == [f"scale: there is no scale {scale!r}; {wanted}"]
    assert problems(changed({"scale": "quik"}))[0].startswith("scale: there is no scale 'quik'")


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": ["quick"]},
        {"scale": {"quick": 1}},
        {"scales": [1]},
        {"scales": {"paper": 5}},
        {"scales": {"paper": ["experiments"]}},
        {"scales": {"paper": {"scale": "quick"}}},
        {5: "a key that is no text"},
    ],
)
def test_nonsense_about_scales_is_refused_readably(changes):
    assert problems({**RAW, **changes})


def test_a_scale_changes_what_it_names_and_nothing_else():
    paper, quick = load_config(CONFIG_FILE), load_config(CONFIG_FILE, "quick")
    assert (paper.scale, quick.scale) == ("paper", "quick")
    before, after = paper.model_dump(), quick.model_dump()
    named = {tuple(key.split(".")) for key in QUICK}
    named = {tuple(part for part in key if not part.isdigit()) for key in named}

    def differences(a, b, path=()):
        if isinstance(a, dict) and isinstance(b, dict):
            assert a.keys() == b.keys()
            return {key for k in a for key in differences(a[k], b[k], (*path, k))}
        return {path} if a != b else set()

    assert differences(before, after) == named | {("scale",)}
    # A list is replaced as a whole; what stands beside a changed value stays.
    one = quick.experiments["teacher_student"]
    assert (
        one.sweep.noise
        == RAW["scales"]["quick"]["experiments"]["teacher_student"]["sweep"]["noise"]
    )
    assert one.sampler.step_size == paper.experiments["teacher_student"].sampler.step_size
    assert one.parameters.weight_variance == 0.5


def test_settings_of_an_unadjusted_part_that_there_is_not_are_warned_of():
    """Of one draw of burn-in, whatever it takes in steps, three quarters are none."""
    whole = f"{E}.sampler"
    for changes in ({f"{whole}.burn_in": 1}, {f"{whole}.burn_in": 4, f"{whole}.thin": 4}):
        warnings = load_config(changed(changes)).warnings(["teacher_student"])
        assert [text.partition(" ")[0] for text in warnings] == [
            f"{E}.sampler.unadjusted_step_size",
            f"{E}.sampler.unadjusted_leapfrog_steps",
            f"{E}.sampler.unadjusted_sweeps",
        ]
        assert all("raise burn_in to" in text for text in warnings)
    assert not load_config(RAW).warnings(["teacher_student"])


@pytest.mark.parametrize(
    ("kernel", "adjusts"),
    [
        ({"kernel": "hamiltonian", "step_size": 0.1, "leapfrog_steps": 2}, True),
        (
            {"kernel": "hamiltonian", "step_size": 0.1, "leapfrog_steps": 2, "metropolis": False},
            False,
        ),
        ({"kernel": "pcn_langevin", "step_size": 0.1}, True),
        ({"kernel": "pcn_langevin", "step_size": 0.1, "metropolis": False}, False),
        ({"kernel": "isotropic_langevin", "step_size": 1e-5}, False),
    ],
)
def test_only_means_of_exact_kernels_are_adjusted_for_stein_variates(kernel, adjusts):
    """The average of these is zero over the posterior alone."""
    changes = {f"{E}.sampler": kernel | {"burn_in": 4, "draws": 4}, f"{E}.umbrella": None}
    for wanted in (True, False):
        config = load_config(changed(changes | {f"{E}.control_variates": wanted}))
        point = next(iter(config.experiments["teacher_student"].points()))
        found = config.aggregation("teacher_student", point)
        assert found.stein_variates == (adjusts and wanted)
        assert found.control_variates == wanted


def test_few_draws_of_single_networks_are_warned_of():
    alone = {f"{E}.networks": {"prior": 1, "planted": 0}}
    [warning] = load_config(changed(alone)).warnings(["teacher_student"])
    assert warning.startswith(f"{E} has one network of each dataset and sampler.draws=4: ")
    assert not load_config(changed(alone | {f"{E}.sampler.draws": 10})).warnings(
        ["teacher_student"]
    )


def test_what_is_null_is_as_if_it_were_not_there():
    """So a file on top of another takes away an experiment, a figure, or a kernel's options."""
    options = (
        *("integrator", "force_precision", "leapfrog_steps"),
        *("unadjusted_step_size", "unadjusted_leapfrog_steps"),
    )
    config = load_config(
        changed(
            {
                f"{E}.sampler.kernel": "isotropic_langevin",
                f"{E}.sampler.step_size": 2e-5,
                **{f"{E}.sampler.{option}": None for option in options},
                f"{E}.umbrella": None,
                "experiments.modular_paper": None,
                "figures.fig3": None,
            }
        )
    )
    assert config.experiments["teacher_student"].sampler.kernel == "isotropic_langevin"
    assert "modular_paper" not in config.experiments
    assert "fig3" not in config.figures
    quick = load_config(changed({"experiments.modular_paper": None, "figures.fig3": None}), "quick")
    assert "modular_paper" not in quick.experiments
    [line] = problems(changed({f"{E}.seed": None}))
    assert line == f"{E}.seed: missing"


def test_values_that_a_tail_is_selected_by_but_no_point_has_are_warned_of():
    select = {"noise": [0.25, 0.26], "cubic_strength": [-0.3]}
    [warning] = load_config(changed({f"{E}.umbrella.select": select})).warnings(["teacher_student"])
    assert warning.startswith(f"{E}.umbrella.select.noise: no point of the sweep has 0.26, and no ")


@pytest.mark.parametrize(
    ("text", "key", "wanted"),
    [
        ("1.5e3", "sweep.noise.0", "write 1.5e+3"),
        ("1e-4", "sweep.noise.0", "write 1.0e-4"),
        (".5e1", "sweep.noise.0", "write .5e+1"),
        ("1e1", "datasets", "write 10"),
    ],
)
def test_numbers_that_yaml_reads_as_text_are_shown_as_it_reads_them(text, key, wanted):
    found = problems(changed({f"{E}.{key}": text}))
    assert any(line.endswith(f"YAML reads that as text: {wanted}") for line in found), found


def test_names_of_points_and_datasets_that_there_are_not_are_named():
    config = load_config(RAW)
    for made, message in (
        (lambda: config.training("teacher_student", "noise~0.111/cubic_strength~-0.3"),
         "no point 'noise~0.111/cubic_strength~-0.3'; did you mean 'noise~0.1/cubic_str"),
        (lambda: config.theory("teacher_student", "cubic_strength~-3"), "there is no line"),
        (lambda: config.dataset("teacher_student", 10), "datasets 0 to 9, and not 10"),
        (lambda: config.summary("modular_paper"), "samples no networks"),
    ):  # fmt: skip
        with pytest.raises(GrokphaseError, match=re.escape(message)):
            made()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('MODEL: str = "teacher_student"\nVARIES: tuple = ("noise", "cubic_strength")', "VARIES"),
        ('MODEL = "teacher_student"\nSTARTS = KINDS', "line 2: STARTS is read without running"),
        ("MODEL: str", "must say which model it draws"),
    ],
)
def test_what_a_figure_says_it_draws_is_read_without_running_it(tmp_path, monkeypatch, text, found):
    (tmp_path / "new.py").write_text(text)
    monkeypatch.setattr(figures, "_FIGURES", tmp_path)
    figure_drawing = figures.figure_drawing.__wrapped__
    if found == "VARIES":
        assert figure_drawing("new").varies == ("noise", "cubic_strength")
    else:
        with pytest.raises(GrokphaseError, match=f"figures/new.py.*{found}"):
            figure_drawing("new")


def test_a_file_among_the_kernels_that_is_none_is_named(monkeypatch):
    monkeypatch.setattr(kernels.importlib, "import_module", lambda name: types.ModuleType(name))
    with pytest.raises(GrokphaseError, match=r"kernels/helper.py .* defines no Settings"):
        kernels.load("helper")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import tenserflow", r"No module named 'tenserflow' \(.*/broken\.py:1\)"),
        ("\nx = 1 +", r"SyntaxError: .*broken\.py, line 2"),
        ("x = 1\ny = z", r"NameError: name 'z' is not defined \(.*broken\.py:2\)"),
        ("import json\njson.loads('x')", r"JSONDecodeError: .* \(.*broken\.py:2, in .*json/.*\)"),
    ],
)
def test_a_kernel_that_cannot_be_imported_is_named(tmp_path, monkeypatch, text, found):
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.setattr(kernels, "__path__", [str(tmp_path)])
    with pytest.raises(GrokphaseError, match=f"kernels/broken.py cannot be imported: .*{found}"):
        kernels.load("broken")


def test_a_figure_draws_the_noises_that_it_selects():
    selected = {"figures.fig3.select": {"noise": [0.26, 0.21]}}
    assert load_config(changed(selected)).figure("fig3").noises == (0.26, 0.21)
    assert load_config(RAW).figure("fig3").noises == tuple(
        RAW["experiments"]["modular_paper"]["sweep"]["noise"]
    )


def test_loading_leaves_its_argument_alone():
    raw = copy.deepcopy(RAW)
    for scale in ("quick", "paper"):
        load_config(raw, scale)
    assert raw == RAW
    assert load_config(raw) == load_config(CONFIG_FILE)


def test_a_scale_may_be_named_within_the_configuration():
    """As `snakemake --config scale=quick` does; the command line's --scale goes first."""
    raw = {**RAW, "scale": "quick"}
    assert load_config(raw) == load_config(CONFIG_FILE, "quick")
    assert load_config(raw, "paper") == load_config(CONFIG_FILE)


# --- meaning --------------------------------------------------------------------------------------


def test_the_shipped_configuration_has_the_papers_parameters():
    one = load_config(CONFIG_FILE).experiments["teacher_student"]
    for point in one.points().values():
        assert (point.input_dim, point.width, point.train_size) == (150, 700, 3000)
        assert point.weight_variance == 0.5
        assert point.readout_variance == pytest.approx(8 / 700, rel=1e-12)
    assert len(one.sweep.noise) >= 8
    assert 0.18 in one.sweep.noise
    assert len(one.sweep.cubic_strength) >= 4
    assert -0.3 in one.sweep.cubic_strength
    assert one.subsets == 5
    figures = load_config(CONFIG_FILE).figures
    assert set(figures) >= {"fig1", "fig2"}
    assert figures["fig1"].select["cubic_strength"] == [-0.3]
    assert len(figures["fig1"].select["noise"]) >= 6


def test_the_quick_scale_is_small_but_whole():
    """Every parameter of the paper that is not a size or the prior's scale stays."""
    quick = load_config(CONFIG_FILE, "quick").experiments["teacher_student"]
    for point in quick.points().values():
        assert point.width * point.input_dim * point.train_size < 700 * 150 * 3000 / 50
        assert point.weight_variance == 0.5
    assert quick.subsets == 5
    assert len(quick.points()) >= 4


def test_points_are_all_combinations_in_order():
    one = load_config(CONFIG_FILE).experiments["teacher_student"]
    points = one.points()
    noises, strengths = RAW["experiments"]["teacher_student"]["sweep"].values()
    assert list(points) == [
        f"noise~{noise}/cubic_strength~{strength}" for noise in noises for strength in strengths
    ]
    assert points["noise~0.18/cubic_strength~-0.3"].noise == 0.18
    assert points["noise~0.18/cubic_strength~-0.3"].cubic_strength == -0.3


def test_lines_are_the_points_without_the_noise():
    one = load_config(CONFIG_FILE).experiments["teacher_student"]
    lines = one.lines()
    assert list(lines) == [f"cubic_strength~{s}" for s in one.sweep.cubic_strength]
    for name, parameters in lines.items():
        assert name == f"cubic_strength~{parameters.cubic_strength}"
    raw = changed(
        {f"{E}.sweep.cubic_strength": ABSENT, f"{E}.parameters.cubic_strength": -0.3,
         "figures.fig1.select.cubic_strength": ABSENT}
    )  # fmt: skip
    assert list(load_config(raw).experiments["teacher_student"].lines()) == ["all"]


def test_a_selection_takes_its_points_and_lines():
    config = load_config(CONFIG_FILE)
    one = config.experiments["teacher_student"]
    select = {"noise": [0.18, 0.3], "cubic_strength": [-0.3]}
    points = ["noise~0.18/cubic_strength~-0.3", "noise~0.3/cubic_strength~-0.3"]
    assert list(one.points(select)) == points
    assert list(one.lines(select)) == ["cubic_strength~-0.3"]
    assert list(config.figure("fig1").lines) == ["cubic_strength~-0.3"]
    assert len(config.figure("fig2").points) == len(one.points())


@given(datasets=st.integers(1, 60), step=st.integers(1, 70))
@settings(deadline=None, max_examples=60)
def test_shards_cover_every_dataset_once(datasets, step):
    one = load_config(CONFIG_FILE).experiments["teacher_student"]
    shards = one.model_copy(update={"datasets": datasets, "datasets_per_job": step}).shards()
    assert [i for shard in shards for i in shard] == list(range(datasets))
    assert max(map(len, shards)) <= step
    assert [parse_range(range_name(shard)) for shard in shards] == shards


def test_names_are_stable():
    """They are paths of results and part of the random keys: a change would orphan both."""
    assert point_name({"noise": 0.18, "cubic_strength": -0.3}) == "noise~0.18/cubic_strength~-0.3"
    assert point_name({"width": 700, "noise": 1.0}) == "width~700/noise~1.0"
    assert point_name({}) == "all"
    assert range_name(range(5, 10)) == "5-9"
    raw = changed({f"{E}.sweep.noise": [1, 0.10, 1e-1 + 0.2], "figures": {}})
    assert list(load_config(raw).experiments["teacher_student"].lines())
    points = load_config(raw).experiments["teacher_student"].points()
    assert {name.split("/")[0] for name in points} == {
        "noise~1.0", "noise~0.1", "noise~0.30000000000000004",
    }  # fmt: skip


@given(value=st.floats(1e-6, 1e6) | st.integers(1, 10**6))
def test_a_name_gives_its_value_back(value):
    """No two values share a name, and none breaks a path or a wildcard."""
    name = point_name({"noise": value})
    assert type(value)(name.removeprefix("noise~")) == value
    assert "/" not in name


def test_specifications_name_what_they_work_on():
    config = load_config(CONFIG_FILE)
    point = "noise~0.18/cubic_strength~-0.3"
    training = config.training("teacher_student", point)
    assert (training.point, training.parameters.noise) == (point, 0.18)
    assert training.kernel["kernel"] == "hamiltonian"
    assert not training.kernel.keys() & {"burn_in", "draws", "thin"}
    raw = RAW["experiments"]["teacher_student"]
    assert (training.burn_in, training.draws) == (
        raw["sampler"]["burn_in"],
        raw["sampler"]["draws"],
    )
    assert config.dataset("teacher_student", 3).dataset == 3
    theory = config.theory("teacher_student", "cubic_strength~-0.3")
    assert theory.parameters.cubic_strength == -0.3
    assert list(theory.noises) == raw["sweep"]["noise"]
    assert (
        list(config.baseline("teacher_student", 0).cubic_strengths)
        == (raw["sweep"]["cubic_strength"])
    )


def test_specifications_survive_the_command_line():
    """JSON and back, to the last digit."""
    config = load_config(CONFIG_FILE)
    point, line = "noise~0.18/cubic_strength~-0.3", "cubic_strength~-0.3"
    for one in (
        config.dataset("teacher_student", 1),
        config.training("teacher_student", point),
        config.aggregation("teacher_student", point),
        config.theory("teacher_student", line),
        config.baseline("teacher_student", 1),
        config.figure("fig1"),
    ):
        assert type(one).model_validate_json(one.model_dump_json()) == one


def test_reading_the_configuration_imports_nothing_heavy():
    heavy = ("jax", "pandas", "matplotlib", "scipy", "pyarrow")
    code = (
        "import sys; from pathlib import Path; from grokphase.config import load_config;"
        f"load_config(Path({str(CONFIG_FILE)!r}));"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_key_that_is_a_number_is_named():
    assert any("histogram.1" in line for line in problems(changed({f"{E}.histogram": {1: 2}})))


def test_what_lies_on_a_bound_is_accepted():
    datasets = load_config(changed({})).experiments["teacher_student"].datasets
    assert load_config(changed({"figures.fig2.baseline": datasets}))
    assert load_config(changed({f"{E}.sweep.width": [700], f"{E}.parameters.width": None}))
