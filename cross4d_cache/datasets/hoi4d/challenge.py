"""Challenge files: train1.h5 to train4.h5 and test1.h5, test2.h5, in one of two forms that bear the same names.

4D semantic segmentation has `pcd` (sequence, 300 frames, 8192 points, 3) and `semantic` (sequence, frame, point); its test files are
also named test1_right.h5 and test2_right.h5. Action segmentation has `pcd` (sequence, 150 frames, 2048 points, 3) and `label`
(sequence, frame). Tests may lack labels, and are then one file as published, test_wolabel.h5. Lengths are metres, in the frame of the
static reconstruction; `center` (a point a frame, about which the official loaders augment) is not used.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt16

from cross4d_cache.datasets.files import Expected
from cross4d_cache.datasets.hoi4d.labels import CHALLENGE_ACTIONS, PART_NAMES
from cross4d_cache.datasets.hoi4d.paper_split import FILE_SIZES, paper_split_v1, sequence_id
from cross4d_cache.datasets.hoi4d.table import Table, Tables, open_tables
from cross4d_cache.errors import DatasetError
from cross4d_cache.join import first_of
from cross4d_cache.types import Frame, SequenceInfo

Form = Literal["semantic", "action"]
LABELS: dict[Form, str] = {"semantic": "semantic", "action": "label"}
"""The array of labels that tells the forms apart."""
ACTION_FRAMES = 150
"""Frames of a sequence of action segmentation; of semantic segmentation 300."""


def challenge_files(root: Path) -> list[Path]:
    """The challenge files of a folder; of the several names of the test files, those that are preferred among the ones present."""
    tests = [root / f"{name}.h5" for name in ("test1", "test2")]
    chosen = [right if (right := path.with_stem(f"{path.stem}_right")).exists() else path for path in tests]
    present = [path for path in chosen if path.exists()]
    unlabelled = root / "test_wolabel.h5"
    trains = [root / f"train{number}.h5" for number in range(1, 5)]
    return [path for path in trains if path.exists()] + (present or ([unlabelled] if unlabelled.exists() else []))


class Challenge:
    """The challenge files of a folder; `form` is that of the first labelled one, unless it is given."""

    def __init__(self, root: Path, form: Form | None) -> None:
        self._root, self._form = root, form or _form_of_folder(root)
        self.action_names = CHALLENGE_ACTIONS if self._form == "action" else ()
        self.part_names = PART_NAMES if self._form == "semantic" else ()

    def expected(self) -> Expected:
        """2,971 sequences for training and 892 for testing."""
        names = {path.stem.removesuffix("_right"): path.stem for path in challenge_files(self._root)}
        ids = [sequence_id(names.get(file, file), number) for file, size in FILE_SIZES.items() for number in range(size)]
        if "test_wolabel" in names:
            ids = [*ids[:2971], *(sequence_id("test_wolabel", number) for number in range(892))]
        paper = {"paper": {"train": 1776, "test": 445}} if self._form == "semantic" else {}
        return Expected(num_sequences=len(ids), splits={"official": {"train": 2971, "test": 892}, **paper}, ids=ids)

    def notes(self) -> Sequence[str]:
        """Files that are not read because of their names, such as the other form of a test file."""
        read = {path.name for path in challenge_files(self._root)}
        others = [path.name for path in sorted(self._root.glob("*.[hH]*5")) if path.name not in read]
        return (f"not read, by their names: {first_of(others)}",) if others else ()

    def scan(self) -> Iterator[SequenceInfo | DatasetError]:
        """The sequences of all files, file by file."""
        for path in challenge_files(self._root):
            try:
                with open_tables(path) as tables:
                    num_sequences, num_frames = self._arrays(tables)[0].shape[:2]
            except DatasetError as error:
                yield error
                continue
            for number in range(num_sequences):
                name = sequence_id(path.stem, number)
                splits = {"official": "train" if path.stem.startswith("train") else "test"}
                if self._form == "semantic" and name in paper_split_v1():
                    splits["paper"] = paper_split_v1()[name]
                yield SequenceInfo(id=name, num_frames=num_frames, splits=splits)

    def path(self, name: str) -> Path:
        """The file in which a sequence lies."""
        return self._root / f"{name.rpartition('_')[0]}.h5"

    def num_frames(self, name: str) -> int:
        """Frames of a sequence."""
        with open_tables(self.path(name)) as tables:
            return self._arrays(tables)[0].shape[1]

    def frames(self, name: str, numbers: range) -> Iterator[Frame]:
        """Those frames of a sequence."""
        path, sequence = self.path(name), int(name.rpartition("_")[2])
        with open_tables(path) as tables:
            points, labels = self._arrays(tables)
            if sequence >= points.shape[0] or numbers[-1] >= points.shape[1]:
                raise DatasetError(
                    f"{path}: no sequence {sequence} any more", hint="the file changed meanwhile; run the same command again"
                )
            rows = labels.frames(sequence, numbers) if labels else (None for _ in numbers)
            for number, cloud, row in zip(numbers, points.frames(sequence, numbers), rows, strict=True):
                with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
                    cloud = cloud.astype(np.float32)
                where = f"{path}: {LABELS[self._form]!r} of sequence {sequence}, frame {number}"
                if row is None:
                    yield Frame(points=cloud)
                elif self._form == "semantic":
                    yield Frame(points=cloud, part_labels=_whole_numbers(row, len(PART_NAMES), where))
                else:
                    yield Frame(points=cloud, action=int(_whole_numbers(row, len(CHALLENGE_ACTIONS), where)))

    def _arrays(self, tables: Tables) -> tuple[Table, Table | None]:
        """Points and, unless the file has none, labels; their shapes agree."""
        points = tables["pcd"]
        if len(points.shape) != 4 or points.shape[3] != 3 or points.dtype.kind != "f":
            raise _unfit(tables.path, f"`pcd` of shape {points.shape} and kind {points.dtype}", "(sequence, frame, point, 3), floating")
        for form, name in LABELS.items():
            if form != self._form and name in tables and LABELS[self._form] not in tables:
                raise _unfit(tables.path, f"the array `{name}`, of {form} segmentation", f"{self._form} segmentation, as chosen")
        if LABELS[self._form] not in tables and not tables.path.stem.startswith("train"):
            return points, None
        labels, wanted = tables[LABELS[self._form]], points.shape[: 3 if self._form == "semantic" else 2]
        if labels.shape != wanted:
            raise _unfit(tables.path, f"`{LABELS[self._form]}` of shape {labels.shape}", f"{wanted}, as `pcd` has")
        return points, labels


def _form_of_folder(root: Path) -> Form:
    form: Form = "semantic"
    for path in challenge_files(root):
        try:
            with open_tables(path) as tables:
                for known, name in LABELS.items():
                    if name in tables:
                        return known
                form = "action" if tables["pcd"].shape[1] == ACTION_FRAMES else "semantic"
        except DatasetError:
            continue  # the listing says so
    return form


def _unfit(path: Path, found: str, expected: str) -> DatasetError:
    return DatasetError(
        f"{path}: {found}", expected=expected, hint="pass `dataset.options` form=semantic or form=action; one form a folder"
    )


def _whole_numbers(values: Shaped[np.ndarray, "..."], limit: int, where: str) -> UInt16[np.ndarray, "..."]:
    wrong = ~((values >= 0) & (values < limit))  # true for NaN, too
    if not wrong.any():
        wrong = values.astype(np.uint16) != values
    if wrong.any():
        raise DatasetError(
            f"{where}: {values[wrong].flat[0]}", expected=f"whole numbers from 0 to {limit - 1}", hint="fetch the file again"
        )
    return values.astype(np.uint16)
