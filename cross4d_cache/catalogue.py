"""Teachers and datasets that have names: what they are, where they are published, and under which licence.

Nothing heavy is imported, so that a list of them is there at once. Sizes are those of the encoder; tests compare them with the models.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class NamedTeacher:
    """A teacher by name. `parameters` are the encoder's, `patch` and `image` pixels, `tubelet` frames that share a token.

    `hub_id` and `revision`, a commit, say where its weights are published; None where nothing is fetched, or the commit is not known.
    """

    name: str
    family: str
    parameters: int
    patch: int
    tubelet: int
    image: int
    hub_id: str | None
    revision: str | None
    licence: str


def _dinov2(size: str, parameters: int, hub_id: str, revision: str) -> NamedTeacher:
    return NamedTeacher(f"dinov2-{size}", "dinov2", parameters, 14, 1, 224, f"facebook/{hub_id}", revision, "Apache-2.0")


def _dinov3(size: str, parameters: int, hub_id: str, revision: str | None = None) -> NamedTeacher:
    name = f"facebook/dinov3-{hub_id}-pretrain-lvd1689m"
    return NamedTeacher(f"dinov3-{size}", "dinov3", parameters, 16, 1, 224, name, revision, "DINOv3 License, gated")


def _vjepa2(size: str, parameters: int, image: int, hub_id: str, revision: str) -> NamedTeacher:
    return NamedTeacher(f"vjepa2-{size}", "vjepa2", parameters, 16, 2, image, f"facebook/vjepa2-{hub_id}", revision, "MIT")


def _videomae(size: str, parameters: int, patch: int, hub_id: str | None) -> NamedTeacher:
    return NamedTeacher(f"videomae-{size}", "videomae", parameters, patch, 2, 224, hub_id, None, "CC-BY-NC-4.0")


CATALOGUE = {
    teacher.name: teacher
    for teacher in (
        NamedTeacher("tiny", "tiny", 1_055_088, 8, 1, 112, None, None, "that of this package"),
        _dinov2("s", 22_056_576, "dinov2-small", "ed25f3a31f01632728cabb09d1542f84ab7b0056"),
        _dinov2("b", 86_580_480, "dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415"),
        _dinov2("l", 304_368_640, "dinov2-large", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c"),
        _dinov2("g", 1_136_480_768, "dinov2-giant", "611a9d42f2335e0f921f1e313ad3c1b7178d206d"),
        _dinov2("s-reg", 22_058_112, "dinov2-with-registers-small", "0d9846e56b43a21fa46d7f3f5070f0506a5795a9"),
        _dinov2("b-reg", 86_583_552, "dinov2-with-registers-base", "a1d738ccfa7ae170945f210395d99dde8adb1805"),
        _dinov2("l-reg", 304_372_736, "dinov2-with-registers-large", "e4c89a4e05589de9b3e188688a303d0f3c04d0f3"),
        _dinov2("g-reg", 1_136_486_912, "dinov2-with-registers-giant", "8d0d49f77fb8b5dd78842496ff14afe7dd4d85cb"),
        _dinov3("s", 21_596_544, "vits16"),
        _dinov3("s+", 28_692_864, "vits16plus"),
        _dinov3("b", 85_660_416, "vitb16"),
        _dinov3("l", 303_129_600, "vitl16", "ea8dc2863c51be0a264bab82070e3e8836b02d51"),
        _dinov3("h+", 840_592_640, "vith16plus"),
        _dinov3("7b", 6_716_035_072, "vit7b16"),
        _vjepa2("l", 303_885_312, 256, "vitl-fpc64-256", "b3c1679b7c34d3255ef3547f27c7b226aefab26f"),
        _vjepa2("h", 631_648_000, 256, "vith-fpc64-256", "b5eac8703e3efdc1547fbb6ddfbeb133dc0bdee5"),
        _vjepa2("g", 1_012_173_952, 256, "vitg-fpc64-256", "875c192b7b704b87d1e1d99345769632dd5f739a"),
        _vjepa2("g-384", 1_012_173_952, 384, "vitg-fpc64-384", "12ca91694b230e0d4b5b0078af6f4ae1d51e933d"),
        _videomae("s", 21_879_936, 16, None),
        _videomae("b", 86_227_200, 16, "OpenGVLab/VideoMAEv2-Base"),
        _videomae("l", 303_860_736, 16, "OpenGVLab/VideoMAEv2-Large"),
        _videomae("h", 631_607_040, 16, "OpenGVLab/VideoMAEv2-Huge"),
        _videomae("g", 1_011_610_752, 14, "OpenGVLab/VideoMAEv2-giant"),
        NamedTeacher("position", "position", 0, 8, 1, 112, None, None, "no weights: a control"),
        NamedTeacher("none", "none", 0, 14, 1, 224, None, None, "no teacher: points alone"),
    )
}
"""By name, families together, small ones first."""

ALIASES = {"dinov2": "dinov2-l", "dinov3": "dinov3-l", "vjepa2": "vjepa2-l", "videomae": "videomae-b"}
"""A family's name alone: its large model, as in the paper; of VideoMAE V2 the base model, whose file its authors give to anybody."""


def family(name: str) -> tuple[str, ...]:
    """The names of the teachers of a family."""
    return tuple(teacher.name for teacher in CATALOGUE.values() if teacher.family == name)


@dataclass(frozen=True)
class NamedDataset:
    """A dataset by the name of its reader: what its owners call it, and their page. `licence` is None where it is not known here."""

    name: str
    title: str
    page: str
    licence: str | None


DATASETS = {
    dataset.name: dataset
    for dataset in (
        NamedDataset("synthetic", "bodies that this package generates", "", "that of this package"),
        NamedDataset("msr_action3d", "MSR-Action3D", "https://sites.google.com/view/wanqingli/data-sets/msr-action3d", None),
        NamedDataset("deforming_things4d", "DeformingThings4D", "https://github.com/rabbityl/DeformingThings4D", None),
        NamedDataset("ntu_rgbd", "NTU RGB+D", "https://rose1.ntu.edu.sg/dataset/actionRecognition/", None),
        NamedDataset("hoi4d", "HOI4D", "https://hoi4d.github.io", None),
    )
}
"""By name: those that this package generates or that others publish. Users' own files have no entry."""
