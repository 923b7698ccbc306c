"""Code digests: equal for equal code, and different exactly for the stages a change can reach."""

import ast
import re
import shutil
from pathlib import Path

import grokphase
import pytest
from grokphase import provenance
from grokphase.configuration.figures import figure_names
from grokphase.layout import AGGREGATION_STAGES, THEORY_STAGES
from grokphase.sampling import kernels

PACKAGE = Path(grokphase.__file__).parent
RULES = Path(__file__).parents[2] / "rules"

MODEL = "grokphase.models.teacher_student"
STAGES = {
    "dataset": ("grokphase.datasets",),
    **{
        f"train {name}": provenance.training_modules("teacher_student", name)
        for name in kernels.names()
    },
    "aggregate": ("grokphase.aggregation",),
    "summary": ("grokphase.summary",),
    "theory": ("grokphase.prediction",),
    "baseline": ("grokphase.baseline",),
    **{name: ("grokphase.drawing", f"grokphase.figures.{name}") for name in figure_names()},
}
TRAIN = {name for name in STAGES if name.startswith("train")}
FIGURES = set(figure_names())


class Copy:
    """A copy of the package, to be changed; the digests are those of the copy."""

    def __init__(self, folder, monkeypatch):
        self.root = folder / "grokphase"
        self._monkeypatch = monkeypatch
        shutil.copytree(PACKAGE, self.root, ignore=shutil.ignore_patterns("__pycache__"))

    def digests(self):
        self._monkeypatch.setattr(provenance, "_ROOT", self.root)
        clear_caches()
        return {stage: provenance.code_digest(*modules) for stage, modules in STAGES.items()}

    def edit(self, module, change):
        path = self.root / f"{module}.py"
        before = path.read_text()
        path.write_text(change(before))
        assert path.read_text() != before


def clear_caches():
    for name in ("code_digest", "imported_modules", "_tree", "_tree_digest"):
        getattr(provenance, name).cache_clear()


@pytest.fixture
def code(tmp_path, monkeypatch):
    yield Copy(tmp_path, monkeypatch)
    clear_caches()


@pytest.fixture(scope="module")
def before():
    """The digests of the code as it is."""
    clear_caches()
    return {stage: provenance.code_digest(*modules) for stage, modules in STAGES.items()}


def different(before, after):
    """Stages whose digest changed."""
    assert before.keys() == after.keys()
    return {stage for stage in before if before[stage] != after[stage]}


def test_the_stages_here_are_those_of_the_rules():
    """Every rule passes a digest, and the modules named in it are the ones tested below."""
    text = "".join(path.read_text() for path in sorted(RULES.glob("*.smk")))
    rules = re.findall(r"^rule (\w+):|rule_name\(\"(\w+)\"", text, re.M)
    assert {name for pair in rules for name in pair if name} == {
        stage.split()[0] for stage in STAGES if stage not in FIGURES
    } | {"figure"}
    assert len(re.findall(r"^ +code=", text, re.M)) == len(rules)
    named = set(re.findall(r'"(grokphase\.[\w.]+?)"', text))
    by_model = [
        f"grokphase.{one['teacher_student']}" for one in (AGGREGATION_STAGES, THEORY_STAGES)
    ]
    assert "code_digest(*training_modules(" in text
    assert named | {"grokphase.training", *by_model} == {modules[0] for modules in STAGES.values()}


def test_the_models_do_not_share_the_code_of_their_stages(code, before):
    """A change of the model of modular addition reaches none of the stages of the other one."""
    code.edit("models/modular_addition", lambda text: text + "\nNEW = 1\n")
    code.edit("modular_aggregation", lambda text: text + "\nNEW = 1\n")
    code.edit("modular_prediction", lambda text: text + "\nNEW = 1\n")
    assert code.digests() == before


def test_every_imported_module_is_found(code):
    """The package has no relative import, which the digest would not follow."""
    for path in code.root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path
    found = provenance.imported_modules("grokphase.training")
    assert {"grokphase", "grokphase.sampling", "grokphase.sampling.ensemble"} <= set(found)
    assert "grokphase.storage.write_table" not in found


def test_digests_do_not_depend_on_the_place(code, before):
    assert code.digests() == before


def test_digests_do_not_depend_on_the_order():
    assert provenance.code_digest(*STAGES["train hamiltonian"]) == provenance.code_digest(
        *reversed(STAGES["train hamiltonian"])
    )


def test_all_stages_differ(before):
    assert len(set(before.values())) == len(STAGES)


def test_comments_documentation_and_layout_change_nothing(code, before):
    for path in code.root.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
                node
            ):
                node.body[0].value.value = "Other words."
        # Written anew from its syntax tree: no comment, no empty line, other quotes and brackets.
        path.write_text(f'"""Other words."""\n# A comment.\n\n\n{ast.unparse(tree)}\n# The end.\n')
    assert different(before, code.digests()) == set()


def test_deleted_documentation_changes_nothing(code, before):
    code.edit("storage", lambda text: re.sub(r'\n    """(.|\n)*?"""\n', "\n", text))
    assert different(before, code.digests()) == set()


@pytest.mark.parametrize(
    ("module", "old", "new", "stages"),
    [
        ("models/teacher_student", "DROPLET_OVERLAP = 0.5", "DROPLET_OVERLAP = 0.6", TRAIN),
        ("prediction", "WINDOW_STEPS = 10", "WINDOW_STEPS = 12", {"theory"}),
        ("sampling/ensemble", "clip(index, 0,", "clip(index, 1,", TRAIN),
        ("figures/fig1", "LEAST_SHARE = 0.25", "LEAST_SHARE = 0.4", {"fig1"}),
        ("figures/fig2", 'linestyle="--"', 'linestyle=":"', {"fig2"}),
    ],
)
def test_one_changed_constant_reaches_its_stages(code, before, module, old, new, stages):
    code.edit(module, lambda text: text.replace(old, new, 1))
    assert different(before, code.digests()) == stages


ALL = set(STAGES)
READ = {"aggregate", "summary", *FIGURES}


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("training", TRAIN),
        ("models/teacher_student", TRAIN),
        ("sampling/ensemble", TRAIN),
        ("sampling/tree", TRAIN),
        ("sampling/kernels/__init__", TRAIN),
        *((f"sampling/kernels/{name}", {f"train {name}"}) for name in kernels.names()),
        ("sampling/diagnostics", {"summary", *FIGURES}),
        ("convergence", {"summary", *FIGURES}),
        ("datasets", {"dataset", "baseline"} | TRAIN),
        ("aggregation", {"aggregate"}),
        ("summary", {"summary"}),
        ("prediction", {"theory"}),
        ("theory/phases", {"theory"}),
        ("theory/gaussian_process", {"baseline"}),
        ("drawing", FIGURES),
        ("figures/style", FIGURES),
        ("figures/fig1", {"fig1"}),
        ("figures/fig2", {"fig2"}),
        ("tables/shards", {"aggregate"} | TRAIN),
        ("tables/aggregates", READ),
        ("files", ALL),
        ("storage", ALL - {"dataset"}),
        ("config", set()),
        ("cli", set()),
        ("provenance", set()),
    ],
)
def test_a_new_statement_reaches_the_stages_that_import_it(code, before, module, stages):
    code.edit(module, lambda text: f"{text}\n_CHANGED = True\n")
    assert different(before, code.digests()) == stages


def test_a_statement_in_the_body_of_a_function_counts(code, before):
    code.edit(
        "sampling/tree", lambda text: text.replace("    leaves,", "    like = like\n    leaves,", 1)
    )
    assert different(before, code.digests()) == TRAIN


def test_an_import_within_a_function_counts(code, before):
    code.edit("baseline", lambda text: f"{text}\n\ndef f():\n    import grokphase.theory.limit\n")
    before = code.digests()
    code.edit("theory/limit", lambda text: f"{text}\n_CHANGED = True\n")
    assert different(before, code.digests()) == {"baseline", "theory"}


def test_a_missing_module_is_an_error():
    with pytest.raises(ModuleNotFoundError, match=r"grokphase\.absent"):
        provenance.code_digest("grokphase.absent")
