"""The layout of the packages in numbers: modules, rooms, which room imports which, and how long functions are.

    python -m pipelines.layout [--json]

A room is a module or folder at the root of a package. Needs grimp, which import-linter brings.
"""

import argparse
import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import grimp

PACKAGES = ("cross4d_cache", "cross4d_train", "pipelines")


def layout(package: str, graph: grimp.ImportGraph) -> dict[str, Any]:
    """Modules, rooms and arrows of one package; `circles` are pairs of rooms that import one another."""
    modules = sorted(name for name in graph.modules if name.startswith(f"{package}."))
    arrows = defaultdict[str, set[str]](set)
    for module in modules:
        for other in graph.find_modules_directly_imported_by(module):
            if other.startswith(f"{package}.") and _room(other) != _room(module):
                arrows[_room(module)].add(_room(other))
    circles = {frozenset((room, other)) for room, others in arrows.items() for other in others if room in arrows.get(other, ())}
    lengths = sorted(length for path in Path(package).rglob("*.py") for length in function_lengths(path.read_text()))
    return {
        "modules": len(modules),
        "rooms": len({_room(name) for name in modules}),
        "arrows": sum(map(len, arrows.values())),
        "circles": sorted(" - ".join(sorted(pair)) for pair in circles),
        "functions": len(lengths),
        "median lines": median(lengths),
        "lines of nine in ten, at most": round(quantiles(lengths, n=10)[-1]),
        "imports": {room: sorted(others) for room, others in sorted(arrows.items())},
    }


def function_lengths(source: str) -> Iterator[int]:
    """Lines of each function of a module, from `def` to its end, without its docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
            text = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            yield (node.end_lineno or 0) - node.lineno + 1 - text


def _room(module: str) -> str:
    return module.split(".")[1]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    graph = grimp.build_graph(*PACKAGES)
    found = {package: layout(package, graph) for package in PACKAGES}
    if arguments.json:
        print(json.dumps(found))
        return
    for package, numbers in found.items():
        print(package)
        for name, value in numbers.items():
            if name != "imports":
                print(f"  {name}: {value if not isinstance(value, list) else ', '.join(value) or 'none'}")
        for room, others in numbers["imports"].items():
            print(f"  {room} -> {', '.join(others)}")


if __name__ == "__main__":
    main()
