"""NTU RGB+D 60 and 120: depth sequences of people before three Kinect v2 cameras, as PNG files or as the `.npz` files of peers.

A sample is a folder of PNG files of 512 x 424 pixels of 16 bits, millimetres, 0 for none: `MDepth-00000001.png` and on where only people
are kept (`nturgb+d_depth_masked`), `Depth-00000001.png` and on for the whole view (`nturgb+d_depth`).

PSTNet's scripts turn a sample into one `.npz` file, an object array `data` of one array of points a frame, with two traps: the depth is
that of a picture reader, millimetres / 65535, and the focal length is that of another sensor, 280 px with the centre at (256, 212).
Both are undone here, so that both forms of a recording give the same points.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Shaped

from cross4d_cache.datasets.dataset import Role
from cross4d_cache.datasets.depth_image import Pinhole, change_pinhole, read_png, unproject
from cross4d_cache.datasets.files import Expected, FileDataset, FileOptions, FrameRate, Positive, Release
from cross4d_cache.datasets.ntu_rgbd.actions import ACTION_NAMES
from cross4d_cache.datasets.ntu_rgbd.images import count_images, entries, has_images, image_path
from cross4d_cache.datasets.ntu_rgbd.intrinsics import CONSTANTS, fit_pinhole
from cross4d_cache.datasets.ntu_rgbd.samples import (
    NUM_SAMPLES,
    NUM_SAMPLES_120,
    SPLITS,
    SPLITS_120,
    Sample,
    names_of_60,
    read_sample_list,
    resembles_sample,
)
from cross4d_cache.datasets.ntu_rgbd.skeleton import read_skeleton
from cross4d_cache.datasets.object_array import open_object_array
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.join import count_of, first_of
from cross4d_cache.types import Frame, SequenceInfo

WIDTH, HEIGHT = 512, 424
NPZ_PINHOLE = Pinhole(fx=280.0, fy=280.0, cx=256.0, cy=212.0)
NPZ_KEY = "data"
NPZ_UNIT = 65_535.0
"""Millimetres."""
FOLDERS = {"masked": "nturgb+d_depth_masked", "raw": "nturgb+d_depth"}
SKELETON_FOLDERS = ("nturgb+d_skeletons", "nturgb+d_skeletons120")
MISSING_LISTS = ("NTU_RGBD_samples_with_missing_skeletons.txt", "NTU_RGBD120_samples_with_missing_skeletons.txt")

Form = Literal["masked", "raw", "npz"]


class NTUOptions(FileOptions):
    """`form` chooses between masked and raw depth images and `.npz` files where there are several.

    `skeletons` is the folder of the `.skeleton` files where it does not lie beside the samples under its own name. `intrinsics` come
    from the sample's skeleton and, where there is none that can be used, from a table by camera number (`auto`), or only from the one
    or the other. `skip_missing_skeletons` leaves the samples out that the official lists name, as work on skeletons does.
    """

    metres_per_unit: Positive = 0.001
    frame_rate: FrameRate = 30.0
    form: Literal["auto", "masked", "raw", "npz"] = "auto"
    skeletons: Annotated[str | None, Role.LOCATES] = None
    intrinsics: Literal["auto", "skeleton", "constants"] = "auto"
    skip_missing_skeletons: bool = False


class NTURGBD(FileDataset):
    """The samples of a folder, in name order.

    Protocols of NTU RGB+D 120 are given when the folder holds a sample that only this one has.
    """

    name = "ntu_rgbd"
    version = "1"
    protocols: ClassVar[tuple[str, ...]] = ("cross-subject", "cross-view", "cross-subject-120", "cross-setup")
    holds = "folders named S001C001P001R001A001 of MDepth-00000001.png or Depth-00000001.png, or files S001C001P001R001A001.npz"
    release = Release.of(
        "ntu_rgbd",
        files="the masked depth maps (nturgb+d_depth_masked) and the skeletons (nturgb+d_skeletons), which give the cameras' intrinsics",
    )
    Options = NTUOptions
    options: NTUOptions

    @property
    def sensor_at_origin(self) -> bool:
        """Points are given in the sensor's axes."""
        return True

    @property
    def action_names(self) -> tuple[str, ...]:
        """60 classes, or 120 for a folder of NTU RGB+D 120."""
        return ACTION_NAMES if self._is_120 else ACTION_NAMES[:60]

    def expected(self) -> Expected:
        """All samples of NTU RGB+D 60, or of 120; ids are those of 60."""
        counts = SPLITS | (SPLITS_120 if self._is_120 else {})
        skipped = self.listed_without_skeletons if self.options.skip_missing_skeletons else frozenset()
        sides = [sample.splits(with_120=self._is_120) for name in skipped if (sample := Sample.parse(name))]
        gone = Counter(side for splits in sides for side in splits.items())
        return Expected(
            num_sequences=(NUM_SAMPLES_120 if self._is_120 else NUM_SAMPLES) - sum(map(bool, sides)),
            splits={name: {side: count - gone[name, side] for side, count in both.items()} for name, both in counts.items()},
            ids=[name for name in names_of_60() if name not in skipped],
        )

    def scan(self) -> Iterator[SequenceInfo | DatasetError]:
        """The samples of the folder; names, and the headers of `.npz` files, are looked at, not pixels."""
        needed = MISSING_LISTS[: 2 if self._is_120 else 1]
        lacking = set(needed) - {path.name for path in self._missing_lists}
        if self.options.skip_missing_skeletons and lacking:
            raise SettingsError(
                f"{self.root} does not hold the list of samples without skeletons",
                expected=" and ".join(sorted(lacking)),
                hint="fetch it from https://github.com/shahroudy/NTURGB-D (folder Matlab) and put it there",
            )
        self._check_skeletons()
        for sample in self._samples:
            if self.options.skip_missing_skeletons and sample.name in self.listed_without_skeletons:
                continue
            try:
                num_frames = self._num_frames(sample.name)
            except DatasetError as error:
                yield error.of(sample.name)
                continue
            yield SequenceInfo(
                id=sample.name,
                num_frames=num_frames,
                action=sample.action - 1,
                subject=sample.performer,
                camera=sample.camera,
                splits=sample.splits(with_120=self._is_120),
            )

    def read_frames(self, info: SequenceInfo, numbers: range) -> Iterator[Frame]:
        """Every pixel with a depth as a point, in the sensor's axes, millimetres, in raster order."""
        pinhole = self.pinhole(info)
        if self.form != "npz":
            self.check_length(info, self._num_frames(info.id), self._folder / info.id)
            for number in numbers:
                depth = read_png(image_path(self._folder / info.id, self.form, number), WIDTH, HEIGHT)
                yield Frame(points=unproject(depth, pinhole))
            return
        path = self._folder / f"{info.id}.npz"
        array = open_object_array(path, NPZ_KEY)
        self.check_length(info, array.num_frames, path)
        for number, published in enumerate(array.frames()):
            if number in numbers:
                _check_extent(path, number, published)
                yield Frame(points=change_pinhole(published, NPZ_PINHOLE, pinhole) * np.float32(NPZ_UNIT))

    def pinhole(self, info: SequenceInfo) -> Pinhole:
        """The intrinsics of the depth camera of a sample.

        Raises:
            DatasetError: its `.skeleton` file is damaged, or with `intrinsics=skeleton` missing or of no use.
        """
        fallback = CONSTANTS.get(info.camera, CONSTANTS[1])
        if self.options.intrinsics == "constants":
            return fallback
        path = self._skeleton(info.id)
        fitted = fit_pinhole(read_skeleton(path)) if path else None
        if fitted is None and self.options.intrinsics == "skeleton":
            raise DatasetError(
                f"{path or info.id + '.skeleton'}: " + ("its joints do not give the camera's intrinsics" if path else "is not there"),
                expected="a .skeleton file with well tracked joints",
                hint="pass `dataset.options` intrinsics=auto, which has a table for such samples",
            )
        return fitted or fallback

    @cached_property
    def form(self) -> Form:
        """Which of the forms is read.

        Raises:
            SettingsError: there are several, and the option does not choose.
        """
        if self.options.form != "auto":
            return self.options.form
        found: list[Form] = [form for form in ("masked", "raw") if (self.root / FOLDERS[form]).is_dir()]
        for name, is_folder in entries(self.root):
            if not is_folder and name.endswith(".npz") and Sample.parse(name.removesuffix(".npz")) and "npz" not in found:
                found.append("npz")
            if is_folder and Sample.parse(name) and not {"masked", "raw"} & set(found):
                found += [form for form in ("masked", "raw") if has_images(self.root / name, form)]
        if len(found) > 1:
            raise SettingsError(f"{self.root} holds the forms {', '.join(found)}", hint=f"choose with `dataset.options` form={found[0]}")
        return found[0] if found else "masked"

    @cached_property
    def listed_without_skeletons(self) -> frozenset[str]:
        """Samples that the official lists name as without skeletons, or with incomplete ones; empty where the lists are not there."""
        return frozenset(name for path in self._missing_lists for name in read_sample_list(path))

    def notes(self) -> Sequence[str]:
        """How many samples are left out, have no skeleton, or are not read because of their names."""
        listed = [sample.name for sample in self._samples if sample.name in self.listed_without_skeletons]
        skipped = self.options.skip_missing_skeletons
        likely = [name for name, _ in entries(self._folder) if resembles_sample(name) and not Sample.parse(name.removesuffix(".npz"))]
        return (
            *([f"{count_of(listed, 'sample')} left out by the official lists: {first_of(listed)}"] if listed and skipped else ()),
            *self._note_on_skeletons([name for name in self.without_skeletons() if not skipped or name not in listed]),
            *([f"not read, as they are not called like S001C001P001R001A001: {first_of(likely)}"] if likely else ()),
        )

    def _note_on_skeletons(self, names: Sequence[str]) -> Iterator[str]:
        if not names:
            return
        sources = {
            "auto": "so their intrinsics come from the table by camera",
            "skeleton": "so they cannot be read with intrinsics=skeleton",
        }
        source = sources.get(self.options.intrinsics, "which intrinsics=constants does not need")
        yield f"{count_of(names, 'sample')} without a skeleton file, {source}: {first_of(names)}"

    def fingerprint(self) -> str:
        """Of the listing and of the skeletons, as points depend on the intrinsics that these give."""
        digest = hashlib.sha256(super().fingerprint().encode())
        if self.options.intrinsics != "constants":
            for info in self.listing.sequences:
                path = self._skeleton(info.id)
                digest.update(f"{info.id}\0{path.stat().st_size if path else -1}\n".encode())
        return digest.hexdigest()

    def without_skeletons(self) -> list[str]:
        """Ids of the samples here that have no `.skeleton` file, or whose file is incomplete according to the official lists."""
        return [sample.name for sample in self._samples if self._skeleton(sample.name) is None]

    @cached_property
    def _folder(self) -> Path:
        """Where the samples lie."""
        inner = self.root / FOLDERS.get(self.form, "")
        return inner if inner.is_dir() else self.root

    @cached_property
    def _samples(self) -> list[Sample]:
        npz = self.form == "npz"
        names = [name.removesuffix(".npz") for name, is_folder in entries(self._folder) if npz == (not is_folder and name.endswith(".npz"))]
        return [sample for name in names if (sample := Sample.parse(name))]

    @cached_property
    def _is_120(self) -> bool:
        return any(sample.only_in_120 for sample in self._samples)

    @cached_property
    def _missing_lists(self) -> list[Path]:
        found = [path for name in MISSING_LISTS for path in (self.root / name, self.root.parent / name) if path.is_file()]
        return [path for path in found if path.stat().st_size < 1 << 20]

    @cached_property
    def _skeleton_folders(self) -> list[Path]:
        if self.options.skeletons is not None:
            if not Path(self.options.skeletons).is_dir():
                raise SettingsError(f"option skeletons: {self.options.skeletons} is not a folder", hint="name that of the .skeleton files")
            return [Path(self.options.skeletons)]
        return [beside / name for beside in (self.root, self._folder.parent) for name in SKELETON_FOLDERS]

    def _check_skeletons(self) -> None:
        """Refuse a folder that was named for the skeletons and holds none of these samples."""
        folder, unused = self.options.skeletons, self.options.intrinsics == "constants"
        if folder is None or unused or len(self.without_skeletons()) < len(self._samples) or not self._samples:
            return
        raise SettingsError(
            f"option skeletons: {folder} holds no skeleton of the {len(self._samples):,} samples here",
            expected=f"files such as {self._samples[0].name}.skeleton",
            hint="name their folder, or leave the option out",
        )

    def _skeleton(self, name: str) -> Path | None:
        if name in self.listed_without_skeletons:
            return None
        paths = (folder / f"{name}.skeleton" for folder in self._skeleton_folders)
        return next((path for path in paths if path.is_file()), None)

    def _num_frames(self, name: str) -> int:
        if self.form == "npz":
            return open_object_array(self._folder / f"{name}.npz", NPZ_KEY).num_frames
        return count_images(self._folder / name, self.form)


def _check_extent(path: Path, frame: int, points: Shaped[np.ndarray, "point 3"]) -> None:
    with np.errstate(all="ignore"):
        extent = float(np.abs(points.astype(np.float64)).max(initial=0))
    if not extent <= 1:
        raise DatasetError(
            f"{path}: a coordinate of {extent} in frame {frame}",
            expected="those of depths / 65535, at most 1",
            hint="the file was converted otherwise, or is damaged; use the depth images",
        )
