"""One run of a comparison: train a student, or not, and judge its frozen features."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Literal

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from cross4d_cache.errors import user_errors
from cross4d_cache.record import Record
from cross4d_train.clips import ClipSettings, even_requests, select_sequences
from cross4d_train.conditioning import Conditioning
from cross4d_train.data import BatchLoader, in_batches
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.features import VideoFeatures
from cross4d_train.evaluation.finetune import TuningScore, TuningSettings, finetune, tuning_score
from cross4d_train.evaluation.held_out import HeldOutLoss, held_out_loss
from cross4d_train.evaluation.linear import HeadSettings, fit_head
from cross4d_train.evaluation.part_probe import PartScore, PartSettings, TokenFeatures, extract_tokens, join_tokens, score_parts
from cross4d_train.evaluation.probe import LinearProbe, ProbeResult, ProbeSettings
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.objectives.dense import Dense
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from cross4d_train.token_targets import match_points, point_targets

CPU = torch.device("cpu")
BATCH = 16

Features = Literal["encoder", "targets"]


class Budget(Record):
    """What every row of a table has in common: student, clips, steps, and how it is judged.

    The store's protocol decides which videos train the student, the heads, and test them. `finetune` is None to leave that out.
    """

    encoder: EncoderSettings
    clips: ClipSettings
    num_epochs: int
    clips_per_sequence: int
    protocol: str
    num_windows: int
    head: HeadSettings = HeadSettings()
    parts: bool
    finetune: TuningSettings | None


class Job(Record):
    """One run: a row, on the stores of one data seed, with one seed of the student and one learning rate.

    `fingerprint` is the store's, so that a store that was built anew is not taken for the one before.
    """

    row: str
    data: str
    seed: int
    store: Path
    fingerprint: str
    objective: ObjectiveSettings | None
    features: Features
    learning_rate: float
    budget: Budget
    finetuned: bool


class Outcome(Record):
    """What a run gave. `action` is the video accuracy of linear probes without and with standardisation."""

    job: Job
    action_raw: float
    action: float
    parts: PartScore | None
    held_out: HeldOutLoss | None
    finetune: TuningScore | None
    training_loss: float | None
    seconds: float

    @property
    def scores(self) -> dict[str, float]:
        """Every number of the table by its column."""
        scores = {"action raw": self.action_raw, "action std": self.action}
        if self.parts is not None:
            scores["parts all"] = self.parts.all
            scores |= {f"parts {budget}": value for budget, value in self.parts.budgets.items()}
        if self.finetune is not None:
            scores["fine-tuned"] = self.finetune.video_accuracy
        return scores


def run_job(job: Job) -> Outcome:
    """Train, if there is an objective, and judge."""
    with user_errors():
        return _judge_encoder(job) if job.features == "encoder" else _judge_targets(job)


def _judge_encoder(job: Job) -> Outcome:
    started = time.perf_counter()
    budget = job.budget
    encoder: Encoder = build_encoder(budget.encoder.name, budget.encoder.size, job.seed)
    dataset = ClipDataset(job.store, budget.clips, labels=budget.parts)
    train, test = _sides(dataset, job)
    held_out, loss = None, None
    if job.objective is not None:
        settings = RunSettings(
            encoder=budget.encoder,
            objective=job.objective,
            clips=budget.clips,
            training=TrainingSettings(
                num_epochs=budget.num_epochs,
                clips_per_sequence=budget.clips_per_sequence,
                learning_rate=job.learning_rate,
                seed=job.seed,
                side="train",
                protocol=budget.protocol,
            ),
        )
        training = Pretraining(job.store, settings, make_fabric("cpu"))
        losses = [record.loss for record in training.steps()]
        loss = mean(losses[-training.plan.steps_per_epoch :])
        encoder = training.encoder
        if isinstance(training.objective, Dense):
            held_out = held_out_loss(encoder, training.objective, dataset, train=train, test=test, seed=job.seed)
    probe = _probe(encoder, dataset, job)
    parts = _parts(encoder, dataset, train, test, job) if budget.parts else None
    tuned = None
    if job.finetuned and budget.finetune is not None:
        chosen = budget.finetune.model_copy(update={"seed": job.seed})
        tuned = tuning_score(list(finetune(encoder, BatchLoader(dataset), train=train, test=test, settings=chosen)), chosen)
    return Outcome(
        job=job,
        action_raw=probe.raw.video_accuracy,
        action=probe.standardised.video_accuracy,
        parts=parts,
        held_out=held_out,
        finetune=tuned,
        training_loss=loss,
        seconds=time.perf_counter() - started,
    )


def _probe(encoder: Encoder, dataset: ClipDataset, job: Job) -> ProbeResult:
    budget = job.budget
    source = EncoderSource(
        label=job.row,
        encoder=encoder,
        settings=budget.encoder,
        clips=budget.clips,
        protocol=budget.protocol,
        side=None,
        origin=None,
        step=0,
    )
    head = budget.head.model_copy(update={"seed": job.seed})
    settings = ProbeSettings(clips=budget.clips, num_windows=budget.num_windows, seed=job.seed, protocol=budget.protocol, head=head)
    probe = LinearProbe(source, dataset, settings)
    for _ in probe.run(Resources(device="cpu")):
        pass
    return probe.result()


def _parts(encoder: Encoder, dataset: ClipDataset, train: Sequence[int], test: Sequence[int], job: Job) -> PartScore:
    settings = PartSettings(clips=job.budget.clips, seed=job.seed)
    sides = [join_tokens(list(extract_tokens(encoder, dataset, side, settings, batch_size=BATCH, device=CPU))) for side in (train, test)]
    return score_parts(sides[0], sides[1], settings)


def _judge_targets(job: Job) -> Outcome:
    """What the targets of the tokens' points tell by themselves. A part is asked only of tokens that have a target."""
    started = time.perf_counter()
    budget = job.budget
    dataset = ClipDataset(job.store, budget.clips, labels=budget.parts)
    videos, tokens = [], []
    for chosen in _sides(dataset, job):
        pooled = [
            targets.sum(dim=1) / visible.sum(dim=1, keepdim=True).clamp(min=1)
            for targets, visible, _ in _token_targets(dataset, chosen, budget.num_windows, job)
        ]
        infos = [dataset.cache.sequences[index] for index in chosen]
        videos.append(
            VideoFeatures(
                features=torch.cat(pooled).unflatten(0, (-1, budget.num_windows)),
                actions=torch.tensor([info.action for info in infos]),
                ids=tuple(info.id for info in infos),
            )
        )
        if budget.parts:
            made = _token_targets(dataset, chosen, PartSettings(clips=budget.clips).num_windows, job)
            tokens.append(join_tokens([TokenFeatures(features=targets[visible], parts=parts[visible]) for targets, visible, parts in made]))
    head = budget.head.model_copy(update={"seed": job.seed})
    raw, standardised = (fit_head(videos[0], videos[1], head, standardise=standardise) for standardise in (False, True))
    return Outcome(
        job=job,
        action_raw=raw.video_accuracy,
        action=standardised.video_accuracy,
        parts=score_parts(tokens[0], tokens[1], PartSettings(clips=budget.clips, seed=job.seed)) if budget.parts else None,
        held_out=None,
        finetune=None,
        training_loss=None,
        seconds=time.perf_counter() - started,
    )


def _token_targets(
    dataset: ClipDataset, chosen: Sequence[int], num_windows: int, job: Job
) -> Iterator[tuple[Float32[Tensor, "batch token channel"], Bool[Tensor, "batch token"], Int64[Tensor, "batch token"]]]:
    """Stored targets, whether there is one, and parts (0 without labels) of the tokens that an encoder would make."""
    encoder = build_encoder(job.budget.encoder.name, job.budget.encoder.size, job.seed)
    conditioning = Conditioning("none", target_channels=dataset.cache.manifest.projection.channels, num_patches=None)
    requests = even_requests(dataset.clips, dataset.cache.sequences, chosen, num_windows=num_windows, seed=job.seed)
    step = max(1, BATCH // num_windows) * num_windows
    for batch in BatchLoader(dataset).load(in_batches(requests, step)):
        with torch.no_grad():
            tokens = encoder(batch.points)
        points = match_points(tokens, batch.points)
        targets, visible = point_targets(batch, tokens.frame, points, conditioning)
        labels = torch.zeros(batch.points.shape[:3], dtype=torch.int64) if batch.part_labels is None else batch.part_labels
        yield targets, visible, labels[torch.arange(len(batch)).unsqueeze(1), tokens.frame, points]


def _sides(dataset: ClipDataset, job: Job) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sequences to train on and to test on."""
    sequences, protocols = dataset.cache.sequences, dataset.cache.manifest.dataset.protocols
    return (
        select_sequences(sequences, protocols, protocol=job.budget.protocol, side="train"),
        select_sequences(sequences, protocols, protocol=job.budget.protocol, side="test"),
    )
