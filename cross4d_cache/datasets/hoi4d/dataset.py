"""HOI4D (Liu et al. 2022): egocentric RGB-D recordings of people handling objects, 300 frames of 20 s each, in three forms.

The challenge files of 4D semantic segmentation and of action segmentation (see `challenge`), and the recordings themselves
(see `recordings`).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from cross4d_cache.datasets.files import Expected, FileDataset, FileOptions, Release
from cross4d_cache.datasets.hoi4d.challenge import Challenge, challenge_files
from cross4d_cache.datasets.hoi4d.folders import LISTS
from cross4d_cache.datasets.hoi4d.recordings import Recordings, RecordingSettings
from cross4d_cache.errors import DatasetError
from cross4d_cache.join import Join, join
from cross4d_cache.types import Frame, SequenceInfo


def _voxel(size: float) -> float:
    if 0 < size < 0.001:
        raise ValueError("a voxel is at least 0.001 m, or 0 for none")
    return size


class HOI4DOptions(FileOptions):
    """`form` is chosen by what lies in the folder. The other options are for `raw`, the RGB-D recordings.

    Points are metres, in the frame of the static reconstruction (`world`; which way is up there is not known, so `axes` are left as they
    are) or of the `camera` (OpenCV axes). `depth_limit` is in metres, exclusive. `voxel` is the edge of the voxels that keep one point
    each, metres, 0 for all points. `labels` says whether masks and events are read. `frame_rate` of recordings and of semantic
    segmentation is 15, of action segmentation 7.5.
    """

    form: Literal["auto", "semantic", "action", "raw"] = "auto"
    frame_of_reference: Literal["world", "camera"] = "world"
    intrinsics: Literal["auto", "file", "constants"] = "auto"
    labels: bool = True
    depth_limit: Annotated[float, Field(gt=0, le=66)] = 3.0
    voxel: Annotated[float, Field(ge=0, le=1), AfterValidator(_voxel)] = 0.02


class HOI4D(FileDataset):
    """Challenge files or recordings, whichever the folder holds.

    Protocol `official` is train*.h5 against test*.h5, or for recordings release.txt against testset.txt where these lists lie in the folder
    or above; the same people are on both sides. `paper` splits the sequences of train1, train2 and train4 of semantic segmentation
    by our rule (see `paper_split`), version 1.
    """

    name = "hoi4d"
    version = "1"
    protocols: ClassVar[tuple[str, ...]] = ("official", "paper")
    holds = "train1.h5 and so on, or recordings ZY20210800001/H1/C1/N01/S1/s01/T1 with a folder align_depth"
    release = Release.of(
        "hoi4d",
        files="the files of a challenge (train1.h5 to train4.h5, test1.h5, test2.h5), or HOI4D_depth_video, HOI4D_annotations and "
        "camera_params",
    )
    Options = HOI4DOptions
    options: HOI4DOptions

    @cached_property
    def contents(self) -> Challenge | Recordings:
        """The folder, in its form."""
        form = self.options.form
        if form == "raw" or (form == "auto" and not challenge_files(self.root)):
            options = self.options
            settings = RecordingSettings(options.frame_of_reference, options.intrinsics, options.labels, options.depth_limit, options.voxel)
            return Recordings(self.root, settings)
        return Challenge(self.root, None if form == "auto" else form)

    @property
    def sensor_at_origin(self) -> bool:
        """Only of recordings in the frame of their camera."""
        return isinstance(self.contents, Recordings) and self.options.frame_of_reference == "camera"

    @property
    def action_names(self) -> tuple[str, ...]:
        """Classes of single frames: 19 unnamed ones of action segmentation, the events of recordings; none of semantic segmentation."""
        return self.contents.action_names

    @property
    def part_names(self) -> tuple[str, ...]:
        """Semantic classes by id, 0 to 48; none of action segmentation."""
        return self.contents.part_names

    def expected(self) -> Expected:
        """The official numbers of the challenge files, or the official lists of recordings."""
        return self.contents.expected()

    def joins(self) -> Sequence[Join]:
        """The official lists with the recordings, where they are there."""
        listed = self.expected().ids if isinstance(self.contents, Recordings) else ()
        return (join(" and ".join(LISTS.values()), listed, self.listing.ids),) if listed else ()

    def notes(self) -> Sequence[str]:
        """What recordings lack, or what challenge files there are that are not read."""
        return self.contents.notes()

    def scan(self) -> Iterator[SequenceInfo | DatasetError]:
        """Challenge files in the order train1 to test2, or recordings in the order of their paths."""
        return self.contents.scan()

    def read_frames(self, info: SequenceInfo, numbers: range) -> Iterator[Frame]:
        """Points in metres; with semantic classes or an action a frame, where there are labels."""
        self.check_length(info, self.contents.num_frames(info.id), self.contents.path(info.id))
        yield from self.contents.frames(info.id, numbers)
