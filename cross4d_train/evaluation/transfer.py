"""Transfer between datasets: the probe of every encoder on every store (tables 5 and 12 of the paper)."""

from collections.abc import Sequence
from pathlib import Path

from cross4d_cache.record import Record
from cross4d_cache.types import Address
from cross4d_train.evaluation.encoder_source import recorded_places
from cross4d_train.evaluation.probe import ProbeResult


class TransferResult(Record):
    """A probe for every checkpoint (a row) and every store (a column), in the order given."""

    checkpoints: tuple[str, ...]
    caches: tuple[Address, ...]
    probes: tuple[tuple[ProbeResult, ...], ...]

    def describe(self) -> str:
        """Video accuracy without and with standardisation; sources down, targets across."""
        columns = [f"{row.evaluation.dataset} ({Path(cache).name})" for row, cache in zip(self.probes[0], self.caches, strict=True)]
        width = max(22, *(len(column) + 2 for column in columns))
        label = max(16, *(len(checkpoint) + 2 for checkpoint in self.checkpoints))
        lines = [
            "video accuracy of linear probes, standardisation off / on",
            " " * label + "".join(f"{column:>{width}}" for column in columns),
        ]
        for checkpoint, row in zip(self.checkpoints, self.probes, strict=True):
            cells = [f"{probe.raw.video_accuracy:.3f} / {probe.standardised.video_accuracy:.3f}" for probe in row]
            lines.append(f"{checkpoint:{label}}" + "".join(f"{cell:>{width}}" for cell in cells))
        return "\n".join(lines)


def transfer_result(checkpoints: Sequence[str], caches: Sequence[str], probes: Sequence[Sequence[ProbeResult]]) -> TransferResult:
    """The matrix of finished probes."""
    return TransferResult(
        checkpoints=recorded_places(checkpoints), caches=recorded_places(caches), probes=tuple(tuple(row) for row in probes)
    )
