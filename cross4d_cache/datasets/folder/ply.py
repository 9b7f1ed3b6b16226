"""PLY files (http://paulbourke.net/dataformats/ply/): point clouds, and the vertices of meshes.

A header of lines names elements with their counts and properties; then come the elements in this order, as lines of text or as bytes.
What follows the vertices, such as faces, is not looked at. Open3D 0.20 reads these files too, but gives whatever memory held for the
points that a truncated one lacks.
"""

import re
from dataclasses import dataclass, field

from cross4d_cache.datasets.folder.cloud import Cloud, Column, Columns

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_HEADER = re.compile(rb"ply\s*?\n(.*?)^end_header[ \t\r]*\n", re.DOTALL | re.MULTILINE)
LONGEST_HEADER = 1 << 16


@dataclass
class _Element:
    name: str
    count: int
    columns: list[Column] = field(default_factory=list)
    has_lists: bool = False


def read_ply(data: bytes) -> Cloud:
    """The vertices, with their property `label` if they have one.

    Raises:
        ValueError: the file is damaged, or has no vertices that can be reached.
    """
    match = _HEADER.match(data[:LONGEST_HEADER])
    if match is None:
        raise ValueError("no PLY header begins at byte 0 and ends with a line end_header")
    lines = [line.split() for line in match[1].decode("latin1").split("\n")]
    order, elements = _parse([words for words in lines if words and words[0] not in ("comment", "obj_info")])
    names = [element.name for element in elements]
    if "vertex" not in names:
        raise ValueError(f"its elements are {', '.join(names[:20]) or '(none)'}, none of them vertex")
    before, vertex = elements[: names.index("vertex")], elements[names.index("vertex")]
    if vertex.has_lists or (order and any(element.has_lists for element in before)):
        raise ValueError("lists as properties of vertices, or of elements before them, are not read")
    columns, start = Columns(vertex.columns), match.end()
    if not order:
        skip = sum(element.count for element in before)
        if skip > len(data):
            raise ValueError(f"ends at byte {len(data)}, too early for {skip} lines before the vertices")
        return columns.from_text(data, start, vertex.count, skip)
    start += sum(element.count * int(column.dtype[-1]) for element in before for column in element.columns)
    return columns.from_bytes(data, start, vertex.count)


def _parse(lines: list[list[str]]) -> tuple[str, list[_Element]]:
    """The byte order (empty for text), and the elements."""
    if not lines or lines[0][:1] != ["format"] or len(lines[0]) != 3 or lines[0][1] not in _ORDERS:
        raise ValueError(f"its header has no line format with one of {', '.join(_ORDERS)}")
    order, elements = _ORDERS[lines[0][1]], list[_Element]()
    for words in lines[1:]:
        match words:
            case ["element", name, count] if re.fullmatch("[0-9]{1,12}", count):
                elements.append(_Element(name, int(count)))
            case ["property", "list", _, _, _] if elements:
                elements[-1].has_lists = True
            case ["property", kind, name] if elements and kind in _TYPES:
                elements[-1].columns.append(Column(name, (order or "<") + _TYPES[kind]))
            case _:
                raise ValueError(f"its header has the line {' '.join(words)[:80]!r}")
    return order, elements
