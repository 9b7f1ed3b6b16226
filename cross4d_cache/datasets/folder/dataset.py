"""The user's own point clouds: one folder a sequence, one file a frame.

`layout` says which files these are, `label_table` what may be said of them, `ply`, `pcd` and `arrays` what they hold.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from cross4d_cache.datasets.dataset import Role
from cross4d_cache.datasets.files import FileDataset, FileOptions, Release
from cross4d_cache.datasets.folder import layout, origins, remarks
from cross4d_cache.datasets.folder.cloud import Cloud
from cross4d_cache.datasets.folder.frame_file import as_classes, measured, read_cloud
from cross4d_cache.datasets.folder.label_table import LabelTable, Row, read_class_names, read_labels
from cross4d_cache.errors import DatasetError
from cross4d_cache.join import Join, join
from cross4d_cache.record import added
from cross4d_cache.types import Frame, SequenceInfo

LABELS_FILE = "labels.csv"
FARTHEST = 1e5
"""Metres from the origin, where float32 tells 8 mm apart."""


class FolderOptions(FileOptions):
    """Metres, x right, y down, z forward, unless said otherwise.

    `axes` for files with z up, x right, y forward (nuScenes' LiDAR): `x,-z,y`; with y up, facing z: `x,-y,-z`; of a LiDAR with x
    forward, y left, z up (KITTI): `-y,-z,x`. `labels` is the CSV file, in the folder; that it is missing is no error for the default name.
    `tracks` says that point i is the same piece of surface in all frames of a sequence. `columns` is how many numbers a point has in
    `.bin` files; without it 4 (KITTI), and 5 in `.pcd.bin` (nuScenes). `sensor_at_origin` says that the sensor stood at the origin of the
    coordinates, for `--camera sensor`. `origin` is a point in the files' unit and axes subtracted from all others in float64: `auto`
    finds one for each sequence whose first frame lies more than a kilometre from 0, and the store says which.
    """

    labels: Annotated[str, Field(min_length=1), Role.LOCATES] = LABELS_FILE
    tracks: bool = False
    columns: Annotated[int, Field(ge=3, le=64)] | None = None
    sensor_at_origin: bool = False
    origin: origins.Origin | None = added(None)


class Folder(FileDataset):
    """The folders of a folder, in natural order, each a sequence.

    A CSV file may give actions, subjects and splits (protocol `labels`); its rows and the folders are joined by name. Where
    `classes.txt` names the classes of points, these are kept: a property `label` of PLY and PCD files, `labels` of `.npz` files, and
    KITTI's `labels/*.label`, of whose 32 bits the lower 16 are the class. Points that are not finite are left out, as
    sensors write them where they measured nothing.
    """

    name = "folder"
    version = "2"
    protocols: ClassVar[tuple[str, ...]] = ("labels",)
    holds = f"a folder for each sequence, with a file for each frame: {', '.join(layout.SUFFIXES)}"
    release = Release(title="point-cloud")
    drops_own_zeros = True
    Options = FolderOptions
    options: FolderOptions

    @cached_property
    def _labels(self) -> LabelTable:
        path = self.root / self.options.labels
        return LabelTable() if self.options.labels == LABELS_FILE and not path.exists() else read_labels(path)

    @cached_property
    def _folders(self) -> dict[str, Path]:
        return layout.sequence_folders(self.root)

    @property
    def sensor_at_origin(self) -> bool:
        """As the option says; an origin that was found is not the sensor's place."""
        return self.options.sensor_at_origin and self.options.origin != origins.AUTO

    @property
    def action_names(self) -> tuple[str, ...]:
        """The names in the CSV file, in natural order."""
        return self._labels.action_names

    @cached_property
    def part_names(self) -> tuple[str, ...]:
        """The names in `classes.txt`."""
        path = self.root / layout.CLASSES_FILE
        return read_class_names(path) if path.exists() else ()

    def joins(self) -> Sequence[Join]:
        """The CSV file with the sequences."""
        there = self._labels.rows or (self.root / self.options.labels).exists()
        return (join(self.options.labels, self._labels.rows, self.listing.ids),) if there else ()

    def notes(self) -> Sequence[str]:
        """What lies in the folder and is not read."""
        return (
            *remarks.of_tables(self.root, self.options.labels, self._labels),
            *remarks.of_sequences(self._folders, with_classes=bool(self.part_names)),
        )

    def scan(self) -> Iterator[SequenceInfo | DatasetError]:
        """The folders; files are counted and measured, not opened."""
        labels = self._labels
        actions, subjects = labels.action_numbers(), labels.subject_numbers()
        row_of = {name: row for row, name in join(self.options.labels, labels.rows, self._folders).partners.items()}
        for name, folder in self._folders.items():
            try:
                files = layout.frame_files(folder)
                for path in files:
                    layout.check_file(path)
            except DatasetError as error:
                yield error.of(name)
                continue
            row = labels.rows[row_of[name]] if name in row_of else Row()
            splits = {"labels": row.split} if row.split else {}
            yield SequenceInfo(id=name, num_frames=len(files), action=actions[row.action], subject=subjects[row.subject], splits=splits)

    def read_frames(self, info: SequenceInfo, numbers: range) -> Iterator[Frame]:
        """The points of each file, in its unit and axes; those that are not finite are left out.

        Raises:
            DatasetError: a file is damaged, has labels where others have none, or with `tracks` another number of points.
        """
        folder = self._folders[info.id]
        files = layout.frame_files(folder)
        self.check_length(info, len(files), folder)
        moved_by = self.origin(info)
        first: tuple[Path, Cloud] | None = None
        for number in numbers:
            path = files[number]
            cloud = read_cloud(path, self.options.columns, with_labels=bool(self.part_names))
            first = first or (path, cloud)
            self._check_alike(*first, path, cloud)
            yield self._to_frame(path, cloud, moved_by)

    def origin(self, info: SequenceInfo) -> origins.Point | None:
        """The one that the option names, or that the first frame of the sequence asks for.

        Raises:
            DatasetError: the file of that frame is damaged.
        """
        if self.options.origin is None:
            return None
        if self.options.origin != origins.AUTO:
            return origins.parse(self.options.origin)
        files = layout.frame_files(self._folders[info.id])
        return origins.find(read_cloud(files[0], self.options.columns, with_labels=False).points, self.options.metres_per_unit)

    def _check_alike(self, first: Path, expected: Cloud, path: Path, found: Cloud) -> None:
        if self.options.tracks and len(found.points) != len(expected.points):
            raise DatasetError(
                f"{path}: {len(found.points)} points",
                expected=f"{len(expected.points)}, as in {first.name}: with tracks, point i is the same piece of surface in all frames",
                hint="leave the option tracks out, or write the file again",
            )
        if (found.labels is None) != (expected.labels is None):
            raise DatasetError(
                f"{path}: {'no labels' if found.labels is None else 'labels'}",
                expected=f"{'none' if expected.labels is None else 'labels'}, as in {first.name}",
                hint=f"give all frames of the sequence labels, or move {layout.CLASSES_FILE} out of the folder",
            )

    def _to_frame(self, path: Path, cloud: Cloud, moved_by: origins.Point | None) -> Frame:
        metres_per_unit = self.options.metres_per_unit
        frame = Frame(
            points=origins.subtract(cloud.points, moved_by),
            part_labels=None if cloud.labels is None else as_classes(path, cloud.labels, len(self.part_names)),
            surface_ids=np.arange(len(cloud.points), dtype=np.uint32) if self.options.tracks else None,
        )
        finite = measured(path, frame.points, FARTHEST / metres_per_unit)
        finite &= self.nonzero(cloud.points)
        origins.check_steps(path, cloud.points[finite], frame.points[finite], metres_per_unit)
        return frame if finite.all() else frame[finite]
