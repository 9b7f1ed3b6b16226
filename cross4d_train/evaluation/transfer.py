"""Transfer between datasets: the probe of every encoder on every store (tables 5 and 12 of the paper)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_cache.types import Address
from cross4d_cache.work import Work
from cross4d_train.evaluation.encoder_source import UNTRAINED, recorded_places
from cross4d_train.evaluation.evaluate import EvaluationRequest, evaluate, prepare
from cross4d_train.evaluation.probe import LinearProbe, ProbeResult
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings


class TransferResult(Record):
    """A probe for every checkpoint (a row) and every store (a column), in the order given."""

    checkpoints: tuple[Address, ...]
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


class TransferRequest(Record):
    """Probes of several encoders on several stores; `encoder` and `options` are as in a single evaluation."""

    checkpoints: tuple[str, ...]
    stores: tuple[str, ...]
    encoder: EncoderSettings | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    def probe(self, checkpoint: str, store: str, options: dict[str, Any]) -> EvaluationRequest:
        """The probe of one of the encoders on one of the stores."""
        encoder = self.encoder if checkpoint == UNTRAINED else None
        return EvaluationRequest(evaluation=LinearProbe.name, checkpoint=checkpoint, store=store, encoder=encoder, options=options)


def transfer(request: TransferRequest, resources: Resources) -> Work[TransferResult]:
    """Probe every encoder on every store.

    Raises:
        SettingsError: encoders would be judged on a store by different clips or protocols.
        Cross4DError: whatever else the user has to fix.
    """
    alike = {store: _column_options(request, store) for store in request.stores}
    probes: list[list[ProbeResult]] = []
    for checkpoint in request.checkpoints:
        probes.append([])
        for store in request.stores:
            result = yield from evaluate(request.probe(checkpoint, store, alike[store]), resources)
            assert isinstance(result, ProbeResult)
            probes[-1].append(result)
    return transfer_result(request.checkpoints, request.stores, probes)


def _column_options(request: TransferRequest, store: str) -> dict[str, Any]:
    """Options with which every encoder is judged on a store by the same clips and protocol; the untrained one by those of the others."""
    trained = [checkpoint for checkpoint in request.checkpoints if checkpoint != UNTRAINED]
    settled = {name: prepare(request.probe(name, store, request.options)).settings for name in trained}
    ways = {name: f"clips of {settings.clips}, protocol {settings.protocol}" for name, settings in settled.items()}
    if len(set(ways.values())) > 1:
        raise SettingsError(
            f"encoders that would be judged on {store} in different ways:",
            details=[f"{name}: {ways[name]}" for name in ways],
            expected="one way for a column",
            hint="say which: `clips.num_frames`, `clips.num_points`, `clips.stride`, `protocol`",
        )
    if not settled:
        return request.options
    first = next(iter(settled.values()))
    clips = {f"clips.{name}": value for name, value in first.clips.model_dump().items()}
    return {**clips, "protocol": first.protocol, **request.options}


def transfer_result(checkpoints: Sequence[str], caches: Sequence[str], probes: Sequence[Sequence[ProbeResult]]) -> TransferResult:
    """The matrix of finished probes."""
    return TransferResult(
        checkpoints=recorded_places(checkpoints), caches=recorded_places(caches), probes=tuple(tuple(row) for row in probes)
    )
