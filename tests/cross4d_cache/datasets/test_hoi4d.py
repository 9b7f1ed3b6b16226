"""The HOI4D reader on challenge files: contents in every kind of storage, listing and splits, hostile and damaged files."""

import hashlib
import os
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cross4d_cache.datasets.hoi4d import HOI4D
from cross4d_cache.datasets.hoi4d.labels import PART_NAMES
from cross4d_cache.datasets.hoi4d.paper_split import paper_split_v1
from cross4d_cache.errors import DatasetError
from cross4d_train.recipes import RECIPES
from tests.cross4d_cache.datasets.examples.hoi4d import write_h5
from tests.cross4d_cache.datasets.mutation import mutate


def open_folder(root: Path, **options: object) -> HOI4D:
    return HOI4D(root, HOI4D.Options.model_validate(options))


def read_everything(root: Path, **options: object) -> None:
    dataset = open_folder(root, **options)
    for info in dataset.sequences():
        dataset.read(info)


def random_arrays(sequences: int = 3, frames: int = 5, points: int = 7) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        "pcd": rng.normal(size=(sequences, frames, points, 3)).astype("<f4"),
        "center": rng.normal(size=(sequences, frames, 3)).astype("<f4"),
        "semantic": rng.integers(0, 49, (sequences, frames, points)).astype("<i8"),
    }


def write(path: Path, arrays: dict[str, np.ndarray], **storage: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **storage)


@pytest.mark.parametrize(
    ("kind", "storage"),
    [
        ({}, {}),
        ({"libver": "latest"}, {}),
        ({"userblock_size": 1024}, {}),
        ({}, {"chunks": (1, 1, 7, 3)}),
        ({}, {"chunks": (2, 2, 4, 2)}),  # edges overhang in every direction
        ({}, {"chunks": (2, 2, 4, 2), "compression": "gzip"}),
        ({}, {"chunks": (3, 5, 2, 1), "compression": "gzip", "shuffle": True}),
        ({"libver": "latest"}, {"chunks": (1, 3, 5, 3), "compression": "gzip", "shuffle": True}),
        ({"libver": "latest"}, {"chunks": (2, 3, 5, 3), "maxshape": (None, None, 7, 3), "compression": "gzip"}),
        ({"userblock_size": 512}, {"chunks": (3, 5, 7, 3)}),
    ],
)
def test_arrays_come_back_from_every_kind_of_storage(tmp_path: Path, kind: dict[str, Any], storage: dict[str, Any]) -> None:
    arrays = random_arrays()
    with h5py.File(tmp_path / "train1.h5", "w", **kind) as file:
        for name, array in arrays.items():
            fitted = {
                key: value[: array.ndim] if isinstance(value, tuple) and name != "center" else value for key, value in storage.items()
            }
            file.create_dataset(name, data=array, **(fitted if name != "center" else {}))
    dataset = open_folder(tmp_path)
    for number, info in enumerate(dataset.sequences()):
        sequence = dataset.read(info)
        np.testing.assert_array_equal(sequence.points.reshape(5, 7, 3), arrays["pcd"][number])
        assert sequence.part_labels is not None
        np.testing.assert_array_equal(sequence.part_labels.reshape(5, 7), arrays["semantic"][number])


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
@pytest.mark.parametrize("label_dtype", ["u1", ">i4", "<f4"])
def test_numbers_of_any_kind_are_read(tmp_path: Path, dtype: str, label_dtype: str) -> None:
    arrays = random_arrays()
    write(tmp_path / "test1.h5", {"pcd": arrays["pcd"].astype(dtype), "semantic": arrays["semantic"].astype(label_dtype)}, chunks=True)
    dataset = open_folder(tmp_path)
    sequence = dataset.read(dataset.sequences()[1])
    np.testing.assert_array_equal(sequence.points.reshape(5, 7, 3), arrays["pcd"][1].astype(dtype).astype(np.float32))
    assert sequence.part_labels is not None
    np.testing.assert_array_equal(sequence.part_labels.reshape(5, 7), arrays["semantic"][1])


def test_listing_goes_through_the_files_in_their_order(tmp_path: Path) -> None:
    for name, sequences, frames in (
        ("test2", 1, 3),
        ("train3", 1, 2),
        ("test1_right", 2, 4),
        ("test1", 3, 3),
        ("train1", 2, 5),
        ("other", 1, 1),
    ):
        write_h5(tmp_path / f"{name}.h5", sequences, frames, 4, "semantic")
    dataset = open_folder(tmp_path)
    assert [(info.id, info.num_frames, dict(info.splits)) for info in dataset.sequences()] == [
        ("train1_0000", 5, {"official": "train", "paper": "train"}),
        ("train1_0001", 5, {"official": "train", "paper": "train"}),
        ("train3_0000", 2, {"official": "train"}),
        ("test1_right_0000", 4, {"official": "test"}),
        ("test1_right_0001", 4, {"official": "test"}),
        ("test2_0000", 3, {"official": "test"}),
    ]
    ids = set(dataset.expected().ids)
    assert {"train1_0749", "train4_0720", "test1_right_0499", "test2_0391"} <= ids
    assert len(ids) == dataset.expected().num_sequences == 2971 + 892


def test_tests_without_labels_are_read_where_there_are_no_others(tmp_path: Path) -> None:
    write_h5(tmp_path / "test_wolabel.h5", 2, 3, 4, None)
    dataset = open_folder(tmp_path)
    assert [info.id for info in dataset.sequences()] == ["test_wolabel_0000", "test_wolabel_0001"]
    assert dataset.read(dataset.sequences()[0]).part_labels is None
    assert "test_wolabel_0891" in dataset.expected().ids
    write_h5(tmp_path / "test1.h5", 1, 3, 4, None)  # renamed, as some have to
    assert [info.id for info in open_folder(tmp_path).sequences()] == ["test1_0000"]


def test_training_files_have_labels(tmp_path: Path) -> None:
    write_h5(tmp_path / "train1.h5", 2, 3, 4, None)
    with pytest.raises(DatasetError, match="no array `semantic`"):
        open_folder(tmp_path).sequences()


def test_action_files_are_told_apart_and_label_frames(tmp_path: Path) -> None:
    labels = np.array([[0, 18, 3], [4, 4, 5]])
    write(tmp_path / "train2.h5", {"pcd": np.ones((2, 3, 4, 3), "f4"), "label": labels})
    dataset = open_folder(tmp_path)
    sequences = [dataset.read(info) for info in dataset.sequences()]
    assert [sequence.frame_actions.tolist() for sequence in sequences if sequence.frame_actions is not None] == labels.tolist()
    assert sequences[0].part_labels is None
    assert dict(sequences[0].info.splits) == {"official": "train"}
    assert (len(dataset.action_names), dataset.part_names) == (19, ())


def test_two_forms_in_one_folder_are_refused(tmp_path: Path) -> None:
    write_h5(tmp_path / "train1.h5", 1, 2, 4, "semantic")
    write_h5(tmp_path / "train2.h5", 1, 2, 4, "label")
    for form, wrong in (("auto", "train2.h5"), ("semantic", "train2.h5"), ("action", "train1.h5")):
        with pytest.raises(DatasetError, match=wrong):
            open_folder(tmp_path, form=form).sequences()


def test_stride_takes_every_so_many_frames(tmp_path: Path) -> None:
    arrays = random_arrays(frames=8)
    write(tmp_path / "train1.h5", arrays, chunks=True)
    dataset = open_folder(tmp_path, frame_stride=3)
    sequence = dataset.read(dataset.sequences()[2])
    np.testing.assert_array_equal(sequence.points.reshape(3, 7, 3), arrays["pcd"][2, ::3])


def test_names_of_classes() -> None:
    assert len(set(PART_NAMES)) == len(PART_NAMES) == 49
    assert [PART_NAMES[number] for number in (0, 1, 6, 17, 47, 48)] == ["no label", "noise", "unused 6", "mug", "hand", "scissors"]
    assert sum(name.startswith("unused") for name in PART_NAMES) == 5
    assert RECIPES["hoi4d"].ignored_parts == (0, 1)


def test_the_split_of_the_paper_is_the_published_rule() -> None:
    split = paper_split_v1()
    assert [sum(side == wanted for side in split.values()) for wanted in ("train", "test")] == [1776, 445]
    assert not any(name.startswith("train3") for name in split)
    tests = sorted(name for name, side in split.items() if side == "test")
    assert tests[:3] == ["train1_0002", "train1_0007", "train1_0012"]
    assert hashlib.sha256("\n".join(tests).encode()).hexdigest()[:16] == "f13a1a452ed94e3e"


@pytest.mark.parametrize("value", [-1, 49, 2**40])
def test_labels_that_are_no_class_are_refused(tmp_path: Path, value: int) -> None:
    arrays = random_arrays()
    arrays["semantic"][1, 2, 3] = value
    write(tmp_path / "train1.h5", arrays)
    with pytest.raises(DatasetError, match=rf"train1.h5: 'semantic' of sequence 1, frame 2: {value}"):
        read_everything(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.5])
def test_labels_that_are_no_whole_numbers_are_refused(tmp_path: Path, value: float) -> None:
    arrays = random_arrays()
    labels = arrays["semantic"].astype("f4")
    labels[0, 4, 0] = value
    write(tmp_path / "train1.h5", {**arrays, "semantic": labels})
    with pytest.raises(DatasetError, match="sequence 0, frame 4"):
        read_everything(tmp_path)


def test_points_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    arrays = random_arrays()
    points = arrays["pcd"].astype("f8")
    points[1, 2, 3] = 1e300
    write(tmp_path / "train1.h5", {**arrays, "pcd": points})
    with pytest.raises(DatasetError, match="train1_0001: 1 points are NaN or infinite, the first in frame 2"):
        read_everything(tmp_path)


def external_link(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("elsewhere.h5"), "w") as other:
        other["pcd"] = random_arrays()["pcd"]
    file["pcd"] = h5py.ExternalLink("elsewhere.h5", "/pcd")


def soft_link(file: h5py.File) -> None:
    file["points"] = random_arrays()["pcd"]
    file["pcd"] = h5py.SoftLink("/points")


def virtual(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("elsewhere.h5"), "w") as other:
        other["pcd"] = random_arrays()["pcd"]
    layout = h5py.VirtualLayout((3, 5, 7, 3), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "pcd", (3, 5, 7, 3))
    file.create_virtual_dataset("pcd", layout)


def external_storage(file: h5py.File) -> None:
    file.create_dataset("pcd", (3, 5, 7, 3), "f4", external=[("/etc/passwd", 0, 1260)])


def never_written(file: h5py.File) -> None:
    file.create_dataset("pcd", (3, 5, 7, 3), "f4")


def missing_chunk(file: h5py.File) -> None:
    file.create_dataset("pcd", (3, 5, 7, 3), "f4", chunks=(1, 1, 7, 3))[:, :4] = random_arrays()["pcd"][:, :4]


def deflate_bomb(file: h5py.File) -> None:
    array = file.create_dataset("pcd", (3, 5, 7, 3), "f4", chunks=(3, 5, 7, 3), compression="gzip")
    array.id.write_direct_chunk((0, 0, 0, 0), zlib.compress(bytes(2**20)))


def swollen_chunk(file: h5py.File) -> None:
    array = file.create_dataset("pcd", (3, 5, 7, 3), "f4", chunks=(3, 5, 7, 3), compression="gzip")
    array.id.write_direct_chunk((0, 0, 0, 0), bytes(2**16))


def huge_chunk(file: h5py.File) -> None:
    file.create_dataset("pcd", (3000, 300, 8192, 3), "f4", chunks=(300, 300, 1024, 3), compression="gzip")


def huge_shape(file: h5py.File) -> None:
    file.create_dataset("pcd", (2**40, 300, 8192, 3), "f4", chunks=(1, 1, 8192, 3))


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        (external_link, "a link or a group"),
        (soft_link, "a link or a group"),
        (lambda file: file.create_group("pcd"), "a link or a group"),
        (lambda file: None, "no array `pcd`"),
        (virtual, "neither contiguously nor in chunks"),
        (external_storage, "another file"),
        (never_written, "never written"),
        (missing_chunk, "never written"),
        (deflate_bomb, r"at byte \d+ unpacks to 1261 bytes"),
        (swollen_chunk, "takes 65536 bytes"),
        (huge_chunk, "more than 268435456 bytes"),
        (huge_shape, "of shape"),
        (lambda file: file.create_dataset("pcd", data=random_arrays()["pcd"], compression="lzf"), "filter 32000"),
        (lambda file: file.create_dataset("pcd", data=random_arrays()["pcd"], fletcher32=True), "filter 3"),
        (lambda file: file.create_dataset("pcd", (3, 5, 7, 3), h5py.string_dtype()), "not plain numbers"),
        (lambda file: file.create_dataset("pcd", (3, 5, 7, 3), [("x", "f4")]), "not plain numbers"),
        (lambda file: file.create_dataset("pcd", data=np.ones((3, 5, 7, 4), "f4")), "shape"),
        (lambda file: file.create_dataset("pcd", data=np.ones((3, 5, 8, 3), "f4")), "shape"),
        (lambda file: file.create_dataset("pcd", data=np.ones((3, 5, 7, 3), "i4")), "int32"),
    ],
)
def test_hostile_and_unfit_storage_is_refused(tmp_path: Path, store: Callable[[h5py.File], object], reason: str) -> None:
    with h5py.File(tmp_path / "train1.h5", "w") as file:
        file["semantic"] = random_arrays()["semantic"]
        store(file)
    tracemalloc.start()
    with pytest.raises(DatasetError, match=reason) as caught:
        read_everything(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "train1.h5" in caught.value.found
    assert peak < 2**23


def test_damage_is_told_by_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "train1.h5"
    write(path, random_arrays())
    data = path.read_bytes()
    path.write_bytes(data[:3000])
    with pytest.raises(DatasetError, match=rf"train1.h5: the file ends at byte 3000 of {len(data)}"):
        read_everything(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"train1\.h5"):
        read_everything(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DatasetError, match=r"train1\.h5 cannot be read: Is a directory"):
        read_everything(tmp_path)
    path.rmdir()
    write(path, random_arrays(), chunks=True, compression="gzip")
    with h5py.File(path, "r") as file:
        start = file["pcd"].id.get_chunk_info(0).byte_offset
    broken = bytearray(path.read_bytes())
    broken[start + 5 : start + 15] = bytes(10)
    path.write_bytes(broken)
    with pytest.raises(DatasetError, match=rf"chunk of `pcd` at byte {start} cannot be unpacked"):
        read_everything(tmp_path)


def test_a_file_that_changed_since_the_listing_is_refused(tmp_path: Path) -> None:
    write_h5(tmp_path / "train1.h5", 2, 3, 4, "semantic")
    dataset = open_folder(tmp_path)
    _, last = dataset.sequences()
    for sequences, frames in ((2, 4), (1, 3)):
        write_h5(tmp_path / "train1.h5", sequences, frames, 4, "semantic")
        with pytest.raises(DatasetError, match=r"train1\.h5"):
            dataset.read(last)
    (tmp_path / "train1.h5").unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset.read(last)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_of_54_gigabytes_streams_in_little_memory(tmp_path: Path, chunked: bool) -> None:
    """A sparse file, so that any read of a whole array would show."""
    path = tmp_path / "train1.h5"
    with h5py.File(path, "w") as file:
        for name, shape, kind in (("pcd", (1100, 300, 8192, 3), "f4"), ("semantic", (1100, 300, 8192), "i8")):
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            if chunked:
                layout.set_chunk((2, 300, *shape[2:]))
            kinds = h5py.h5t.py_create(np.dtype(kind))
            h5py.h5d.create(file.id, name.encode(), kinds, h5py.h5s.create_simple(shape), layout)
    assert path.stat().st_size > 54e9
    assert path.stat().st_blocks * 512 < 2**24
    dataset = open_folder(tmp_path)
    tracemalloc.start()
    infos = dataset.sequences()
    for info in (infos[0], infos[-1]):
        frames = [len(frame.points) for frame in dataset.frames(info)]
        assert frames == [8192] * 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (200e6 if chunked else 3e6)


@pytest.mark.parametrize(("labels", "chunk"), [("semantic", ()), ("semantic", (2, 2, 5)), ("label", ()), ("label", (1, 2, 8))])
def test_damaged_files_read_or_raise_dataset_errors_and_take_no_memory(tmp_path: Path, labels: str, chunk: tuple[int, ...]) -> None:
    path = tmp_path / "train1.h5"
    write_h5(path, 2, 3, 8, labels, chunk=chunk)
    intact = path.read_bytes()
    rng = np.random.default_rng(5)
    refusals, read = [], 0
    tracemalloc.start()
    for _ in range(100):
        path.write_bytes(intact)
        path.write_bytes(mutate(path, rng))
        try:
            read_everything(tmp_path)
            read += 1
        except DatasetError as error:
            refusals.append(str(error))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read > 10
    assert len(refusals) > 30
    assert all("train1" in message for message in refusals)
    assert peak < 2**24


@pytest.fixture(scope="module")
def real_folder() -> Path:
    root = os.environ.get("CROSS4D_REAL_DATA")
    if not root or not (Path(root) / "hoi4d").is_dir():
        pytest.skip("CROSS4D_REAL_DATA is not set: the folder that holds hoi4d/release.txt")
    return Path(root) / "hoi4d"


def test_the_official_lists_give_what_is_expected_of_recordings(real_folder: Path) -> None:
    expected = open_folder(real_folder).expected()
    assert expected.splits == {"official": {"train": 2971, "test": 866}}  # 933 lines, 897 different, 31 of them released
    assert "ZY20210800004-H4-C8-N14-S71-s03-T2" in expected.ids
