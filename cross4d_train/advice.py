"""What is faster than a run that takes long: on a CPU a smaller encoder, timed on the spot, or a GPU."""

import time
from collections.abc import Iterator

import torch

from cross4d_cache.errors import SettingsError
from cross4d_cache.progress import duration
from cross4d_cache.record import Record
from cross4d_cache.work import Advice
from cross4d_train.encoders import configure_encoder, find_config, outline_encoder
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.settings import RunSettings

SMALLER = ("small", "mini")
"""Sizes that students are compared in on a CPU; every encoder of this package has them."""


def on_device(device: torch.device, settings: RunSettings | None = None) -> Advice:
    """What follows `about 14 h`; of a run that is free to choose, with smaller sizes and about how long it takes with them."""

    def advise(seconds: float) -> str:
        if device.type == "cuda":
            return " on this GPU"
        sizes = [] if settings is None else [f"{size}: about {duration(seconds * share)}" for size, share in smaller_sizes(settings)]
        smaller = f"a smaller `encoder.size` ({', '.join(sizes)}) or " if sizes else ""
        return f" on this CPU; {smaller}{'`device` cuda' if torch.cuda.is_available() else 'a GPU'} is faster"

    return advise


def smaller_sizes(settings: RunSettings) -> Iterator[tuple[str, float]]:
    """Smaller sizes of the encoder of a run, each with its share of the time of a clip, forward and backward."""
    chosen = settings.encoder
    kind, _ = find_config(chosen.name, chosen.size, chosen.options)
    weights = {name: _num_weights(kind, config) for name, config in kind.named_sizes().items()}
    whole = None
    for name in SMALLER:
        if name in weights and weights[name] < weights[chosen.size]:
            whole = whole or _seconds_of_clip(settings, chosen.size)
            try:
                yield name, _seconds_of_clip(settings, name) / whole
            except SettingsError:
                continue  # one that cannot take such clips


def _num_weights(kind: type[Encoder], config: Record) -> int:
    return sum(item.numel() for item in outline_encoder(kind, config).parameters())


def _seconds_of_clip(settings: RunSettings, size: str) -> float:
    encoder, clips = configure_encoder(*find_config(settings.encoder.name, size, settings.encoder.options)), settings.clips
    # Bodies of about two metres: how many neighbours there are within a radius decides little of the time.
    points = torch.rand(1, clips.num_frames, clips.num_points, 3, generator=torch.Generator().manual_seed(0)) * 2
    started = time.perf_counter()
    encoder(points).features.sum().backward()
    return time.perf_counter() - started
