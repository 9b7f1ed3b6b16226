import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from cross4d_cache.errors import SettingsError
from cross4d_cache.registry import Components, look_up, suggestion

KNOWN = {"point4d": 1, "pstnet": 2}


def test_a_known_name_is_found() -> None:
    assert look_up(KNOWN, "pstnet", what="encoder", setting="encoder.name") == 2


def test_an_unknown_name_gets_the_known_ones_and_the_one_that_was_meant() -> None:
    with pytest.raises(SettingsError) as caught:
        look_up(KNOWN, "piont4d", what="encoder", setting="encoder.name")
    expected = "\n".join(
        [
            "unknown encoder 'piont4d'",
            "  expected: one of: point4d, pstnet",
            "  next: did you mean point4d? choose one with --encoder",
        ]
    )
    assert caught.value.with_options({"encoder.name": "--encoder"}) == expected


def test_nothing_is_suggested_where_nothing_is_alike() -> None:
    assert suggestion(KNOWN, "nonsense") == ""
    assert suggestion(["mini", "mine"], "min") == "did you mean mini or mine?"


class Shape(ABC):
    """What there are several of."""

    corners: ClassVar[int]

    @abstractmethod
    def area(self) -> float: ...


class Square(Shape):
    corners = 4

    def area(self) -> float:
        return 1.0


class Triangle(Square):
    corners = 3


class Cornerless(Shape):
    def area(self) -> float:
        return 3.0


@pytest.fixture
def shapes() -> Components[Shape]:
    return Components("shape", Shape, {"square": Square}, taken=["circle"])


MODULE = """
from pathlib import Path
Path(__file__).with_name("imported").touch()
from tests.cross4d_cache.test_registry import Square
class Hexagon(Square):
    corners = 6
class lower(Square): ...
number = 3
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python looks into, with a module in it that leaves a file when it is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "tests.cross4d_cache.test_registry", sys.modules[__name__])
    (tmp_path / "polygons.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("polygons", None)


def install(folder: Path, package: str, *lines: str) -> None:
    """What pip leaves of a package with entry points of shapes."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[cross4d.shapes]", *lines]) + "\n")


def message(caught: pytest.ExceptionInfo[SettingsError]) -> str:
    return caught.value.with_options({"shape.name": "--shape"})


def test_a_class_of_this_package_is_found_by_its_name(shapes: Components[Shape]) -> None:
    assert shapes.names() == ["square", "circle"]
    assert shapes.find("square") is Square
    with pytest.raises(SettingsError, match=r"unknown shape 'sqare'.*\n.*square, circle\n.*did you mean square"):
        shapes.find("sqare")


def test_a_class_that_is_given_is_found_from_then_on(shapes: Components[Shape]) -> None:
    name = shapes.name_of(Triangle)
    assert name == f"{Triangle.__module__}:Triangle"
    assert shapes.find(name) is Triangle
    assert shapes.names()[-1] == name
    nowhere = shapes.name_of(type("Kite", (Square,), {"__module__": "nowhere"}))
    assert shapes.name_of(nowhere) == nowhere == "nowhere:Kite", "a name that is known needs no import"


def test_a_class_may_have_a_name_of_its_own() -> None:
    by_corners = Components[Shape]("shape", Shape, {"4": Square}, key="corners")
    assert by_corners.name_of(Triangle) == "3"
    assert by_corners.name_of(Square) == "4"
    with pytest.raises(SettingsError, match="named '4', which another one is called"):
        by_corners.name_of(type("Rhombus", (Square,), {}))


def test_words_are_imported_when_they_are_given_and_names_never(shapes: Components[Shape], elsewhere: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        shapes.find("polygons:Hexagon")
    assert message(caught).splitlines()[0] == "shape polygons:Hexagon is not known here, and what is read from a file imports nothing"
    assert message(caught).endswith("next: give it again: --shape polygons:Hexagon, or in Python the class")
    assert not (elsewhere / "imported").exists()
    assert shapes.name_of("polygons:Hexagon") == "polygons:Hexagon"
    assert (elsewhere / "imported").exists()
    assert shapes.find("polygons:Hexagon").corners == 6


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("polygons:Octagon", "cannot be imported: AttributeError"),
        ("nowhere.at_all:Hexagon", "cannot be imported: ModuleNotFoundError"),
        ("json:JSONDecoder", "is no shape"),
    ],
)
def test_words_that_name_no_class_of_this_kind(shapes: Components[Shape], elsewhere: Path, words: str, found: str) -> None:
    with pytest.raises(SettingsError, match=found):
        shapes.name_of(words)


@pytest.mark.parametrize("name", ["polygons:lower", "polygons", "polygons:number", "square"])
def test_what_is_not_written_as_words_is_a_name(shapes: Components[Shape], elsewhere: Path, name: str) -> None:
    assert shapes.name_of(name) == name
    assert not (elsewhere / "imported").exists()


def test_a_class_that_is_not_whole_says_what_it_lacks(shapes: Components[Shape]) -> None:
    with pytest.raises(SettingsError, match=r"shape 'Cornerless' is not whole\n.*says what corners is"):
        shapes.name_of(Cornerless)
    with pytest.raises(SettingsError, match=r"what area is"):
        shapes.name_of(type("Vague", (Shape,), {"corners": 5}))


def test_installed_packages_bring_classes(shapes: Components[Shape], elsewhere: Path) -> None:
    install(elsewhere, "geometry", "hexagon = polygons:Hexagon")
    assert shapes.names() == ["square", "circle", "hexagon"]
    assert not (elsewhere / "imported").exists(), "to list them imports nothing"
    assert shapes.find("hexagon").corners == 6
    assert shapes.name_of("hexagon") == "hexagon"


@pytest.mark.parametrize(
    ("lines", "name", "found"),
    [
        (["hexagon = polygons:Octagon"], "hexagon", r"shape 'hexagon' of package geometry cannot be imported: AttributeError"),
        (["number = polygons:number"], "number", r"shape 'number' of package geometry is no shape"),
        (["square = polygons:Hexagon"], "square", r"brought by this package and by package geometry"),
        (["circle = polygons:Hexagon"], "circle", r"brought by this package and by package geometry"),
    ],
)
def test_what_an_installed_package_brings_is_looked_at(
    shapes: Components[Shape], elsewhere: Path, lines: list[str], name: str, found: str
) -> None:
    install(elsewhere, "geometry", *lines)
    with pytest.raises(SettingsError, match=found):
        shapes.find(name)


def test_a_name_that_two_packages_bring_is_refused(shapes: Components[Shape], elsewhere: Path) -> None:
    for package in ("geometry", "figures"):
        install(elsewhere, package, "hexagon = polygons:Hexagon")
    with pytest.raises(SettingsError, match="brought by package figures and by package geometry"):
        shapes.find("hexagon")


def test_an_installed_class_with_another_name_of_its_own_is_refused(elsewhere: Path) -> None:
    install(elsewhere, "geometry", "7 = polygons:Hexagon")
    with pytest.raises(SettingsError, match="says that its name is 6"):
        Components[Shape]("shape", Shape, {"4": Square}, key="corners").find("7")


def test_a_class_cannot_be_called_as_what_is_taken() -> None:
    with pytest.raises(SettingsError, match="which another one is called"):
        Components[Shape]("shape", Shape, {}, taken=["3"], key="corners").name_of(Triangle)
