"""The house: imports go down its order, in no circle and through few files; no file grows long."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
RANKS = {"__main__": 9, "cli": 8, "gaxjax": 8, "runs": 7, "reference": 6}
RANKS |= dict.fromkeys(("report", "gax", "ax"), 5) | dict.fromkeys(("data", "models"), 3)
RANKS |= dict.fromkeys(("results", "score", "converters"), 4) | {"config": 2, "common": 1, "ops": 1}
STRANGERS = {"report", "gax", "ax"}  # none knows another
NEEDS_TORCH = {"reference", "converters"}

PATHS = [path for top in ("gaxjax", "converters") for path in sorted((ROOT / top).rglob("*.py"))]
FILES = {  # a module's name -> its file
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PATHS
}


def parsed(path: Path) -> ast.Module:
    """Return a file's code; of a package's face the stub, which says where its names come from."""
    stub = path.with_suffix(".pyi")
    return ast.parse((stub if stub.exists() else path).read_text())


TREES = {name: parsed(path) for name, path in FILES.items()}


def imports(
    node: ast.AST, package: str = "", lazy: bool = False
) -> Iterator[tuple[str, str, bool]]:
    """Yield a module, the name taken from it (or ""), and whether a function imports it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, "", lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = f"{package}." * child.level + (child.module or "")  # relative in stubs alone
            for name in (alias.name for alias in child.names):
                inner = f"{base}.{name}"
                yield (inner, "", lazy) if inner in FILES else (base, name, lazy)
        elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(child, package, lazy or function)


def defined(tree: ast.Module) -> set[str]:
    """Return the names that a file itself gives a meaning to."""
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names - {"__all__", "__getattr__", "__dir__", "_ROOMS"}


IMPORTS = {name: set(imports(tree, name)) for name, tree in TREES.items()}
DEFINED = {name: defined(tree) for name, tree in TREES.items()}
FACES = {name for name, path in FILES.items() if path.name == "__init__.py" and not DEFINED[name]}


def homes(module: str, name: str) -> set[str]:
    """Return the files behind a name: a package's face is looked through."""
    if module not in FACES:
        return {module} & FILES.keys()
    through = [source for source, given, _ in IMPORTS[module] if given == name]
    if through:
        return set().union(*(homes(source, name) for source in through))
    return {file for file, names in DEFINED.items() if file.startswith(module) and name in names}


def chain() -> list[str]:
    """Return the longest chain of imports; a circle raises `graphlib.CycleError`."""
    graph: dict[str, set[str]] = {}
    for name in FILES.keys() - FACES:
        attributes = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.Attribute)]
        graph[name] = set()
        for module, given, _ in IMPORTS[name]:
            used = {node.attr for node in attributes if ast.unparse(node.value) == module}
            for taken in {given} if given or module not in FACES else used:
                graph[name] |= homes(module, taken)
    longest: dict[str, list[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        below = (longest[other] for other in sorted(graph[name]))
        longest[name] = [name, *max(below, key=len, default=[])]
    return max(longest.values(), key=len)


def room(module: str) -> str:
    return module.removeprefix("gaxjax.").split(".")[0]


def test_imports_go_down_the_house():
    faults = []
    for name, found in IMPORTS.items():
        for module, _, lazy in found:
            if module.split(".")[0] not in ("gaxjax", "converters"):
                continue
            here, there = room(name), room(module)
            up = RANKS[there] > RANKS[here] or ({here, there} <= STRANGERS and here != there)
            torch_too_soon = there in NEEDS_TORCH and here not in NEEDS_TORCH and not lazy
            if up or torch_too_soon:
                faults.append(f"{name} -> {module}")
    assert not faults


def test_a_package_is_entered_by_its_face():
    faults = []
    for here, found in IMPORTS.items():
        for module, name, _ in found:
            top, *inside = module.split(".")
            deep = len(inside) > {"gaxjax": 1, "converters": 0}.get(top, 99)
            if name and deep and room(here) not in (room(module), "__main__"):
                faults.append(f"{here} -> {module}")
    assert not faults


def test_only_the_reference_and_the_converters_import_torch():
    torch = {"torch", "torchvision", "captum"}
    importing = {
        room(name)
        for name, found in IMPORTS.items()
        if torch & {module.split(".")[0] for module, _, _ in found}
    }
    assert importing <= NEEDS_TORCH


def test_the_longest_chain_of_imports_has_no_circle_and_at_most_18_files():
    # From the command line through the torch path and the importer to the table of operations.
    assert len(chain()) <= 18, " -> ".join(chain())


def test_the_top_of_the_house_has_at_most_16_names():
    assert len([path for path in (ROOT / "gaxjax").iterdir() if path.name != "__pycache__"]) <= 16


def test_no_module_is_longer_than_400_lines():
    lengths = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert not {name: length for name, length in lengths.items() if length > 400}
