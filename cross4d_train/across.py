"""A step on several devices. Each reads and encodes its share of the clips; then all have all clips and all tokens, and take one loss.

So the loss is that of one device with the whole batch, whatever an objective makes of it: means over visible tokens, spreads over clips,
contrasts between them. An objective knows nothing of devices. What is done twice is what comes after the encoder, heads and predictors.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float32, Shaped
from torch import Tensor, distributed, nn
from torch.nn import functional

from cross4d_cache.errors import SettingsError
from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder, Tokens


@dataclass(frozen=True, kw_only=True)
class Devices:
    """The place of this process among those of a run. Clip `n` of a batch belongs to device `n % count`.

    Shares are equally long: where there are not enough clips, the last ones of some devices are repeated ones, which count for nothing.
    """

    rank: int = 0
    count: int = 1

    def check_agreement(self, described: str, device: torch.device) -> None:
        """See that all devices are in the same run, of which each has a description.

        Raises:
            SettingsError: they are not.
        """
        if self.count == 1:
            return
        mine = int.from_bytes(hashlib.sha256(described.encode()).digest()[:7])
        if len({int(share) for share in self._shares(torch.tensor([mine], device=device))}) > 1:
            raise SettingsError(
                f"the {self.count} processes of the run do not find the same settings, store and checkpoint",
                expected="the same command for all, with `store` and `out` on a file system that all nodes share",
                hint="look at both places from each node",
            )

    def whole(self, batch: Batch, num_clips: int) -> Batch:
        """The batch of which every device has its share, in its order. Labels are not for pre-training, and left out.

        Every device takes the key of the batch, which is that of its first clip.
        """
        if self.count == 1:
            return batch
        counts = [int(count) for count in self._shares(torch.tensor([len(batch.features)], device=batch.features.device))]
        rows = torch.where(batch.rows >= 0, batch.rows + sum(counts[: self.rank]), batch.rows)
        key, *_ = self._shares(torch.tensor([batch.key], device=batch.points.device))
        return replace(
            batch,
            key=int(key),
            points=self._join(batch.points, num_clips),
            rows=self._join(rows, num_clips),
            features=self._lengthen_and_join(batch.features, counts),
            patches=self._lengthen_and_join(batch.patches.unsqueeze(1), counts).squeeze(1),
            frame_features=self._join(batch.frame_features, num_clips),
            actions=self._join(batch.actions, num_clips),
            sequences=self._join(batch.sequences, num_clips),
            part_labels=None,
            surface_ids=None,
            frame_actions=None,
        )

    @contextmanager
    def encoding_together(self, module: nn.Module) -> Iterator[None]:
        """Within, each encoder in a module encodes the clips of this device alone and has the tokens of all others from them."""
        encoders = [part for part in module.modules() if isinstance(part, Encoder)] if self.count > 1 else []
        within = {id(part) for encoder in encoders for part in encoder.modules() if part is not encoder}
        outermost = [encoder for encoder in encoders if id(encoder) not in within]
        for encoder in outermost:
            encoder.forward = _Together(encoder.forward, self)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for encoder in outermost:
                del encoder.forward

    def share(self, clips: Float32[Tensor, "batch frame point 3"]) -> Float32[Tensor, "own frame point 3"]:
        """The clips of this device."""
        own = torch.arange(self.rank, self.count * -(-len(clips) // self.count), self.count, device=clips.device)
        return clips[own.clamp(max=len(clips) - 1)]

    def _shares(self, own: Tensor) -> list[Tensor]:
        shares = [torch.empty_like(own) for _ in range(self.count)]
        distributed.all_gather(shares, own.contiguous())
        return shares

    def _join(self, own: Shaped[Tensor, "own ..."], num_clips: int) -> Shaped[Tensor, "batch ..."]:
        return in_turn(self._shares(own), num_clips)

    def _lengthen_and_join(self, own: Shaped[Tensor, "own channel"], counts: list[int]) -> Shaped[Tensor, "row channel"]:
        """Rows of all devices one after the other; they travel padded, for the shares of a gathering are equally large."""
        shares = self._shares(functional.pad(own, (0, 0, 0, max(counts) - len(own))))
        return torch.cat([share[:count] for share, count in zip(shares, counts, strict=True)])


def in_turn(shares: list[Shaped[Tensor, "own ..."]], num_clips: int) -> Shaped[Tensor, "batch ..."]:
    """The first item of every share, then the second ones, and so on; `num_clips` of them, without those that only fill up."""
    return torch.stack(shares, dim=1).flatten(0, 1)[:num_clips]


class _Together:
    """The forward pass of an encoder on the clips of this device, and the tokens of the whole batch."""

    def __init__(self, forward: Any, devices: Devices) -> None:
        self._forward, self._devices = forward, devices

    def __call__(self, points: Float32[Tensor, "batch frame point 3"]) -> Tokens:
        own: Tokens = self._forward(self._devices.share(points))
        features: Tensor = _Gather.apply(own.features, self._devices, len(points))  # type: ignore[no-untyped-call]
        centroids, frame = (self._devices._join(tensor, len(points)) for tensor in (own.centroids, own.frame))
        return Tokens(features=features, centroids=centroids, frame=frame)


class _Gather(torch.autograd.Function):
    """The tokens of all devices. Every device takes the same loss of them, and gradients of weights are averaged over devices; so the
    gradient of its own tokens, times the number of devices, gives on average the gradient of the loss.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, devices: Devices, num_clips: int) -> Tensor:
        ctx.devices, ctx.length = devices, len(own)
        return devices._join(own, num_clips)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        devices, (gradient,) = ctx.devices, gradients
        own = gradient[devices.rank :: devices.count] * devices.count
        return functional.pad(own, (0, 0) * (own.ndim - 1) + (0, ctx.length - len(own))), None, None
