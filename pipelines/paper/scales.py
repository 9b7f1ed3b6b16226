"""How much each scale computes: `small` fits a laptop's CPU, `paper` is what the paper does on one GPU."""

from cross4d_train.clips import ClipSettings
from cross4d_train.evaluation.finetune import TuningSettings
from cross4d_train.recipes import recipe_for
from cross4d_train.settings import EncoderSettings
from pipelines.paper.benchmark import Scale

PAPER_TEACHERS = ("dinov2", "dinov3", "vjepa2", "videomae")


def small(*, stride: int, num_epochs: int = 16, clips_per_sequence: int = 4, num_windows: int = 5) -> Scale:
    """The mini student on clips of 8 frames x 256 points."""
    return Scale(
        encoder=EncoderSettings(size="mini"),
        large=_large("mini-plain", "mini", "mini-fine"),
        clips=ClipSettings(num_frames=8, num_points=256, stride=stride),
        num_epochs=num_epochs,
        clips_per_sequence=clips_per_sequence,
        learning_rate=1e-3,
        num_windows=num_windows,
        tuning_epochs=16,
        segment_epochs=10,
        conditioning="center",
        image_sizes={},
        render_sizes={"hf": (144,)},
        gaps=(3, 7),
    )


def paper(dataset: str) -> Scale:
    """Section 2 of the method, with the clips and epochs of the dataset."""
    recipe = recipe_for(dataset)
    return Scale(
        encoder=EncoderSettings(),
        large=_large("paper", "paper-norm", "paper-fine"),
        clips=ClipSettings(num_frames=recipe.num_frames, num_points=recipe.num_points, stride=recipe.stride),
        num_epochs=recipe.num_epochs,
        clips_per_sequence=1,
        learning_rate=5e-4,
        num_windows=5,
        tuning_epochs=TuningSettings().num_epochs,
        segment_epochs=20,
        conditioning="none",
        image_sizes={"dinov2": 126, "position": 72},  # 9 x 9 patches of 14 and of 8 px
        render_sizes={"dinov2": (98, 168)},
        gaps=(8, 15),
    )


def _large(*sizes: str) -> tuple[EncoderSettings, EncoderSettings, EncoderSettings]:
    plain, norm, fine = (EncoderSettings(name="p4transformer", size=size) for size in sizes)
    return plain, norm, fine
