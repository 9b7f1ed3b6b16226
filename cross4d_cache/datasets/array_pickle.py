"""Pickled arrays of arrays, read without unpickling.

`numpy.save` stores an array of objects as a pickle: a program for a small stack machine, whose operations the standard library's
`pickletools` lists. Python's own machine can be made to call anything; this one knows the operations and names that numpy writes for
a list of float arrays, in pickle protocols 2 to 5, and refuses all others by name. So nothing in a file is ever executed.
"""

import pickletools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any

import numpy as np
from jaxtyping import Shaped

MAX_OPERATIONS = 1 << 17
"""Of one file; an array takes about 25. It bounds time, and everything small that a file can make the machine hold."""
MAX_HELD_BYTES = 1 << 26
"""Text and bytes that were read and are not yet part of an array; so of an array, too: 2.8 million points of float64."""

_FUNCTIONS = {
    f"numpy.{core}.{name}": function
    for core in ("core", "_core")
    for name, function in (("multiarray._reconstruct", "reconstruct"), ("numeric._frombuffer", "frombuffer"))
} | {"numpy.ndarray": "ndarray", "numpy.dtype": "dtype", "_codecs.encode": "encode", "__builtin__.bytes": "no bytes"}
_SKIPPED = {b"\x80": 1, b"\x95": 8}  # PROTO, FRAME
_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False, b")": ()}
_INTEGERS = {b"K": "<B", b"M": "<H", b"J": "<i"}
_STRINGS = {b"\x8c": "<B", b"X": "<I", b"\x8d": "<Q", b"C": "<B", b"B": "<I", b"\x8e": "<Q", b"\x96": "<Q", b"U": "<B", b"T": "<I"}
_PUTS = {b"q": "<B", b"r": "<I"}
_GETS = {b"h": "<B", b"j": "<I"}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
_NAMES = {operation.code.encode("latin1"): operation.name for operation in pickletools.opcodes}
_NUMBER_TYPE = re.compile(r"f[248]|[iu][1248]")


@dataclass(frozen=True)
class _Function:
    name: str


@dataclass
class _Bytes:
    """Text or bytes of the file. The machine's memory refers to it; its data goes when it has become an array."""

    data: bytes


@dataclass
class _Type:
    code: str
    order: str = "|"


@dataclass
class _Array:
    """An array by its place among those that were yielded; `None` before its data has come, -1 for the array that holds the others."""

    place: int | None = None


class ArrayPickle:
    """The machine, at the start of a pickle.

    `arrays` raises `ValueError` with the reason where the pickle is anything but one list of arrays of points.
    """

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memory: dict[int, Any] = {}
        self._num_arrays = 0
        self._held_bytes = 0

    def arrays(self) -> Iterator[Shaped[np.ndarray, "point 3"]]:
        """The arrays in the list's order, each as soon as its bytes have been read, in the number type of the file."""
        for _ in range(MAX_OPERATIONS):
            code = self._read(1)
            if code == b".":
                if self._stack != [_Array(-1)]:
                    raise ValueError("it ends in something else than an array of arrays")
                return
            array = self._step(code)
            if array is not None:
                yield array
        raise ValueError(f"more than {MAX_OPERATIONS} pickle operations")

    def _step(self, code: bytes) -> Shaped[np.ndarray, "point 3"] | None:
        if code in _SKIPPED:
            self._read(_SKIPPED[code])
        elif code in _CONSTANTS:
            self._stack.append(_CONSTANTS[code])
        elif code in _INTEGERS:
            self._stack.append(self._integer(_INTEGERS[code]))
        elif code == b"\x8a":  # LONG1
            self._stack.append(int.from_bytes(self._read(self._integer("<B")), "little", signed=True))
        elif code in _STRINGS:
            self._stack.append(_Bytes(self._read(self._integer(_STRINGS[code]))))
        elif code in _PUTS:
            self._memory[self._integer(_PUTS[code])] = self._top()
        elif code == b"\x94":  # MEMOIZE
            self._memory[len(self._memory)] = self._top()
        elif code in _GETS:
            place = self._integer(_GETS[code])
            if place not in self._memory:
                raise ValueError(f"the pickle refers to its item {place}, which it does not have")
            self._stack.append(self._memory[place])
        elif code in _TUPLES:
            self._stack.append(tuple(self._pop() for _ in range(_TUPLES[code]))[::-1])
        elif code == b"c":  # GLOBAL
            self._stack.append(_function(self._line(), self._line()))
        elif code == b"\x93":  # STACK_GLOBAL
            name, module = self._pop(), self._pop()
            self._stack.append(_function(_text(module), _text(name)))
        else:
            return self._combine(code)
        return None

    def _combine(self, code: bytes) -> Shaped[np.ndarray, "point 3"] | None:
        """The operations that make something of what lies on the stack."""
        match code:
            case b"(":
                self._marks.append(len(self._stack))
            case b"]":
                self._stack.append([])
            case b"t":
                self._stack.append(tuple(self._pop_marked()))
            case b"a" | b"e":
                items = [self._pop()] if code == b"a" else self._pop_marked()
                if not isinstance(self._top(), list):
                    raise ValueError("the pickle appends to something else than a list")
                self._top().extend(items)
            case b"R":
                arguments, function = self._pop(), self._pop()
                return self._call(function, arguments)
            case b"b":
                state, target = self._pop(), self._top()
                return self._build(target, state)
            case _:
                raise ValueError(f"the pickle asks for {_NAMES.get(code, code)}, which arrays do not need; nothing was executed")
        return None

    def _call(self, function: object, arguments: object) -> Shaped[np.ndarray, "point 3"] | None:
        match function, arguments:
            case _Function("reconstruct"), (_Function("ndarray"), _, _):
                self._stack.append(_Array())
            case _Function("dtype"), (_Bytes() as code, _, _):
                self._stack.append(_Type(_text(code)))
            case _Function("encode"), (_Bytes() as text, _Bytes(b"latin1")):
                self._stack.append(_Bytes(text.data.decode().encode("latin1")))
                self._held_bytes += len(self._top().data) - len(text.data)
                text.data = b""
            case _Function("no bytes"), ():
                self._stack.append(_Bytes(b""))
            case _Function("frombuffer"), (_Bytes() as data, _Type() as kind, (int() as num_points, 3), _Bytes() as order):
                self._stack.append(_Array(self._num_arrays))
                return self._array(num_points, kind, order.data == b"F", data)
            case _:
                raise ValueError("the pickle calls a function as numpy does not; nothing was executed")
        return None

    def _build(self, target: object, state: object) -> Shaped[np.ndarray, "point 3"] | None:
        match target, state:
            case _Type(), (_, _Bytes(b"<" | b">" | b"|" | b"=" as order), *_):
                target.order = order.decode()
            case _Array(None), (_, (int() as num_points, 3), _Type() as kind, fortran, _Bytes() as data):
                target.place = self._num_arrays
                return self._array(num_points, kind, bool(fortran), data)
            case _Array(None), (_, (int() as count,), _Type("O" | "O8" | "O4"), _, list() as items):
                if items != [_Array(place) for place in range(self._num_arrays)] or count != len(items):
                    raise ValueError(f"a list of {len(items)} things for {count} frames, {self._num_arrays} of them arrays of points")
                target.place = -1
            case _:
                raise ValueError("the pickle holds something else than an array of arrays of shape (points, 3)")
        return None

    def _array(self, num_points: int, kind: _Type, fortran: bool, data: _Bytes) -> Shaped[np.ndarray, "point 3"]:
        if not _NUMBER_TYPE.fullmatch(kind.code):
            raise ValueError(f"an array of type {kind.code!r} where numbers belong")
        dtype = np.dtype(kind.order + kind.code)
        if num_points * 3 * dtype.itemsize != len(data.data):
            raise ValueError(f"{len(data.data)} bytes for {num_points} points of type {kind.code}")
        array = np.frombuffer(data.data, dtype).reshape((num_points, 3), order="F" if fortran else "C")
        self._held_bytes -= len(data.data)
        self._num_arrays += 1
        data.data = b""
        return array

    def _read(self, count: int) -> bytes:
        self._held_bytes += count if count > 8 else 0
        if self._held_bytes > MAX_HELD_BYTES:
            raise ValueError(f"more than {MAX_HELD_BYTES} bytes outside of arrays")
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError(f"it ends inside an item of {count} bytes")
        return data

    def _integer(self, form: str) -> int:
        return int(struct.unpack(form, self._read(struct.calcsize(form)))[0])

    def _line(self) -> str:
        return self._file.readline(100).decode().rstrip("\n")

    def _top(self) -> Any:
        if not self._stack:
            raise ValueError("the pickle takes from an empty stack")
        return self._stack[-1]

    def _pop(self) -> Any:
        top = self._top()
        self._stack.pop()
        return top

    def _pop_marked(self) -> list[Any]:
        if not self._marks:
            raise ValueError("the pickle closes a list that it did not open")
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items


def _text(value: object) -> str:
    if not isinstance(value, _Bytes):
        raise ValueError("the pickle names something by something else than text")
    return value.data[:100].decode()


def _function(module: str, name: str) -> _Function:
    if f"{module}.{name}" not in _FUNCTIONS:
        raise ValueError(f"the pickle asks for {module}.{name}, which arrays do not need; nothing was executed")
    return _Function(_FUNCTIONS[f"{module}.{name}"])
