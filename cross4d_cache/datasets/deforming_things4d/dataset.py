"""DeformingThings4D (Li et al. 2021): animated animals and people, as meshes or as rendered depth.

`animals/IDENTITY_ACTION/IDENTITY_ACTION.anime` and likewise in `humanoids/`; or, for renders, any folder with `depth/` and the two camera
files. World axes have z up; lengths are metre-like, but not calibrated between animations.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from cross4d_cache.datasets.deforming_things4d.anime import open_anime
from cross4d_cache.datasets.deforming_things4d.identities import CATEGORIES, CROSS_IDENTITY_TEST_V1, IDENTITIES, category_of
from cross4d_cache.datasets.deforming_things4d.rendered import CAMERA_FILES, open_rendered
from cross4d_cache.datasets.deforming_things4d.surface import SurfaceSamples, sample_surface
from cross4d_cache.datasets.files import Axes, Expected, FileDataset, FileOptions, Release
from cross4d_cache.datasets.mesh import Mesh
from cross4d_cache.errors import DatasetError
from cross4d_cache.join import join
from cross4d_cache.types import UNLABELLED, Frame, SequenceInfo

SUBSETS = ("animals", "humanoids")
EXPECTED = {"animals": 1772, "humanoids": 200}
RENDER_DEPTH = 3
"""How many folders below the root a render may lie."""


class DeformingThings4DOptions(FileOptions):
    """`points` are drawn on the surface of a mesh, chosen by `seed` and the sequence's id; renders give a point a pixel.

    `form` `auto` takes meshes where there are any. `subset` matters to meshes only. Files have z up: x stays to the right, and y
    points into the picture.
    """

    axes: Axes = "x,-z,y"
    form: Literal["auto", "anime", "rendered"] = "auto"
    subset: Literal["animals", "humanoids", "all"] = "animals"
    points: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    seed: Annotated[int, Field(ge=0)] = 0


class DeformingThings4D(FileDataset):
    """One animation a sequence.

    Classes are the 38 categories of animals, subjects the identities (`IDENTITIES`, by number). Protocol `cross-identity` is ours,
    version 1 of a written list (`identities.py`), as the paper's is not published. Humanoids, and animals that the list does not
    know, have no side.

    Points of meshes keep their place on the surface through all frames: `surface_ids` number them.
    """

    name = "deforming_things4d"
    version = "1"
    protocols: ClassVar[tuple[str, ...]] = ("cross-identity",)
    holds = (
        "animals/bear3EP_Agression/bear3EP_Agression.anime (humanoids with `dataset.options` subset=humanoids), or folders with depth/, "
        "cam_intr.txt and cam_extr.txt"
    )
    release = Release.of(
        "deforming_things4d",
        files="animals.zip and humanoids.zip (by the form that the page links)",
    )
    Options = DeformingThings4DOptions
    options: DeformingThings4DOptions

    @property
    def action_names(self) -> tuple[str, ...]:
        """The categories of animals."""
        return CATEGORIES

    def expected(self) -> Expected:
        """1,772 animations of animals, 200 of humanoids; nothing is known of renders, which everybody makes for themselves."""
        if self.form == "rendered":
            return Expected()
        return Expected(num_sequences=sum(EXPECTED[subset] for subset in self._subsets()))

    @cached_property
    def form(self) -> str:
        """The form that is read."""
        if self.options.form != "auto":
            return self.options.form
        return "anime" if self._anime_folders() else "rendered"

    def scan(self) -> Iterator[SequenceInfo | DatasetError]:
        """All animations, animals first; headers and sizes of files are checked."""
        for name, folder in self._folders.items():
            try:
                if self.form == "anime":
                    num_frames = open_anime(folder / f"{folder.name}.anime").num_frames
                else:
                    num_frames = len(open_rendered(folder).images)
            except DatasetError as error:
                yield error.of(name)
                continue
            yield self._info(name, folder, num_frames)

    def read_frames(self, info: SequenceInfo, numbers: range) -> Iterator[Frame]:
        """Points on the surface, the same pieces in every frame; or the pixels of a render."""
        folder = self._folders[info.id]
        if self.form == "rendered":
            rendered = open_rendered(folder)
            self.check_length(info, len(rendered.images), folder)
            for number in numbers:
                yield Frame(points=rendered.frame(number))
            return
        anime = open_anime(folder / f"{folder.name}.anime")
        self.check_length(info, anime.num_frames, anime.path)
        samples = self.surface_samples(info)
        ids = np.arange(self.options.points, dtype=np.uint32)
        for number in numbers:
            yield Frame(points=samples.place(anime.vertices(number)), surface_ids=ids)

    def mesh(self, info: SequenceInfo, frame: int) -> Mesh | None:
        """The mesh of a frame; a render has none."""
        if self.form == "rendered":
            return None
        folder = self._folders[info.id]
        anime = open_anime(folder / f"{folder.name}.anime")
        vertices = self._to_opencv(anime.vertices(frame * self.options.frame_stride))
        return Mesh(vertices=vertices, triangles=anime.triangles())

    def surface_samples(self, info: SequenceInfo) -> SurfaceSamples:
        """Where the points of a mesh sit on it; row `i` is the point with surface id `i`.

        Raises:
            DatasetError: the mesh is damaged, or has no surface.
        """
        folder = self._folders[info.id]
        anime = open_anime(folder / f"{folder.name}.anime")
        rng = np.random.default_rng([self.options.seed, zlib.crc32(info.id.encode())])
        try:
            return sample_surface(anime.vertices(0), anime.triangles(), self.options.points, rng)
        except DatasetError as error:
            found = error.found if str(anime.path) in error.found else f"{anime.path}: {error.found}"
            raise DatasetError(found, expected=error.expected, hint=error.hint or "fetch the file again") from None

    @cached_property
    def _folders(self) -> dict[str, Path]:
        """The folder of every sequence by id."""
        if self.form == "anime":
            return {folder.name: folder for folder in self._anime_folders()}
        renders = sorted(_renders(self.root, RENDER_DEPTH))
        return {"-".join(folder.relative_to(self.root).parts) or _names(folder)[0]: folder for folder in renders}

    def notes(self) -> Sequence[str]:
        """Animals that no list knows, and those that it probably knows under another spelling."""
        unknown = sorted({info.id.partition("_")[0] for info in self.listing.sequences if not info.splits})
        if not unknown or "humanoids" in self._subsets():
            return ()
        like = join("identities", unknown, IDENTITIES)
        return (f"identities that the list does not know, so on no side of cross-identity: {', '.join(unknown)}", *like.hints())

    def _subsets(self) -> tuple[str, ...]:
        if self.root.name in SUBSETS:
            return (self.root.name,)
        return SUBSETS if self.options.subset == "all" else (self.options.subset,)

    def _anime_folders(self) -> list[Path]:
        """Folders of animations, if any of them holds its file; the root may be the release or one of its subsets."""
        parents = [self.root / subset for subset in self._subsets() if (self.root / subset).is_dir()] or [self.root]
        folders = [folder for parent in parents for folder in sorted(parent.iterdir()) if folder.is_dir() and "_" in folder.name]
        return folders if any((folder / f"{folder.name}.anime").exists() for folder in folders) else []

    def _info(self, name: str, folder: Path, num_frames: int) -> SequenceInfo:
        own, parent = _names(folder)
        titles = (own, parent) if self.form == "rendered" else (own,)  # the camera's folder may lie in that of the animation
        identities = [title.partition("_")[0] for title in titles]
        identity = next((identity for identity in identities if identity in IDENTITIES), identities[0])
        animal = parent != "humanoids" and self._subsets() != ("humanoids",)
        category, known = category_of(identity), animal and identity in IDENTITIES
        return SequenceInfo(
            id=name,
            num_frames=num_frames,
            action=CATEGORIES.index(category) if animal and category in CATEGORIES else UNLABELLED,
            subject=IDENTITIES.index(identity) if known else UNLABELLED,
            splits={"cross-identity": "test" if identity in CROSS_IDENTITY_TEST_V1 else "train"} if known else {},
        )


def _names(folder: Path) -> tuple[str, str]:
    """Of a folder and its parent, also where it is given as `.`."""
    place = Path(os.path.abspath(folder))
    return place.name, place.parent.name


def _renders(folder: Path, levels: int) -> Iterator[Path]:
    """Folders that hold depth images and a file of a camera, at most `levels` below this one."""
    if (folder / "depth").is_dir() and any((folder / name).exists() for name in CAMERA_FILES):
        yield folder
    elif levels:
        for child in folder.iterdir():
            if child.is_dir():
                yield from _renders(child, levels - 1)
