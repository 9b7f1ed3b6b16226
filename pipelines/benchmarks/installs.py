"""How large installations are: of the whole package, and of what training from stores needs.

    python -m pipelines.benchmarks.installs [--list requirements-train.txt]

Counted are the files that the packages of this environment say are theirs.
"""

import argparse
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", type=Path, default=Path("requirements-train.txt"), help="requirements of the smaller installation")
    listed = read_requirements(parser.parse_args().list)
    whole, smaller = (
        brought_by(Requirement(line) for line in metadata.requires("cross4d") or [] if "extra ==" not in line),
        brought_by(listed),
    )
    sizes = {name: size_of(name) for name in sorted(whole | smaller)}
    for name in sorted(whole - smaller, key=lambda name: -sizes[name]):
        print(f"{sizes[name] / 1e6:8.1f} MB  {name}")
    for label, names in (("for building alone", whole - smaller), ("training from stores", smaller), ("everything", whole)):
        print(f"{sum(sizes[name] for name in names) / 1e6:8.1f} MB  {len(names)} packages: {label}")
    print(f"{sizes['torch'] / 1e6:8.1f} MB  of it torch {metadata.version('torch')}")


def read_requirements(path: Path) -> list[Requirement]:
    """The lines of a list that are no comments."""
    return [Requirement(line) for line in path.read_text().splitlines() if not line.startswith("#")]


def brought_by(wanted: Iterable[Requirement]) -> set[str]:
    """The distributions that these requirements install here, with all that they require in turn."""
    found, waiting = set[tuple[str, frozenset[str]]](), list(wanted)
    while waiting:
        item = waiting.pop()
        key = canonicalize_name(item.name), frozenset(item.extras)
        if key not in found:
            found.add(key)
            required = map(Requirement, metadata.requires(item.name) or [])
            extras = item.extras or {""}
            waiting += [one for one in required if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)]
    return {name for name, _ in found}


def size_of(name: str) -> int:
    """Bytes of the files of an installed distribution."""
    paths = (Path(str(file.locate())) for file in metadata.files(name) or [])
    return sum(path.stat().st_size for path in paths if path.is_file())


if __name__ == "__main__":
    main()
