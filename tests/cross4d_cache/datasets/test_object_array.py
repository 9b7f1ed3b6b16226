"""Object arrays in `.npz` files: what numpy writes comes back, and nothing else is done, least of all executed."""

import io
import pickle
import pickletools
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.datasets.array_pickle import MAX_HELD_BYTES, ArrayPickle
from cross4d_cache.datasets.object_array import open_object_array
from cross4d_cache.errors import DatasetError
from tests.cross4d_cache.datasets.examples.msr_action3d import object_array
from tests.cross4d_cache.datasets.mutation import damage


def ragged(num_frames: int = 5, dtype: str = "<f8") -> list[np.ndarray]:
    rng = np.random.default_rng(num_frames)
    return [rng.standard_normal((int(count), 3)).astype(dtype) for count in rng.integers(0, 40, num_frames)]


def npy(body: bytes, shape: str = "(5,)", descr: str = "|O", fortran: bool = False) -> bytes:
    """A `.npy` file by its layout: magic number, length of the header, header, body."""
    header = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


def npz(path: Path, content: bytes, key: str = "points") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{key}.npy", content)
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    return list(open_object_array(path, "points").frames())


def assert_same(found: list[np.ndarray], frames: list[np.ndarray]) -> None:
    assert len(found) == len(frames)
    for one, other in zip(found, frames, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize(("num_frames", "dtype"), [(1, "<f8"), (1100, "<f8"), (5, "<f4"), (5, ">f8"), (5, "<f2"), (5, "<i4")])
def test_what_numpy_saves_comes_back(tmp_path: Path, num_frames: int, dtype: str) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", points=object_array(ragged(num_frames, dtype)))
        assert open_object_array(tmp_path / "x.npz", "points").num_frames == num_frames
        assert_same(frames_of(tmp_path / "x.npz"), ragged(num_frames, dtype))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_and_both_memory_orders_come_back(tmp_path: Path, protocol: int) -> None:
    frames = ragged(6)
    frames[::2] = [np.asfortranarray(frame) for frame in frames[::2]]
    frames[3] = np.empty((0, 3))
    body = pickle.dumps(object_array(frames), protocol=protocol)
    for text in (body, body.replace(b"numpy._core.", b"numpy.core.") if protocol < 4 else body):
        assert_same(frames_of(npz(tmp_path / "x.npz", npy(text, "(6,)"))), frames)


def test_what_python_2_wrote_comes_back(tmp_path: Path) -> None:
    """Its pickles hold bytes as strings: one frame of two points."""
    data = np.arange(6.0)
    new_array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    floats = b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
    objects = b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]"
    body = b"\x80\x02" + new_array + objects + new_array + floats + struct.pack("<i", 48) + data.tobytes() + b"tbatb."
    assert_same(frames_of(npz(tmp_path / "x.npz", npy(body, "(1,)"))), [data.reshape(2, 3)])


def test_a_dense_array_is_read_frame_by_frame(tmp_path: Path) -> None:
    dense = np.random.default_rng(0).random((4, 7, 3), np.float32)
    np.savez_compressed(tmp_path / "x.npz", points=dense)
    assert_same(frames_of(tmp_path / "x.npz"), list(dense))


class Command:
    """What a malicious file holds in place of a frame."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_malicious_pickle_is_refused_by_the_name_it_asks_for_and_does_nothing(tmp_path: Path, protocol: int) -> None:
    frames: list[object] = [*ragged(4), Command(tmp_path / "executed")]
    array = np.empty(5, object)
    array[:] = frames
    body = pickle.dumps(array, protocol=protocol)
    with pytest.raises(DatasetError, match=r"x\.npz: damaged.* at byte \d+ .*nothing was executed"):
        frames_of(npz(tmp_path / "x.npz", npy(body)))
    assert not (tmp_path / "executed").exists()
    pickle.loads(body)
    assert (tmp_path / "executed").exists()  # so the file was malicious indeed


@pytest.mark.parametrize(
    "call",
    [b"cos\nsystem\nX\x04\x00\x00\x00true\x85R.", b"cnumpy\nload\nX\x04\x00\x00\x00true\x85R.", b"cnumpy.core.multiarray\nscalar\n."],
)
def test_every_name_but_those_of_arrays_is_refused(call: bytes) -> None:
    with pytest.raises(ValueError, match=r"the pickle asks for .*nothing was executed"):
        list(ArrayPickle(io.BytesIO(b"\x80\x02" + call)).arrays())


def test_functions_are_no_values_and_values_no_functions() -> None:
    for body in (
        b"K\x01)R.",
        b"cnumpy\ndtype\n(tR.",
        b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8\x86R.",
        b"]R.",
        b"K\x01Nb.",
    ):
        with pytest.raises(ValueError, match=r"the pickle|it ends"):
            list(ArrayPickle(io.BytesIO(body)).arrays())


def test_operations_that_numpy_does_not_write_are_refused() -> None:
    known = set()
    for operation in pickletools.opcodes:
        with pytest.raises(ValueError, match=r"^(the pickle|it ends|more than|invalid literal|not enough)") as caught:
            list(ArrayPickle(io.BytesIO(operation.code.encode("latin1") + b"\x01" * 20)).arrays())
        if "nothing was executed" not in str(caught.value):
            known.add(operation.name)
    assert not known & {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "DICT", "DUP", "LONG4"}


@pytest.mark.parametrize(
    "body",
    [
        b"N" * 1_000_000,  # a stack without end
        b"]" + b"Na" * 500_000,
        b"N" + b"\x94" * 1_000_000,  # memory without end
        b"N" + b"".join(b"r" + struct.pack("<I", place) for place in range(2**31, 2**31 + 1000)) + b".",  # a table with a far end
        b"N" + b"\x85" * 100_000 + b".",  # nested deeply
        b"\x8e" + struct.pack("<Q", 2**40) + b"x",
        b"\x96" + struct.pack("<Q", 2**63) + b"x",
        b"\x95" + b"\xff" * 8 + b"N.",
        (b"X" + struct.pack("<I", 1000) + b"x" * 1000) * 3000,
    ],
)
def test_pickles_that_ask_for_much_are_refused_with_little(tmp_path: Path, body: bytes) -> None:
    npz(tmp_path / "x.npz", npy(body))
    start = time.monotonic()
    with pytest.raises(DatasetError, match=r"x\.npz"):
        frames_of(tmp_path / "x.npz")
    assert time.monotonic() - start < 60, "it does not hang"


def test_what_is_held_outside_of_arrays_is_bounded() -> None:
    class Endless(io.BytesIO):
        """A gibibyte of text for every operation, of which nothing exists."""

        def read(self, count: int | None = -1) -> bytes:
            assert count is not None
            assert count < MAX_HELD_BYTES
            return super().read(count)

    with pytest.raises(ValueError, match="bytes outside of arrays"):
        list(ArrayPickle(Endless(b"X" + struct.pack("<I", 2**30))).arrays())


def test_frames_are_streamed(tmp_path: Path) -> None:
    """60 frames of 240 kB: never more than a few of them at once."""
    frames = [np.full((10_000, 3), number, np.float64) for number in range(60)]
    frames[0] = frames[0][:-1]
    np.savez_compressed(tmp_path / "x.npz", points=object_array(frames))
    array = open_object_array(tmp_path / "x.npz", "points")
    tracemalloc.start()
    for number, frame in enumerate(array.frames()):
        assert frame[0, 0] == number
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(b"", "(5,)", "<f8"), "where"),
        (npy(bytes(96), "(2, 2, 3)", "<f8") + b"x", "bytes where an array"),
        (npy(bytes(95), "(2, 2, 3)", "<f8"), "bytes where an array"),
        (npy(bytes(96), "(2, 2, 3)", "<f8", fortran=True), "belong"),
        (npy(b"N", "(99999999999,)"), "belong"),
        (npy(b"N", "(0,)"), "belong"),
        (npy(b"", "(99999999999999, 99999999999999, 3)", "<f8"), "frames of"),
        (npy(b"", "(99999999999999, 9, 3)", "<f8"), "bytes where an array"),
        (npy(pickle.dumps(object_array(ragged(4)))), "4 things|4 frames"),
        (npy(pickle.dumps(object_array([*ragged(5)[:4], np.zeros((2, 2))]))), "shape"),
        (npy(pickle.dumps([1, 2, 3])), "ends in something else"),
        (npy(pickle.dumps(object_array(ragged(5))) + b"x"), "followed by something else"),
        (b"not an array at all", "no .npy array"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': evil()}", "header"),
    ],
)
def test_arrays_of_other_kinds_are_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(DatasetError, match=rf"x\.npz.*({reason})"):
        frames_of(npz(tmp_path / "x.npz", content))


def test_the_missing_key_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", other=np.zeros(3))
    with pytest.raises(DatasetError, match=r"holds other\.npy(.|\n)*an array named points"):
        open_object_array(tmp_path / "x.npz", "points")


def test_a_bomb_is_refused_by_its_declared_size(tmp_path: Path) -> None:
    path = npz(tmp_path / "x.npz", npy(bytes(3000), "(5,)"))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24  # the uncompressed size in the directory
    data[place : place + 4] = struct.pack("<I", 2**31)
    path.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match="2147483648 bytes"):
        open_object_array(path, "points")


def test_a_cut_off_archive_says_where_it_ends(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", points=object_array(ragged()))
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:1000])
    with pytest.raises(DatasetError, match=r"x\.npz: .* cut off(.|\n)*ends at byte 1000"):
        open_object_array(tmp_path / "x.npz", "points")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "empty.npz").touch()
    for name in ("folder", "empty", "missing"):
        with pytest.raises(DatasetError, match=name):
            open_object_array(tmp_path / f"{name}.npz", "points")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_damaged_pickles_and_archives_read_or_raise_dataset_errors(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(protocol)
    body = npy(pickle.dumps(object_array(ragged()), protocol=protocol))
    archive = npz(tmp_path / "x.npz", body).read_bytes()
    refusals = []
    tracemalloc.start()
    for number in range(100):
        if number % 3:
            npz(tmp_path / "x.npz", damage(body, rng))
        else:
            (tmp_path / "x.npz").write_bytes(damage(archive, rng))
        try:
            for frame in open_object_array(tmp_path / "x.npz", "points").frames():
                assert frame.shape[1] == 3
        except DatasetError as error:
            refusals.append(error.found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 30 < len(refusals) < 100
    assert all("x.npz" in found for found in refusals)
    assert peak < 2**25
