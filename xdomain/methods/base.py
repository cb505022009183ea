"""Base class of all methods: named optimisers, one count per batch, phases, clipping, accumulation, schedules."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from xdomain.batch import Batch, Sample, to_uint8
from xdomain.data.base import BaseDataModule, Split
from xdomain.data.sampler import derive_seed
from xdomain.errors import SettingError, UserError, choice, did_you_mean, refuse
from xdomain.features.helpers import Helper
from xdomain.optim import GANAdam, advance, carried_over, go_on, settings_of, settings_of_schedule
from xdomain.running.loop import LossWatch
from xdomain.running.resume import planned_batches


class Phase(NamedTuple):
    """A stretch of training.

    Attributes:
        name: for logs and messages.
        steps: length in batches; None lasts until the end of training.
        optimizers: names of the optimisers that may step in it; None allows all.
    """

    name: str
    steps: int | None = None
    optimizers: tuple[str, ...] | None = None


class StepCounter(pl.Callback):
    """Ends every training batch of a :class:`Method`: counts it and steps the schedules.

    It is the first of all callbacks, so that the others see the count of finished batches. A method whose phases all
    have a length trains to the end of the last one, unless the trainer's ``max_steps`` says otherwise.

    It also saves what the updates need to resume from a checkpoint. Learning rates, betas, schedules and all other
    settings come from the config; the state comes from the checkpoint: moments, the number of updates, and gradients
    that are still being accumulated.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}
        self._waiting: dict[str, Any] | None = None
        self._fault: SettingError | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        callbacks.insert(0, callbacks.pop(callbacks.index(self)))
        assert isinstance(pl_module, Method)
        lengths = [phase.steps for phase in pl_module.build_phases()]
        if stage == "fit" and trainer.max_steps == -1 and None not in lengths:
            trainer.fit_loop.epoch_loop.max_steps = sum(length or 0 for length in lengths)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert isinstance(pl_module, Method)
        checkpoint["updates"] = {"count": pl_module.updates, "asked_for": pl_module.asked_for}
        if pl_module.between_updates:
            waiting = {name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}
            settings = {"scale": pl_module.gradient_scale, "accumulate": pl_module.accumulate}
            checkpoint["accumulated"] = {"gradients": waiting, **settings}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._loaded, self._waiting = checkpoint, checkpoint.get("accumulated")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring optimisers and schedules to the state of the checkpoint, which the trainer then loads."""
        assert isinstance(pl_module, Method)
        pl_module.check_schedules()
        checkpoint, self._loaded = self._loaded, {}
        if not checkpoint:
            pl_module.updates = 0
            return
        if "optimizer_states" not in checkpoint or "lr_schedulers" not in checkpoint:
            raise UserError("the checkpoint holds weights only: begin a new training with them by --weights.")
        pl_module.continue_updates(checkpoint)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Restore the accumulated gradients: the trainer has just zeroed all gradients before its first batch."""
        if self._fault is not None:
            raise self._fault
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        assert isinstance(pl_module, Method)
        if waiting.get("accumulate", pl_module.accumulate) != pl_module.accumulate:
            rank_zero_info("accumulate has changed: the gradients that waited for more batches are left out.")
            return
        pl_module.gradient_scale = waiting["scale"]
        for name, parameter in pl_module.named_parameters():
            if (gradient := waiting["gradients"].get(name)) is not None:
                parameter.grad = gradient.to(parameter.device)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Method)
        pl_module.end_batch()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            try:
                pl_module.step_plateaus()
            except SettingError as error:
                self._fault = error  # raised before the next batch, so that the training so far is saved first


class Method(pl.LightningModule):
    """Base of all methods.

    A method builds its networks in ``__init__``, names its optimisers in :meth:`build_optimizers`, and writes its
    updates in ``training_step`` through :meth:`step`. ``trainer.global_step`` is the number of finished batches,
    however many optimisers stepped in them.

    Args:
        domains: names of the domains, source first; set by the data module.
        channels: image channels of every domain; set by the data module.
        image_size: height and width in pixels, the longest side where they vary; set by the data module.
        shapes: height and width of the images of every domain (for clips: frames, height and width); set by the data
            module. By default squares of ``image_size``.
        optimizer: builds an optimiser from parameters.
        scheduler: builds a learning-rate schedule from an optimiser; stepped once per update of the weights in phases
            in which the optimiser may step, so that every phase with optimisers of its own has a schedule of its own.
            ``ReduceLROnPlateau`` is stepped after every validation instead, with the metric named by its own
            ``monitor`` or else by the trainer's.
        clip: largest gradient norm per optimiser, applied to unscaled gradients; None disables clipping.
        accumulate: batches whose gradients are averaged into one update of the weights.

    Attributes:
        updates: number of updates of the weights so far: batches divided by ``accumulate``.
        asked_for: maps the name of an optimiser to its settings and those of its schedule, as text.
        gradient_scale: loss scale of the gradients that are being accumulated.
        any_size: whether images of any size and aspect ratio can be translated; other methods take squares of
            ``image_size``.
        full_size: whether these are translated as they are; otherwise images that are larger than those of the training
            are shrunk to ``image_size``.
        transductive: whether only the images of the training can be translated.
        edits: whether a translation is the image with a change, so that the change can be enlarged for large images.
        begins_with_weights: whether a new training can begin with the weights of another.
    """

    any_size = False
    full_size = False
    transductive = False
    edits = False
    begins_with_weights = True

    def __init__(
        self,
        domains: Sequence[str],
        channels: Sequence[int],
        image_size: int,
        shapes: Sequence[tuple[int, ...]] | None = None,
        optimizer: OptimizerCallable = GANAdam,
        scheduler: LRSchedulerCallable | None = None,
        clip: float | None = None,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if accumulate < 1:
            refuse(self, "accumulate", accumulate, "give a number of batches of at least 1.")
        self.domains, self.channels, self.image_size = tuple(domains), tuple(channels), image_size
        self.shapes = tuple(tuple(shape) for shape in shapes or [(image_size, image_size)] * len(self.domains))
        self.optimizer, self.scheduler, self.clip, self.accumulate = optimizer, scheduler, clip, accumulate
        self.losses = LossWatch()
        self._index: dict[str, int] = {}
        self._stepped: set[str] = set()
        self.updates, self.gradient_scale = 0, 1.0
        self.asked_for: dict[str, str] = {}
        self.save_hyperparameters()
        for name in [name for name, value in self.hparams.items() if not is_plain(value)]:
            self.hparams.pop(name)  # built in Python, not from a config: it could not be loaded safely

    # What a method implements

    def build_optimizers(self) -> dict[str, Optimizer]:
        """The optimisers by name."""
        raise NotImplementedError(f"{type(self).__name__} must implement build_optimizers()")

    def build_schedules(self, optimizers: dict[str, Optimizer]) -> dict[str, LRScheduler]:
        """The learning-rate schedules of all optimisers by name, or none; by default those of ``scheduler``."""
        if self.scheduler is None:
            return {}
        return {name: self._schedule(optimizer) for name, optimizer in optimizers.items()}

    def build_phases(self) -> tuple[Phase, ...]:
        """The phases of training, in order."""
        return (Phase("train"),)

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Pairs (source, target) of domains that the method translates, the usual one first; may be empty."""
        return ()

    @property
    def tasks(self) -> dict[str, Callable[..., Any]]:
        """Tasks that the trained method offers, by name.

        Tasks that take ``images`` belong to ``xdomain translate``, the others to ``xdomain sample``. ``source`` and
        ``target`` are domains, ``guide`` and ``mask`` are images; every other argument becomes an option of the command
        with the same name. Write the names as literals: the command's help is built from them without importing torch.
        """
        return {"transfer": self.translate} if self.directions else {}

    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        """Translate images from one domain to another.

        Args:
            images: float [N, C, H, W] in [-1, 1], with the channels of the source domain.
            source: name of the domain that the images come from.
            target: name of the domain to translate into.

        Returns:
            float [N, C', H, W] in [-1, 1], with the channels of the target domain.
        """
        raise NotImplementedError(f"{type(self).__name__} does not translate")

    def not_exported(self, task: str) -> str:
        """Why a task cannot be exported as one program of an image, if it cannot; see :mod:`xdomain.inference.export`.

        It follows "is not exported: ", and may name the way out.
        """
        return "it sees every image at its own size, in steps that depend on the size" if self.any_size else ""

    def direction(
        self, task: str, source: str | None = None, target: str | None = None, guided: bool = False
    ) -> tuple[str, str]:
        """Source and target of a task: those that are given, completed by the first of :attr:`directions` that fits.

        Args:
            task: name of the task.
            source: name of the domain of the images, if given.
            target: name of the domain to translate into, if given.
            guided: whether there are guides.

        Raises:
            SettingError: for a domain or a direction that the method does not know.
        """
        self.check_domains(source, target)
        fitting = [pair for pair in self.directions if source in (None, pair[0]) and target in (None, pair[1])]
        if not fitting:
            option, name = ("source", source) if target is None else ("target", target)
            ways = choice(f"from {a} to {b}" for a, b in self.directions)
            refuse(self, option, name, f", but this {type(self).__name__} translates {ways}.")
        return fitting[0]

    def check_domains(self, source: str | None, target: str | None) -> None:
        """Raise a SettingError if a given name is not a domain."""
        for option, name in (("source", source), ("target", target)):
            if name is not None and name not in self.domains:
                hint = did_you_mean(name, self.domains, f": give {choice(self.domains)}.")
                refuse(self, option, name, f", which is no domain of this {type(self).__name__}{hint}")

    # Interface to the trainer

    @property
    def data(self) -> BaseDataModule:
        """The data module of the running trainer."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, BaseDataModule):
            raise UserError(f"{type(self).__name__} needs one of xdomain's data modules: give the trainer one.")
        return data

    @property
    def helpers(self) -> tuple[str, ...]:
        """Names of the modules that are helper networks: their weights are not trained by this method."""
        return tuple(name for name, module in self.named_modules() if isinstance(module, Helper))

    # Logging

    @property
    def logs_now(self) -> bool:
        """Whether the loggers write the values of this batch: in training every ``log_every_n_steps`` batches."""
        trainer = self.trainer
        if not trainer.training or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return True
        return trainer._logger_connector.should_update_logs

    def log(self, name: str, value: Any, *args: Any, **options: Any) -> None:
        """Log a value only where it is used: by the loggers, in an average over the epoch, or in a progress bar."""
        shown = options.get("prog_bar") and self.trainer.progress_bar_callback is not None
        if self.logs_now or shown or options.get("on_epoch"):
            super().log(name, value, *args, **options)

    def summed(self, losses: dict[str, Tensor], weights: dict[str, float] | None = None) -> Tensor:
        """The sum of losses, times their weights if they have some; each is logged without its weight."""
        self.log_dict({name: loss.detach() for name, loss in losses.items()})
        factors = weights or {}
        return torch.stack([factors.get(name, 1.0) * loss for name, loss in losses.items()]).sum()

    # Random numbers

    def separate_noise(self) -> None:
        """Let every rank draw random numbers of its own; for ``on_train_start``. Resumed runs have them already."""
        if self.trainer.world_size > 1 and self.trainer.global_step == 0:
            torch.manual_seed(derive_seed(torch.initial_seed(), self.global_rank))

    # Phases

    def phase_at(self, step: int) -> Phase:
        """The phase that batch number ``step`` (from 0) belongs to; all later batches belong to the last phase."""
        phases = self.build_phases()
        for phase in phases:
            if phase.steps is None or step < phase.steps:
                return phase
            step -= phase.steps
        return phases[-1]

    @property
    def phase(self) -> Phase:
        """The phase of the current batch."""
        return self.phase_at(self.trainer.global_step)

    # Updates

    def configure_callbacks(self) -> list[pl.Callback]:
        return [StepCounter()]

    def configure_optimizers(self) -> Any:
        optimizers = self.build_optimizers()
        self._index = {name: i for i, name in enumerate(optimizers)}
        self.asked_for = {name: settings_of(optimizer) for name, optimizer in optimizers.items()}
        for optimizer in optimizers.values():
            # Under float16 the trainer must unscale gradients, not a fused step: clipping must see the true ones.
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        if not (schedules := self.build_schedules(optimizers)):
            return list(optimizers.values())
        for name, schedule in schedules.items():
            self.asked_for[name] += f" {settings_of_schedule(schedule)} {self.hparams.get('scheduler')}"
        return list(optimizers.values()), list(schedules.values())

    def _schedule(self, optimizer: Optimizer) -> LRScheduler:
        assert self.scheduler is not None
        try:
            schedule = self.scheduler(optimizer)
        except ValueError as error:
            raise SettingError(self, "scheduler", f"does not fit {type(optimizer).__name__}: {error}") from error
        if isinstance(schedule, ReduceLROnPlateau) and not hasattr(schedule, "monitor"):
            monitor = schedule.monitor = getattr(self.trainer, "monitor", None)  # type: ignore[attr-defined]
            if monitor is None:
                reason = ", which needs a metric: set trainer.monitor, or give pytorch_lightning.cli.ReduceLROnPlateau"
                refuse(self, "scheduler", "ReduceLROnPlateau", f"{reason} with a monitor of its own.")
            if schedule.mode != (mode := getattr(self.trainer, "monitor_mode", schedule.mode)):
                reason = f" with the mode {schedule.mode}, but trainer.monitor_mode is {mode}"
                refuse(self, "scheduler", "ReduceLROnPlateau", f",{reason}: make them equal.")
        return schedule

    def check_schedules(self) -> None:
        """Refuse schedules that do not last to the end of training, or of the phases in which they are stepped.

        Raises:
            SettingError: for a schedule that ends earlier, or that follows a validation metric when there is no
                validation.
        """
        for name, schedule in self._schedules().items():
            if isinstance(schedule, ReduceLROnPlateau) and not self.trainer.enable_validation:
                reason = ", which follows a metric of the validation, but there is none: set trainer.limit_val_batches."
                refuse(self, "scheduler", "ReduceLROnPlateau", reason)
            if (total := getattr(schedule, "total_steps", None)) is None:
                continue
            batches = planned_batches(self.trainer)
            wanted = batches - sum(end - begin for begin, end in self._idle(name, batches))
            if wanted > total * self.accumulate:
                updates = f"{wanted // self.accumulate:.0f} updates of the weights"
                of = f"OneCycleLR with {total} steps, but there are {updates}"
                way = "give it a larger total_steps, or set trainer.max_steps."
                refuse(self, "scheduler", of, way)

    def _schedules(self) -> dict[str, LRScheduler]:
        """The schedules by the names of their optimisers; none without ``scheduler``."""
        configs = self.trainer.lr_scheduler_configs
        return {name: config.scheduler for name, config in zip(self._index, configs, strict=False)}

    def _stepped_schedules(self) -> Iterator[LRScheduler]:
        """The schedules whose optimisers may step in the phase of the batch that has just ended."""
        may_step = self.phase_at(self.trainer.global_step - 1).optimizers
        return (s for name, s in self._schedules().items() if may_step is None or name in may_step)

    def _idle(self, name: str, batches: float) -> Iterator[tuple[float, float]]:
        """First and last (exclusive) of those of the first ``batches`` in which the named optimiser may not step."""
        phases, begin = self.build_phases(), 0.0
        for phase in phases:
            end = batches if phase.steps is None or phase is phases[-1] else min(begin + phase.steps, batches)
            if phase.optimizers is not None and name not in phase.optimizers:
                yield begin, end
            begin = end

    def updates_of(self, name: str, batches: int) -> int:
        """How many of the updates so far, in ``batches`` batches, fell into phases in which the optimiser may step."""
        idle = sum(end // self.accumulate - begin // self.accumulate for begin, end in self._idle(name, batches))
        return self.updates - int(idle)

    def continue_updates(self, checkpoint: dict[str, Any]) -> None:
        """Prepare, inside a checkpoint, the states that this training's optimisers and schedules load from it.

        The current settings apply. If they equal those of the checkpoint, its states are loaded unchanged. Otherwise
        optimisers keep their moments, and schedules are advanced as if they had been used from the start. Each state
        that cannot be resumed is reported in one line.
        """
        saved = checkpoint.get("updates", {})
        accumulate = checkpoint.get("hyper_parameters", {}).get("accumulate", 1)
        self.updates = saved.get("count", checkpoint["global_step"] // accumulate)
        asked_for = saved.get("asked_for") or dict.fromkeys(self._index)  # older checkpoints do not say
        states = dict(zip(asked_for, checkpoint["optimizer_states"], strict=False))
        progress = dict(zip(asked_for, checkpoint["lr_schedulers"], strict=False))
        for name in states.keys() - self._index.keys():
            rank_zero_info(f"optimiser {name} of the checkpoint is no longer there: its state is left out.")
        checkpoint["optimizer_states"], checkpoint["lr_schedulers"] = [], []
        schedules = self._schedules()
        for name in self._index:
            optimizer, schedule = self.named_optimizer(name), schedules.get(name)
            same = asked_for.get(name) == self.asked_for[name]
            if schedule is not None:
                if not same:
                    updates = self.updates_of(name, checkpoint["global_step"])
                    _catch_up(schedule, updates, progress.get(name), states.get(name))
                checkpoint["lr_schedulers"].append(progress[name] if same else schedule.state_dict())
            state = carried_over(optimizer, states[name], same) if name in states else None
            if state is None:
                kind = type(optimizer).__name__
                rank_zero_info(f"optimiser {name} ({kind}) begins anew: the checkpoint holds no state that fits it.")
            checkpoint["optimizer_states"].append(state or optimizer.state_dict())

    def named_optimizer(self, name: str) -> Optimizer:
        """The optimiser of that name."""
        optimizers = self.optimizers()
        chosen = (optimizers if isinstance(optimizers, list) else [optimizers])[self._index[name]]
        return chosen.optimizer if isinstance(chosen, LightningOptimizer) else chosen

    @contextmanager
    def updating(self, name: str) -> Iterator[Optimizer]:
        """Freeze all parameters that the named optimiser does not own, and yield the optimiser.

        Graphs built inside compute no gradients for the frozen weights, which saves time; graphs built before still do.
        """
        optimizer = self.named_optimizer(name)
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield optimizer
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def step(self, name: str, loss: Callable[[], Tensor]) -> Tensor:
        """One update by the named optimiser.

        Args:
            name: name of the optimiser.
            loss: computes the scalar to minimise. It is called while all other weights are frozen, so that no weight
                gradients are computed for a rival network that it passes through.

        Returns:
            the loss, detached.
        """
        phase = self.phase
        if phase.optimizers is not None and name not in phase.optimizers:
            raise RuntimeError(f"optimiser {name!r} must not step in the phase {phase.name!r}")
        if self.accumulate > 1 and name in self._stepped:
            reason = f", but optimiser {name!r} steps more than once in a batch"
            refuse(self, "accumulate", self.accumulate, f"{reason}: set it to 1 and give larger batches instead.")
        self._stepped.add(name)
        position = self.trainer.global_step % self.accumulate
        with self.updating(name) as optimizer:
            value = loss()
            self.losses.note(name, self.trainer.global_step, value)
            if position == 0:
                optimizer.zero_grad()
            self._match_scale(optimizer, first=position == 0)
            self.manual_backward(value / self.accumulate)
            if position == self.accumulate - 1:
                # Through the strategy, not LightningOptimizer: global_step counts batches (see end_batch).
                self.trainer.strategy.optimizer_step(optimizer, closure=_no_closure, model=self)
        return value.detach()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradients here: under AMP they have just been unscaled."""
        if self.clip is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip)

    def end_batch(self) -> None:
        """Count the batch, whichever optimisers stepped, and step the schedules after an update of the weights."""
        self._stepped.clear()
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()
        if not self.between_updates:
            self.updates += 1
            for schedule in self._stepped_schedules():
                if not isinstance(schedule, ReduceLROnPlateau):
                    schedule.step()

    def step_plateaus(self) -> None:
        """Step the schedules that follow a validation metric; all ranks use the value of rank 0."""
        for schedule in self._stepped_schedules():
            if isinstance(schedule, ReduceLROnPlateau):
                name: str = schedule.monitor  # type: ignore[attr-defined]
                metrics = self.trainer.callback_metrics
                if name not in metrics:
                    known = ", ".join(sorted(metrics)) or "none"
                    reason = f", which follows {name}, but the validation gives {known}"
                    refuse(self, "scheduler", "ReduceLROnPlateau", f"{reason}: set another monitor.")
                schedule.step(self.trainer.strategy.broadcast(float(metrics[name])))

    def _match_scale(self, optimizer: Optimizer, first: bool) -> None:
        """Rescale accumulated float16 gradients to the current loss scale: it may have changed between two batches."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is None or self.accumulate == 1:
            return
        scale = float(scaler.get_scale())
        if not first and scale != self.gradient_scale:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.mul_(scale / self.gradient_scale)
        self.gradient_scale = scale

    # Between updates

    @property
    def between_updates(self) -> bool:
        """Whether gradients of an unfinished update are accumulated."""
        return self.trainer.global_step % self.accumulate != 0

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients of an unfinished update."""
        if not self.between_updates:
            super().on_validation_model_zero_grad()

    # Evaluation: metrics and image grids are callbacks that call translate()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch to evaluation mode, and back afterwards."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    @property
    def watched(self) -> tuple[Split, ...]:
        """Parts whose batches a step or hook of the subclass uses; those of other parts need not be loaded."""
        stages: dict[Split, str] = {"val": "validation", "test": "test"}

        def looks(stage: str) -> bool:
            names = f"{stage}_step", f"on_{stage}_batch_start", f"on_{stage}_batch_end"
            return any(getattr(type(self), name) is not getattr(Method, name) for name in names)

        return tuple(split for split, stage in stages.items() if looks(stage))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing to do here; callbacks evaluate the batch."""

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing to do here; callbacks evaluate the batch."""

    def predict_step(self, batch: Batch, batch_idx: int) -> Sample | None:
        """The translated source images of the batch, ``uint8``."""
        if (sample := batch.get("a")) is None:
            return None
        if not self.directions:
            raise UserError(f"{type(self).__name__} does not translate: there is nothing to predict.")
        return sample._replace(image=to_uint8(self.predicted(sample)))

    def predicted(self, sample: Sample) -> Tensor:
        """Translations of source images in the first of :attr:`directions`."""
        return self.translate(sample.image, *self.directions[0])


def _catch_up(
    schedule: LRScheduler, updates: int, progress: dict[str, Any] | None, state: dict[str, Any] | None
) -> None:
    """Advance a new schedule to the current update of its optimiser."""
    if not isinstance(schedule, ReduceLROnPlateau):
        advance(schedule, updates)
    elif progress is not None and state is not None and "num_bad_epochs" in progress:
        go_on(schedule, progress, state["param_groups"])


def _no_closure() -> None:
    return None


def is_plain(value: Any) -> bool:
    """Whether a value survives ``torch.load(weights_only=True)``."""
    if isinstance(value, dict):
        return all(is_plain(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return all(is_plain(v) for v in value)
    return value is None or type(value) in (bool, int, float, str)
