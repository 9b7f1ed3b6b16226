"""Pieces of work: stores that are derived from others."""

from pathlib import Path

from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest
from cross4d_cache.store import open_cache
from pipelines.experiment.work import Store, build

OPTIONS = {"num_humans": "1", "num_animals": "0", "min_frames": "5", "max_frames": "5"}
REQUEST = BuildRequest(dataset=DatasetRequest(options=OPTIONS), settings=BuildSettings(limit=2, points_per_frame=200))


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_control_is_derived_and_one_that_was_built_is_kept(tmp_path: Path) -> None:
    store = Store(path=tmp_path / "teacher.zarr", request=REQUEST)
    control = store.shuffled("shuffled")
    assert control.path == tmp_path / "shuffled.zarr"
    assert control.needed == (store, control)
    shuffled = REQUEST.settings.model_copy(update={"correspondence": "shuffled"})
    before = Store(path=tmp_path / "before" / "shuffled.zarr", request=REQUEST.model_copy(update={"settings": shuffled}))
    for item in (store, control, before):
        build(item)
    assert open_cache(control.path).manifest == open_cache(before.path).manifest
    built = files(before.path)
    again = build(Store(path=before.path, of=store))
    assert files(before.path) == built
    assert again["correspondence"] == "shuffled"
