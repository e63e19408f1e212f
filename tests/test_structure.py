"""The package keeps its own rules: imports run one way, files and functions stay short, every module says what it is for."""

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "calibrate"
LONGEST_MODULE = 500
LONGEST_FUNCTION = 100

# Modules that import others of the package inside functions or for types alone, and why.
DEFERRED = {
    "calibrate.cli": "help and mistakes answer before JAX is loaded",
    "calibrate.cli_data": "help and mistakes answer before anything else is loaded",
    "calibrate.cli_fit": "help and mistakes answer before JAX is loaded",
    "calibrate.cli_joint": "help and mistakes answer before JAX is loaded",
    "calibrate.cli_market": "help and mistakes answer before JAX is loaded",
    "calibrate.cli_venues": "help and mistakes answer before JAX is loaded",
    "calibrate.pipeline": "figures are loaded only where they are drawn",
    "calibrate.market.files": "a job reads model files without loading the fit",
    "calibrate.terminal": "tables are shown without loading what made them",
}
# What turns data into code, or starts another program.
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "subprocess",
    "yaml",
}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pd.read_pickle", "np.load",
}  # fmt: skip


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if "shipped" not in path.parts[:-1]}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


# --- imports --------------------------------------------------------------------------------------------------------------


def imports(node: ast.AST, *, deferred: bool = False) -> Iterator[tuple[str, bool]]:
    """Names that are imported in a module, and whether only for types or inside a function."""
    for child in ast.iter_child_nodes(node):
        late = deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.Import):
            yield from ((alias.name, late) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports name the package in full"
            assert child.module is not None
            yield from ((f"{child.module}.{alias.name}", late) for alias in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from imports(child, deferred=True)
        else:
            yield from imports(child, deferred=late)


def within(tree: ast.AST, modules: set[str]) -> tuple[set[str], set[str]]:
    """The modules of the package that a tree imports when it is loaded, and those only later or for types."""
    now, late = set(), set()
    for name, deferred in imports(tree):
        # `from calibrate.job import Job` names the module without its last part, `from calibrate import terminal` whole.
        module = name if name in modules else name.rpartition(".")[0]
        if module in modules:
            (late if deferred else now).add(module)
    return now, late


def in_order(graph: dict[str, set[str]]) -> list[str]:
    """Modules so that each imports only those before it; fails on a cycle."""
    try:
        return list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"imports go in a circle: {' -> '.join(error.args[1])}")


def test_modules_import_only_backwards() -> None:
    graph = {name: within(tree, set(TREES))[0] for name, tree in TREES.items()}
    order = in_order(graph)
    assert len(order) == len(MODULES) > 30
    assert order.index("calibrate.errors") < order.index("calibrate.job") < order.index("calibrate.pipeline")


def test_imports_that_are_put_off_have_a_reason() -> None:
    late = {name for name, tree in TREES.items() if within(tree, set(TREES))[1]}
    assert late == set(DEFERRED)


def test_a_circle_of_imports_would_be_seen() -> None:
    trees = {
        "p.a": ast.parse("from p.b import x"),
        "p.b": ast.parse("import p.c"),
        "p.c": ast.parse("from p import a"),
    }
    with pytest.raises(pytest.fail.Exception, match="in a circle"):
        in_order({name: within(tree, set(trees))[0] for name, tree in trees.items()})
    trees["p.c"] = ast.parse("def f():\n    from p import a")
    assert in_order({name: within(tree, set(trees))[0] for name, tree in trees.items()}) == ["p.c", "p.b", "p.a"]
    assert within(trees["p.c"], set(trees)) == (set(), {"p.a"})


# --- size -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_module_fits_in_the_head(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("name", MODULES)
def test_functions_fit_on_two_screens(name: str) -> None:
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {function: length for function, length in lengths.items() if length > LONGEST_FUNCTION} == {}


# --- words ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_for(name: str) -> None:
    said = ast.get_docstring(TREES[name]) or ""
    assert re.search(r"\w.*[.:]($|\s)", said, flags=re.DOTALL), "expected a sentence"
    assert len(said.split()) >= 4


# --- safety ---------------------------------------------------------------------------------------------------------------


def dangers(tree: ast.AST) -> list[str]:
    """What a tree does that could run what stands in a file."""
    found = [name for name, _ in imports(tree) if name.split(".")[0] in FORBIDDEN_MODULES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found += [called] if called in FORBIDDEN_CALLS else []
            found += [word.arg for word in node.keywords if word.arg in ("allow_pickle", "shell")]
    return found


@pytest.mark.parametrize("name", MODULES)
def test_nothing_in_a_file_is_ever_run(name: str) -> None:
    assert dangers(TREES[name]) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import pickle", ["pickle"]),
        ("from pickle import load", ["pickle.load"]),
        ("def f(x):\n    return eval(x)", ["eval"]),
        ("numpy.load(p, allow_pickle=True)", ["allow_pickle"]),
        ("pd.read_pickle(p)", ["pd.read_pickle"]),
        ("os.system('ls')", ["os.system"]),
        ("platform.system()", []),
        ("re.compile('a')", []),
    ],
)
def test_a_danger_would_be_seen(code: str, found: list[str]) -> None:
    assert dangers(ast.parse(code)) == found
