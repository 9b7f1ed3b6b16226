"""The command `cross4d-train`.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from cross4d_cache.errors import user_errors
from cross4d_cache.usage import examples, make_command_line
from cross4d_train.cli import encode, evaluate, export, pretrain
from cross4d_train.cli.options import OPTIONS

GIVEN = "--checkpoint FILE --cache STORE"

EXAMPLES: dict[str, tuple[str, ...]] = {
    "pretrain": (
        "cross4d-train pretrain --cache STORE --out run",
        "cross4d-train pretrain --cache STORE --out run --resume --epochs 200",
    ),
    "encoders": ("cross4d-train encoders", "cross4d-train encoders --frames 16 --points 1024"),
    "probe": (
        f"cross4d-train probe {GIVEN}",
        "cross4d-train probe --checkpoint random --size small --cache STORE",
    ),
    "knn": (f"cross4d-train knn {GIVEN}",),
    "finetune": (f"cross4d-train finetune {GIVEN} --fraction 0.1",),
    "segment": (f"cross4d-train segment {GIVEN}", f"cross4d-train segment {GIVEN} --end-to-end"),
    "segment-actions": (f"cross4d-train segment-actions {GIVEN}",),
    "robustness": (f"cross4d-train robustness {GIVEN}",),
    "correspondence": (f"cross4d-train correspondence {GIVEN} --gap 8",),
    "encode": (f"cross4d-train encode {GIVEN} --out features",),
    "transfer": ("cross4d-train transfer --checkpoint FILE --cache STORE --cache OTHER",),
    "export": ("cross4d-train export run student", "cross4d-train export run student --results probe.json"),
}
"""Lines to type, at the end of the help of every command."""

app = make_command_line("Pre-train an encoder of point cloud sequences on a store that cross4d-cache built, and evaluate it.")

for name, command in {**pretrain.COMMANDS, **evaluate.COMMANDS, **encode.COMMANDS, **export.COMMANDS}.items():
    app.command(name, epilog=examples(*EXAMPLES[name]))(command)


def main() -> None:
    """Entry point: user errors become one message and exit code 2."""
    with user_errors(OPTIONS):
        app()
