"""Pre-training as a plain loop: a generator of step records. Logging, saving and progress belong to its caller.

Lightning Fabric runs device, precision and data parallelism. A run that resumes from a checkpoint repeats the loss curve of one that never
stopped, on a CPU bit for bit.
"""

import logging
import math
import re
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import AdamW

from cross4d_cache.errors import CheckpointError, SettingsError
from cross4d_cache.record import Record, compare
from cross4d_cache.types import Precision
from cross4d_train.across import Devices
from cross4d_train.checkpoint import Checkpoint, CheckpointRecord, load_encoder, load_weights
from cross4d_train.clips import EpochPlan, select_sequences
from cross4d_train.cluster import find_environment, without_lightning_options
from cross4d_train.conditioning import gather_statistics
from cross4d_train.data import Batch, BatchLoader
from cross4d_train.dataset import ClipDataset
from cross4d_train.determinism import deterministic, prepare
from cross4d_train.first_weights import first_encoder
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.objectives.objective import TargetSpec
from cross4d_train.settings import Origin, RunSettings, TrainingSettings
from cross4d_train.soundness import check_any_target, why_not_finite
from cross4d_train.training_module import Sealed, TrainingModule

# Fabric advises TensorFloat-32 on a GPU, which coordinates do not survive, and every process of a recipe says so again.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


class StepRecord(Record):
    """One finished step; `step` and `epoch` count from 0. `waiting` is the share of its time spent on the loader.

    `scalars` are what the objective reports beside its loss.
    """

    step: int
    epoch: int
    loss: float
    scalars: dict[str, float]
    learning_rate: float
    clips_per_second: float
    waiting: float


FABRIC: dict[Precision, Literal["bf16-mixed", "32-true"]] = {"bfloat16": "bf16-mixed", "float32": "32-true"}
"""What Fabric calls precisions; bfloat16 is autocast, weights stay float32."""


def own_precision(device_type: str) -> Precision:
    """What students compute in on a kind of device where nobody says."""
    return "bfloat16" if device_type == "cuda" else "float32"


def make_fabric(device: str, num_devices: int = 1, precision: Precision | None = None, *, num_nodes: int = 1) -> Fabric:
    """Fabric for the device a user names, as in stage one; `auto` takes CUDA where there is one. None of `precision` is the device's own,
    bfloat16 on CUDA and float32 on a CPU. `num_devices` are those of each of the nodes.

    Raises:
        SettingsError: there is no such device, or there are not as many, or processes were started for another number of them.
    """
    name = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", device)
    if name is None:
        raise SettingsError(f"unknown device {device!r}", expected="one of: auto, cpu, cuda, cuda:N", hint="choose one with `device`")
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    on_cuda, index = available > 0 and device != "cpu", name[1]
    if device.startswith("cuda") and not on_cuda:
        raise SettingsError(
            f"device {device!r}, though no CUDA device is available",
            expected="a GPU that the driver and this build of torch can use",
            hint="choose `device` cpu, or fix the driver",
        )
    if index is not None and int(index) >= available:
        raise SettingsError(f"there is no device {device!r}", expected=f"cuda:N with N below {available}", hint="choose one with `device`")
    if num_devices > 1 and (index is not None or (on_cuda and num_devices > available)):
        raise SettingsError(
            f"`num_devices` {num_devices} with `device` {device}",
            expected=f"at most {1 if index is not None else available}, as many as that names",
            hint="lower `num_devices`, or choose `device` cuda for all GPUs",
        )
    environment = find_environment(num_devices, num_nodes)
    torch.set_float32_matmul_precision("highest")  # NVIDIA's containers set another one by TORCH_ALLOW_TF32_CUBLAS_OVERRIDE
    try:
        with without_lightning_options():
            return Fabric(
                accelerator="cuda" if on_cuda else "cpu",
                devices=num_devices if index is None else [int(index)],
                num_nodes=num_nodes,
                strategy="ddp" if num_devices * num_nodes > 1 else "auto",
                precision=FABRIC[precision or own_precision("cuda" if on_cuda else "cpu")],
                plugins=[environment],
            )
    except (RuntimeError, ValueError) as error:
        raise SettingsError(f"cannot use {num_devices} devices: {error}", hint="use `num_devices` 1, or start it as a command") from error


def learning_rate(settings: TrainingSettings, step: int, num_steps: int) -> float:
    """Linear warm-up, then half a cosine down to 0."""
    warmup = max(1, round(settings.warmup * num_steps))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * (1 + math.cos(math.pi * (step - warmup) / (num_steps - warmup))) / 2


class Pretraining:
    """A pre-training run on one store, from its beginning or from a checkpoint. `initial` is the file of `settings.initial`, which only
    the beginning needs.

    Raises:
        SettingsError: settings that cannot work with this store.
        CheckpointError: a checkpoint that other settings or another store made, or another `initial` than the settings say.
    """

    def __init__(
        self,
        store: Path | str,
        settings: RunSettings,
        fabric: Fabric,
        *,
        num_workers: int = 0,
        checkpoint: Checkpoint | None = None,
        initial: Path | None = None,
    ) -> None:
        asked = settings.training.precision
        if asked is not None and fabric.strategy.precision.precision != FABRIC[asked]:
            raise SettingsError(
                f"`training.precision` {asked} with a fabric of {fabric.strategy.precision.precision}",
                expected="one that was made for it",
                hint="make it by `make_fabric(device, precision=...)`",
            )
        if settings.training.deterministic:
            prepare(fabric.device)
        self.settings, self.fabric, self.num_workers = settings, fabric, num_workers
        self.devices = Devices(rank=fabric.global_rank, count=fabric.world_size)
        self.dataset = ClipDataset(store, settings.clips)
        manifest = self.dataset.cache.manifest
        self.origin = Origin.of(manifest)
        self.plan = self._make_plan(0 if checkpoint is None else checkpoint.record.step)
        described = f"{settings.model_dump_json()} {self.origin.model_dump_json()} {self.plan.first_step}"
        self.devices.check_agreement(described, fabric.device)
        if checkpoint is None:
            self.encoder = first_encoder(settings, initial)
        else:
            self._check(checkpoint.record)
            self.encoder = load_encoder(checkpoint)
        self.objective = build_objective(settings.objective, self.encoder, TargetSpec.of(manifest), settings.training.seed)
        if isinstance(self.objective, Distillation):
            check_any_target(self.dataset.cache, self.plan.chosen, settings.objective.name)
        if checkpoint is not None:
            load_weights(self.objective, checkpoint.part("objective"), "objective")
        elif isinstance(self.objective, Distillation) and not self.objective.conditioning.is_identity and fabric.is_global_zero:
            # Once; `setup` gives every device what the first one has.
            statistics = gather_statistics(self.dataset.cache, self.plan.chosen, self.objective.source)
            self.objective.conditioning.fit(statistics)
        student = TrainingModule(self.encoder, self.objective, self.devices)
        trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
        adamw = AdamW(trained, lr=settings.training.learning_rate, weight_decay=settings.training.weight_decay)
        self._student, self._optimizer = fabric.setup(student, adamw)
        if checkpoint is not None:
            _restore_optimizer(adamw, checkpoint.part("optimizer"))
        self.step = self.plan.first_step
        self._stop_asked = False
        self.stopped = False
        """Whether the last step that was finished is the last one because `stop` was called, in this or another process of the run."""

    def _make_plan(self, first_step: int) -> EpochPlan:
        training, cache = self.settings.training, self.dataset.cache
        chosen = select_sequences(cache.sequences, cache.manifest.dataset.protocols, protocol=training.protocol, side=training.side)
        plan = EpochPlan(
            clips=self.settings.clips,
            sequences=cache.sequences,
            chosen=chosen,
            clips_per_sequence=training.clips_per_sequence,
            batch_size=training.batch_size,
            seed=training.seed,
            num_epochs=training.num_epochs,
            first_step=first_step,
            rank=self.devices.rank,
            world_size=self.devices.count,
        )
        if plan.steps_per_epoch == 0 or training.batch_size < plan.world_size:
            raise SettingsError(
                f"{len(chosen)} sequences in batches of {training.batch_size} for {plan.world_size} devices",
                expected="a clip for every device",
                hint="use fewer devices or a larger `training.batch_size`",
            )
        return plan

    def _check(self, record: CheckpointRecord) -> None:
        differences = self.settings.differences(record.settings, record.step)
        # Not the teacher's label: the fingerprint knows its weights by their hash, wherever they were found.
        mine, theirs = (origin.model_dump(mode="json", exclude={"teacher"}) for origin in (self.origin, record.origin))
        differences += [f"cache {line}" for line in compare(mine, theirs)]
        if differences:
            raise CheckpointError(
                "the checkpoint was made with other settings:",
                details=differences,
                hint="resume with the same settings and cache, or start anew with another `out`",
            )

    def steps(self) -> Iterator[StepRecord]:
        """Train to the end, or until `stop` is heeded; each finished step is yielded once its weights are updated.

        Raises:
            CacheFormatError: the store has targets or points that are not finite.
            SettingsError: the loss is no longer finite, or `training.deterministic` asks for what the device cannot do; the weights are
                still those of the step before.
        """
        on_cuda = self.fabric.device.type == "cuda"
        batches = BatchLoader(self.dataset, num_workers=self.num_workers, pin_memory=on_cuda).load(self.plan)
        started = time.perf_counter()
        for batch in batches:
            loaded = time.perf_counter()
            rate = learning_rate(self.settings.training, self.step, self._num_steps)
            with deterministic(self.settings.training.deterministic):
                loss, scalars = self._train_step(batch, rate)
            finished = time.perf_counter()
            record = StepRecord(
                step=self.step,
                epoch=self.step // self.plan.steps_per_epoch,
                loss=loss,
                scalars=scalars,
                learning_rate=rate,
                clips_per_second=self.plan.num_clips(self.step) / (finished - started),
                waiting=(loaded - started) / (finished - started),
            )
            self.step += 1
            yield record
            if self.stopped:
                return
            started = time.perf_counter()

    def stop(self) -> None:
        """Ask for an end after the step that is under way, in any process of the run; all of them end after the same step.

        May be called by a signal handler or another thread.
        """
        self._stop_asked = True

    @property
    def _num_steps(self) -> int:
        """How many steps the run has, at the step that is under way, to be."""
        return self.plan.steps_per_epoch * self.settings.training.length_at(self.step)

    def _train_step(self, batch: Batch, rate: float) -> tuple[float, dict[str, float]]:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._student.train()
        batch = self.devices.whole(batch.to(self.fabric.device), self.plan.num_clips(self.step))
        loss, scalars = self._student(Sealed(batch.augmented(self.settings.augmentation)))
        self.fabric.backward(loss)
        asked = loss.new_tensor(float(self._stop_asked))
        reduced = self.fabric.all_reduce(torch.stack([loss.detach(), *scalars.values(), asked]), reduce_op="mean")
        assert isinstance(reduced, torch.Tensor)
        value, *others, share_asked = reduced.tolist()
        if not math.isfinite(value):
            raise why_not_finite(value, self.step, batch, self.dataset.cache)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.objective.finish_step(self.encoder, (self.step + 1) / self._num_steps)
        self.stopped = share_asked > 0
        return value, dict(zip(scalars, others, strict=True))

    @property
    def ends_epoch(self) -> bool:
        """Whether the last step that was finished ended an epoch."""
        return self.step > 0 and self.step % self.plan.steps_per_epoch == 0

    def checkpoint(self) -> Checkpoint:
        """The state after the last step that was finished."""
        record = CheckpointRecord(
            settings=self.settings,
            origin=self.origin,
            encoder_config=self.encoder.config.model_dump(mode="json"),
            step=self.step,
            epoch=self.step // self.plan.steps_per_epoch,
            num_steps=self.plan.num_steps,
            software={name: version(name) for name in ("torch", "numpy", "lightning-fabric")},
        )
        tensors = {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        tensors |= {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        return Checkpoint(record=record, tensors=tensors)


def _restore_optimizer(optimizer: AdamW, tensors: dict[str, Tensor]) -> None:
    """Put the saved moments back.

    Raises:
        CheckpointError: there are none, or they do not fit the parameters.
    """
    if not tensors:
        raise CheckpointError(
            "the checkpoint has no state of the optimizer, as students have that `cross4d-train export` wrote",
            expected="the checkpoint of the run itself",
            hint="resume the run itself, or begin a new one with `initial`",
        )
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index) if index.isdecimal() else -1, {})[name] = value
    shapes = [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]
    fits = set(state) == set(range(len(shapes))) and all(
        state[index].keys() == {"step", "exp_avg", "exp_avg_sq"}
        and state[index]["exp_avg"].shape == state[index]["exp_avg_sq"].shape == shape
        and all(value.is_floating_point() and bool(value.isfinite().all()) for value in state[index].values())
        and bool((state[index]["exp_avg_sq"] >= 0).all() and (state[index]["step"] >= 0).all())
        for index, shape in enumerate(shapes)
    )
    if not fits:
        raise CheckpointError("the optimizer state of the checkpoint does not fit the encoder", hint="start anew with another `out`")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
