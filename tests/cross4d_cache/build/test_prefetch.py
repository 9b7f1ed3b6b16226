"""Reading ahead in processes and in threads: the same sequences in the same order, the same errors, and processes only where they help."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cross4d_cache.build import prefetch
from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.prefetch import Preparation, SequenceReader
from cross4d_cache.build.preparation import PreparedSequence
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.datasets.msr_action3d import MSRAction3D
from cross4d_cache.errors import DatasetError
from cross4d_cache.teachers import load_teacher
from cross4d_cache.types import RenderSettings
from cross4d_cache.workers import Workers
from tests.cross4d_cache.datasets.examples.all_examples import EXAMPLES
from tests.cross4d_cache.datasets.examples.example import Example


def preparation_of(dataset: Dataset, out: Path = Path("store.zarr")) -> Preparation:
    render = RenderSettings(image_size=32, density="places", framing="most")
    return Preparation(dataset=dataset, render=render, points_per_frame=60, seed=3, out=out)


def content(sequence: PreparedSequence) -> list[Any]:
    arrays = [sequence.grid, sequence.box, sequence.points, sequence.point_offsets]
    cameras = [(camera.intrinsics.tolist(), camera.world_to_camera.tolist()) for views in sequence.views for camera in views.cameras]
    splats = [(views.splat_sizes, views.bounds, views.depth_ranges.tolist()) for views in sequence.views]
    return [sequence.info, [array.tobytes() for array in arrays], cameras, splats]


@pytest.mark.parametrize("num_workers", [1, 3])
def test_processes_give_what_threads_give_in_order(msr_folder: Path, num_workers: int) -> None:
    preparation = preparation_of(open_dataset("msr_action3d", msr_folder))
    infos = preparation.dataset.sequences()
    readers = [SequenceReader(preparation=preparation, num_workers=count) for count in (num_workers, 0)]
    ours, theirs = ([content(item) for item in reader.sequences(infos)] for reader in readers)
    assert [item[0].id for item in ours] == [info.id for info in infos]
    assert ours == theirs
    assert all(reader.seconds > 0 for reader in readers)


def test_a_store_that_processes_read_has_the_bytes_of_any_other(msr_folder: Path, tiny_vit: Path, tmp_path: Path) -> None:
    dataset, teacher = open_dataset("msr_action3d", msr_folder), load_teacher("hf", str(tiny_vit))
    plan = plan_build(dataset, teacher, BuildSettings(points_per_frame=60, views=2, projection="none", frames_per_part=9))
    found = []
    for count in (0, 2):
        store = tmp_path / f"{count}.zarr"
        list(Build(dataset, teacher, plan, store, count).run())
        found.append({path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()})
    assert found[0] == found[1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_sequence_is_told_after_those_before_it(msr_folder: Path, num_workers: int) -> None:
    dataset = open_dataset("msr_action3d", msr_folder)
    infos = list(dataset.sequences())
    infos[2] = infos[2].model_copy(update={"num_frames": infos[2].num_frames + 1})  # as if the file had lost a frame since
    sequences = SequenceReader(preparation=preparation_of(dataset, Path("here.zarr")), num_workers=num_workers).sequences(infos)
    assert [next(sequences).info.id for _ in range(2)] == [info.id for info in infos[:2]]
    with pytest.raises(DatasetError, match=rf"(?s){infos[2].id}.*`exclude` {infos[2].id}.*here\.zarr"):
        next(sequences)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_every_reader_can_be_sent_to_a_process(example: Example, tmp_path: Path) -> None:
    example.write(tmp_path)
    preparation = preparation_of(open_dataset(example.dataset, tmp_path, example.options))
    preparation.dataset.sequences()
    assert preparation.can_travel


def test_a_class_that_only_this_process_has_stays_here(msr_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class InANotebook(MSRAction3D):
        pass

    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    InANotebook.__module__, InANotebook.__qualname__ = "__main__", "InANotebook"
    vars(main)["InANotebook"] = InANotebook
    ours, own = (preparation_of(kind(msr_folder, kind.Options())) for kind in (MSRAction3D, InANotebook))
    assert ours.can_travel
    assert not own.can_travel
    monkeypatch.setattr(prefetch, "usable_cores", lambda: 16)
    assert [SequenceReader(preparation=item)._count() for item in (ours, own)] == [8, 0]
    vars(own.dataset)["handle"] = (number for number in ())  # what no pickle holds
    assert not own.can_travel


def test_no_more_processes_start_than_there_are_sequences(msr_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[int]()

    class Counted(Workers[Any, Any]):
        def __init__(self, work: Any, count: int, receive: Any) -> None:
            started.append(count)
            super().__init__(work, count, receive)

    monkeypatch.setattr(prefetch, "Workers", Counted)
    preparation = preparation_of(open_dataset("msr_action3d", msr_folder))
    infos = preparation.dataset.sequences()
    for some in (infos[:0], infos[:1], infos[:2]):
        reader = SequenceReader(preparation=preparation, num_workers=2)
        assert [item.info.id for item in reader.sequences(iter(some))] == [info.id for info in some]
    assert started == [0, 1, 2]


@pytest.mark.parametrize(("cores", "count"), [(1, 0), (3, 0), (4, 2), (16, 8), (96, 48)])
def test_half_of_the_cores_read_unless_they_are_few(msr_folder: Path, monkeypatch: pytest.MonkeyPatch, cores: int, count: int) -> None:
    monkeypatch.setattr(prefetch, "usable_cores", lambda: cores)
    assert SequenceReader(preparation=preparation_of(open_dataset("msr_action3d", msr_folder)))._count() == count


def test_points_are_decoded_where_they_are_used(msr_folder: Path) -> None:
    preparation = preparation_of(open_dataset("msr_action3d", msr_folder))
    prepared, _ = preparation(preparation.dataset.sequences()[0])
    assert "points" not in vars(prepared)
    step = prepared.box[1].astype(np.float32)
    assert np.array_equal(prepared.points, prepared.grid * step + prepared.box[0].astype(np.float32))
