"""The model card, word for word, of a student whose record is written by hand."""

import pytest
from huggingface_hub import ModelCard

from cross4d_cache.catalogue import CATALOGUE, DATASETS
from cross4d_cache.datasets import DATASETS as READERS
from cross4d_cache.datasets.files import FileDataset
from cross4d_train.card import teacher_licence, write_card
from cross4d_train.clips import ClipSettings
from cross4d_train.encoders import build_encoder
from cross4d_train.exported import StudentConfig
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.settings import EncoderSettings, InitialWeights, Origin, RunSettings, TrainingSettings

ORIGIN = Origin(
    dataset="ntu_rgbd", fingerprint="f00d", sequences="cafe", teacher="dinov2-s (facebook/dinov2-small)", random_teacher=False,
    target_channels=384,
)  # fmt: skip
SETTINGS = RunSettings(
    encoder=EncoderSettings(size="tiny"),
    clips=ClipSettings(num_frames=16, num_points=1024, stride=2),
    training=TrainingSettings(num_epochs=3, side="train", protocol="cross-view"),
)
ENCODER = build_encoder("point4d", "tiny")


def config(settings: RunSettings = SETTINGS, origin: Origin = ORIGIN) -> StudentConfig:
    return StudentConfig(
        settings=settings,
        origin=origin,
        encoder_config={"depth": 1, "fine": {"radius": 0.1}},
        step=1200,
        epoch=2,
        num_steps=1800,
        software={"torch": "2.13.0"},
        sha256="ab" * 32,
    )


CARD = """\
---
library_name: cross4d
license: cc-by-4.0
pipeline_tag: feature-extraction
tags:
- cross4d
- point-cloud
- 4d
- self-supervised-learning
---

# point4d tiny, pretrained on ntu_rgbd

An encoder of point cloud sequences: `points (frame, point, 3)` in, features of 32 channels for every point out. 15,120 parameters. It \
comes with the head of its objective, without the state of the optimizer. Licence: cc-by-4.0.

## What it learned from

| | |
|---|---|
| dataset | ntu_rgbd |
| its release | NTU RGB+D, https://rose1.ntu.edu.sg/dataset/actionRecognition/ |
| its licence | not recorded |
| sequences | side: train, protocol cross-view |
| teacher | dinov2-s (facebook/dinov2-small) |
| its licence | Apache-2.0 |
| objective | dense |
| steps done | 1,200 |
| fingerprint of the store | f00d |

## What it expects

- **Unit**: metres. Nothing is normalised.
- **Axes**: x right, y down, z forward. Where the origin lies does not matter.
- **Frames**: consecutive ones, at the frame rate of ntu_rgbd, which is not recorded here.
- **Clips**: it learned from 16 frames x 1,024 points, one of every 2 frames. `features` takes any number of frames and points, shows the \
encoder such clips, and interpolates to all points.

## How to load it

```python
import cross4d_train

student = cross4d_train.load("FOLDER")  # or a zip of it, its https address, or OWNER/NAME on the hub
features = student.features(points)
```

The commands of `cross4d-train` take the same places as checkpoints. To be sure that it is this student:

```python
cross4d_train.load("OWNER/NAME", sha256="abababababababababababababababababababababababababababababababab")
```

## Results

None were given.

## Settings

| name | value |
|---|---|
| encoder.name | point4d |
| encoder.size | tiny |
| objective.name | dense |
| objective.variance_weight | 1.0 |
| objective.conditioning | whiten:32 |
| clips.num_frames | 16 |
| clips.num_points | 1024 |
| clips.stride | 2 |
| training.num_epochs | 3 |
| training.batch_size | 16 |
| training.clips_per_sequence | 1 |
| training.learning_rate | 0.0005 |
| training.weight_decay | 0.0001 |
| training.warmup | 0.05 |
| training.seed | 0 |
| training.side | train |
| training.protocol | cross-view |

Step 1,200 of 1,800, epoch 2.

## Encoder

| name | value |
|---|---|
| depth | 1 |
| fine.radius | 0.1 |

## Software

| name | value |
|---|---|
| torch | 2.13.0 |
"""


def test_a_whole_card():
    assert write_card(config(), ENCODER, [], "cc-by-4.0") == CARD
    unsaid = write_card(config(), ENCODER, [], None)
    assert "Licence: not recorded." in unsaid
    assert "license" not in unsaid
    assert ModelCard(unsaid).data.license is None


@pytest.mark.parametrize(
    ("teacher", "random", "said"),
    [
        ("dinov2-s (facebook/dinov2-small)", False, "Apache-2.0"),
        ("dinov3-l (facebook/dinov3-vitl16-pretrain-lvd1689m)", False, "DINOv3 License, gated"),
        ("dinov2-s (my-own)", False, "not recorded of my-own; the published weights of dinov2-s: Apache-2.0"),
        ("videomae-s (vit_s.pth)", False, "not recorded of vit_s.pth; the published weights of videomae-s: CC-BY-NC-4.0"),
        ("tiny (embedded)", False, "that of this package"),
        ("position (table:0)", False, "no weights: a control"),
        ("hf (google/vit-base)", False, "not recorded"),
        ("dinov2-s (random:0)", True, "none: its weights were random and never trained"),
    ],
)
def test_a_licence_is_that_of_published_weights_or_not_recorded(teacher, random, said):
    assert teacher_licence(ORIGIN.model_copy(update={"teacher": teacher, "random_teacher": random})) == said


def test_every_teacher_that_is_published_has_its_licence():
    for known in CATALOGUE.values():
        origin = ORIGIN.model_copy(update={"teacher": f"{known.name} ({known.hub_id})"})
        assert (teacher_licence(origin) == known.licence) == (known.hub_id is not None or known.family in ("tiny", "position", "none"))


def test_datasets_of_readers_and_of_cards_are_the_same():
    published = {name for name, kind in READERS.built_in.items() if issubclass(kind, FileDataset) and kind.release.page}
    assert {name for name, known in DATASETS.items() if known.page} == published
    for name in published:
        assert (READERS.find(name).release.title, READERS.find(name).release.page) == (DATASETS[name].title, DATASETS[name].page)


def lines_of(card: str, *names: str) -> list[str]:
    return [line for line in card.splitlines() if line.startswith(tuple(f"| {name} |" for name in names))]


def test_what_is_not_recorded_is_said_to_be_that():
    own = ORIGIN.model_copy(update={"dataset": "folder", "teacher": "hf (vit)"})
    assert lines_of(write_card(config(origin=own), ENCODER, [], None), "dataset", "its release", "its licence") == [
        "| dataset | folder |",
        "| its release | not recorded |",
        "| its licence | not recorded |",
        "| its licence | not recorded |",
    ]
    made = ORIGIN.model_copy(update={"dataset": "synthetic", "teacher": "tiny (embedded)"})
    assert lines_of(write_card(config(origin=made), ENCODER, [], None), "its release", "its licence") == [
        "| its release | bodies that this package generates |",
        "| its licence | that of this package |",
        "| its licence | that of this package |",
    ]


def test_objectives_without_a_teacher_have_none():
    card = write_card(config(SETTINGS.model_copy(update={"objective": ObjectiveSettings(name="vicreg")})), ENCODER, [], None)
    assert lines_of(card, "teacher") == ["| teacher | none: vicreg learns from points alone |"]
    assert "dinov2" not in card


def test_a_random_teacher_is_named_loudly():
    card = write_card(config(origin=ORIGIN.model_copy(update={"random_teacher": True})), ENCODER, [], None)
    assert card.count("**WARNING: the teacher dinov2-s (facebook/dinov2-small) had random weights: its targets mean nothing,") == 1
    assert "WARNING" not in write_card(config(), ENCODER, [], None)


def test_what_earlier_runs_learned_from_is_told_too():
    first = InitialWeights(
        sha256="cd" * 32, step=70, settings=SETTINGS, origin=ORIGIN.model_copy(update={"dataset": "hoi4d", "teacher": "vjepa2-l (x)"})
    )
    card = write_card(config(SETTINGS.model_copy(update={"initial": first})), ENCODER, [], None)
    before, after = card.split("It began with an encoder that had learned from:")
    assert lines_of(before, "dataset", "steps done") == ["| dataset | ntu_rgbd |", "| steps done | 1,200 |"]
    assert lines_of(after, "dataset", "steps done", "its release") == [
        "| dataset | hoi4d |",
        "| its release | HOI4D, https://hoi4d.github.io |",
        "| steps done | 70 |",
    ]


@pytest.mark.parametrize("name", ["a | b", "x\n---\nlicense: mit", "<script>", "[link](http://host)", "`code`", "**bold**"])
def test_names_of_other_people_are_text(name):
    origin = ORIGIN.model_copy(update={"dataset": name, "teacher": f"hf ({name})"})
    card = write_card(config(origin=origin), ENCODER, [], None)
    assert name not in card
    assert ModelCard(card).data.license is None
    assert all(line.count("|") == 3 for line in card.splitlines() if line.startswith("| "))


def test_clips_of_every_frame():
    clips = SETTINGS.clips.model_copy(update={"stride": 1})
    assert "16 frames x 1,024 points, every frame." in write_card(config(SETTINGS.model_copy(update={"clips": clips})), ENCODER, [], None)
