"""One trial, read from top to bottom: batches, steps, milestones."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sweeper.core.config import TrialConfig
from sweeper.core.derive import derive
from sweeper.core.errors import InputError, LifecycleError
from sweeper.core.measurement import Measurement, StepPoint
from sweeper.core.milestones import Milestones
from trials import checkpoint
from trials.checkpoint import Progress, Writer, work_key
from trials.data import TokenSet
from trials.engines.base import Engine
from trials.evaluation import Evaluation
from trials.feed import Feed, StepData
from trials.flops import peak_flops, speed, train_flops
from trials.gang import Gang
from trials.memory import free_memory, peak_bytes
from trials.oom import MemoryGuard, MemoryShortage, no_way_out, size_of, smaller_limit
from trials.order import Order
from trials.packing import Layout
from trials.probe import place_of
from trials.schedule import learning_rate
from trials.signals import Signals, StepTotals


class Trial:
    """A trial in progress on one rank. All ranks of the gang make the same calls."""

    def __init__(
        self,
        config: TrialConfig,
        milestones: Milestones | None,
        *,
        train: TokenSet,
        evaluation: Evaluation | None,
        engine: Engine,
        gang: Gang,
        layout: Layout | None = None,
    ) -> None:
        """Begin a trial with an engine that was reset for it.

        Args:
            milestones: where to measure; None means evenly, as often as the config says.
            evaluation: what else is measured there.
            layout: overrides how the engine lays out samples, for comparison.
        """
        self._config = config
        order = Order(config, train)
        self._derived = derive(config.train, order.samples_per_pass)
        self._milestones = milestones or Milestones.even(self._derived.planned_samples, config.eval.milestones)
        self._evaluation = evaluation
        self._engine = engine
        self._gang = gang
        self._place = partial(
            place_of,
            batch_size=config.train.batch_size,
            milestones=self._milestones,
            total_steps=self._derived.total_steps,
        )
        self._feed = Feed(train, order, config.train.batch_size, gang, layout or engine.layout, self._place)
        peak = peak_flops(gang.device_name, config.train.precision)
        self._peak_flops = None if peak is None else peak * gang.world_size
        self._flops = 0.0
        self._guard = MemoryGuard(gang)
        self._max_tokens = config.train.max_tokens_per_rank
        self._signals = Signals(
            batch_size=config.train.batch_size,
            # Half of an average's weight lies on the samples since about the milestone before.
            half_life_samples=self._milestones.last / len(self._milestones.samples),
        )
        self._step = 0
        self._tokens_seen = 0
        self._train_s = 0.0
        self._eval_s = 0.0

    @property
    def is_over(self) -> bool:
        return self._step >= self._derived.total_steps

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self._step

    @property
    def milestone(self) -> int:
        """Milestones passed."""
        return self._milestones.passed(self.samples_seen)

    @property
    def samples_seen(self) -> int:
        return self._step * self._config.train.batch_size

    @property
    def flops(self) -> float:
        """Model FLOPs of the steps taken by this object."""
        return self._flops

    @property
    def max_tokens_per_rank(self) -> int:
        """The config's, or less where that did not fit into memory."""
        return self._max_tokens

    @property
    def state_bytes(self) -> int:
        """What a checkpoint takes, all ranks together, at most."""
        return self._engine.state_bytes + checkpoint.BYTES_BESIDE_PER_RANK * self._gang.world_size

    def save(self, folder: Path, writer: Writer, *, keep: int | None = None) -> None:
        """Begin to write a checkpoint; to be called between two ``advance``."""
        limit = self._config.train.max_tokens_per_rank
        progress = Progress(
            work=work_key(self._config),
            milestones=self._milestones.samples,
            step=self._step,
            tokens_seen=self._tokens_seen,
            train_s=self._train_s,
            eval_s=self._eval_s,
            signals={name: tuple(values) for name, values in self._signals.state.items()},
            max_tokens_per_rank=self._max_tokens if self._max_tokens < limit else None,
        )
        writer.save(folder, progress, self._engine.save, keep=keep)

    def load(self, folder: Path) -> None:
        """Go on where a checkpoint was written; raises as ``checkpoint.load`` does."""
        progress = checkpoint.load(folder, work_key(self._config), self._gang, self._engine.load)
        if progress.milestones != self._milestones.samples:
            raise InputError("is a checkpoint with other milestones", where=str(folder), got=progress.milestones)
        self._step, self._tokens_seen = progress.step, progress.tokens_seen
        self._train_s, self._eval_s = progress.train_s, progress.eval_s
        self._signals.restore(progress.signals)
        # Other micro-batches would give other roundings.
        self._max_tokens = min(self._max_tokens, progress.max_tokens_per_rank or self._max_tokens)

    def advance(self) -> Measurement:
        """Train to the first optimizer step at or past the next milestone, and measure there.

        Raises:
            LifecycleError: the trial is over.
            OutOfMemory: not even one sample per micro-batch fits into memory.
        """
        if self.is_over:
            raise LifecycleError("the trial has reached its end")
        first_step, first_token, waited_s = self._step, self._tokens_seen, self._feed.waited_s
        first_flops = self._flops
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        target = self._milestones.next_after(self.samples_seen) or self._milestones.last
        points: list[StepPoint] = []
        loss_tokens: list[int] = []
        while not points or (self.samples_seen < target and not self.is_over):
            point, tokens = self.take_step()
            points.append(point)
            loss_tokens.append(tokens)
        scores = self._evaluate(first_step)
        peak = torch.tensor([peak_bytes(self._gang.device)], device=self._gang.device)
        window_s = sum(point.seconds for point in points)
        return Measurement(
            milestone=self.milestone,
            samples_seen=self.samples_seen,
            tokens_seen=self._tokens_seen,
            step=self._step,
            warmup_done=first_step >= self._derived.warmup_steps,
            train_loss=float(np.average([point.loss for point in points], weights=loss_tokens)),
            grad_norm=float(np.mean([point.grad_norm for point in points])),
            scores=scores,
            train_s=self._train_s,
            eval_s=self._eval_s,
            peak_memory_bytes=int(self._gang.max(peak)),
            is_last=self.is_over,
            series=tuple(points),
            extra={
                **self._signals.at_milestone(),
                "tokens_per_s": (self._tokens_seen - first_token) / window_s,
                "data_wait_share": (self._feed.waited_s - waited_s) / window_s,
                "cpu_cores": (time.process_time() - began_cpu_s) / (time.perf_counter() - began_s),
                **speed(self._flops - first_flops, window_s, self._peak_flops),
                # Lower than the config's where that did not fit into memory.
                "max_tokens_per_rank": self._max_tokens,
            },
        )

    def take_step(self) -> tuple[StepPoint, int]:
        """Take one optimizer step; return what it was, and the loss tokens of its batch. Measures no held-out score."""
        began = time.perf_counter()
        train = self._config.train
        rate = learning_rate(
            train.schedule,
            train.learning_rate,
            step=self._step,
            total_steps=self._derived.total_steps,
            warmup_steps=self._derived.warmup_steps,
        )
        data = self._feed.take(self._step, self._max_tokens)
        loss_tokens = int(data.loss_counts.sum())
        loss_sum = self._accumulate(data, loss_tokens)
        with no_way_out("the optimizer step"):
            totals = self._engine.step(
                loss_sum,
                learning_rate=rate,
                clip_norm=train.clip_norm,
                measure_update=self._place(self._step).is_last,
            )
        self._tokens_seen += int(data.lengths.sum())
        self._flops += train_flops(self._engine.work, data.lengths - 1)
        self._step += 1
        if not self.is_over:
            self._feed.prepare(self._step, self._max_tokens)
        # The only wait for the device in a step.
        numbers = StepTotals.of(totals.tolist())
        loss = numbers.loss_sum / loss_tokens
        self._signals.add(loss, numbers)
        seconds = time.perf_counter() - began
        self._train_s += seconds
        point = StepPoint(
            step=self._step,
            samples_seen=self.samples_seen,
            tokens_seen=self._tokens_seen,
            loss=loss,
            grad_norm=numbers.grad_norm,
            learning_rate=rate,
            seconds=seconds,
        )
        return point, loss_tokens

    def _accumulate(self, data: StepData, loss_tokens: int) -> Tensor:
        """Run the effective batch through the engine and return this rank's summed loss.

        Where a micro-batch does not fit into memory, all of it is done again in smaller ones.
        """
        while True:
            self._engine.probe.begin(data.is_probed)
            loss_sum = torch.zeros((), dtype=torch.float64, device=self._gang.device)
            try:
                for index, ranks in enumerate(data.rows):
                    is_last = index + 1 == len(data.rows)
                    work = partial(self._backward, data, index, loss_tokens=loss_tokens, is_last=is_last)
                    loss_sum += self._guard.run(size_of(ranks, data.loss_counts, index=index, step=self._step), work)
                return loss_sum
            except MemoryShortage:
                pass
            self._max_tokens = smaller_limit(self._max_tokens, ranks)
            free_memory(self._gang.device)
            with no_way_out("making room after a micro-batch did not fit"):
                self._engine.recover(self._step)
            data = self._feed.take(self._step, self._max_tokens)

    def _backward(self, data: StepData, index: int, *, loss_tokens: int, is_last: bool) -> Tensor:
        batch = self._feed.micro_batch(data, index)
        return self._engine.backward(batch, loss_tokens=loss_tokens, is_last=is_last)

    def _evaluate(self, first_step: int) -> dict[str, float]:
        if self._evaluation is None:
            return {}
        began = time.perf_counter()
        metrics = self._config.eval.metrics_between(
            self._milestones.passed(first_step * self._config.train.batch_size),
            self.milestone,
            is_last=self.is_over,
        )
        scores = self._evaluation.scores(self._engine, metrics)
        self._eval_s += time.perf_counter() - began
        return scores
