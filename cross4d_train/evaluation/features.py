"""Frozen features: one vector a clip, the mean of its tokens, for evenly spaced clips of every sequence."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from cross4d_train.clips import even_requests
from cross4d_train.data import ClipDataset, load_batches
from cross4d_train.encoders.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """Pooled features of some videos (cached sequences); all have equally many windows."""

    features: Float32[Tensor, "video window channel"]
    actions: Int64[Tensor, " video"]
    ids: tuple[str, ...]


def extract_features(
    encoder: Encoder,
    dataset: ClipDataset,
    chosen: Sequence[int],
    *,
    num_windows: int,
    seed: int,
    batch_size: int,
    device: torch.device,
    num_workers: int = 0,
) -> Iterator[VideoFeatures]:
    """Pooled features of the chosen sequences, batch by batch; `join_features` makes them one.

    Raises:
        RuntimeError: the encoder changed under way, so it was not frozen.
    """
    sequences = dataset.cache.sequences
    requests = even_requests(dataset.clips, sequences, chosen, num_windows=num_windows, seed=seed)
    step = max(1, batch_size // num_windows) * num_windows  # whole videos
    batches = [requests[start : start + step] for start in range(0, len(requests), step)]
    encoder = encoder.to(device).eval()
    before = weights_digest(encoder)
    for batch in load_batches(dataset, batches, num_workers=num_workers, pin_memory=device.type == "cuda"):
        with torch.no_grad():
            pooled = encoder(batch.points.to(device)).features.float().mean(dim=1).cpu()
        videos = batch.sequences[::num_windows]
        yield VideoFeatures(
            features=pooled.unflatten(0, (-1, num_windows)),
            actions=batch.actions[::num_windows],
            ids=tuple(sequences[index].id for index in videos.tolist()),
        )
    if weights_digest(encoder) != before:
        raise RuntimeError("the encoder's weights or buffers changed during the extraction of frozen features")


def join_features(parts: Sequence[VideoFeatures]) -> VideoFeatures:
    """The videos of several batches as one."""
    return VideoFeatures(
        features=torch.cat([part.features for part in parts]),
        actions=torch.cat([part.actions for part in parts]),
        ids=tuple(id for part in parts for id in part.ids),
    )


def weights_digest(encoder: Encoder) -> str:
    """Hash of every parameter and buffer."""
    digest = hashlib.sha256()
    for name, value in [*encoder.named_parameters(), *encoder.named_buffers()]:
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
