"""A training under way: its steps, what it measures, and what it keeps to go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyterrier_llmrank.errors import ModelError
from pyterrier_llmrank.seeds import derived

from . import checkpoint
from .checkpoint import Checkpoint
from .data import Batches, TrainingList
from .learner import Learner
from .report import report
from .settings import Training
from .workers import Workers

Measure = Callable[[], float]
"""Looks at the live network, which is in evaluation mode meanwhile; higher is better."""


class Trained(NamedTuple):
    """What a training came to.

    Attributes:
        steps: Those that were made.
        history: A row a step: step (from 1), loss, rate, and measure where it was measured after this step. Where there
            is a measure, a row of step 0 comes first.
        best: The step whose weights were saved.
    """

    steps: int
    history: list[dict[str, float]]
    best: int


class Run:
    """A training under way."""

    def __init__(
        self,
        learner: Learner,
        lists: Sequence[TrainingList],
        path: Path,
        training: Training,
        measure: Measure | None,
        workers: Workers,
    ) -> None:
        self.learner, self.network, self.lists, self.path = learner, learner.network, lists, path
        self.training, self.measure, self.workers = training, measure, workers
        self.batches = Batches(len(lists), training.batch_size, training.seed, True, workers.index, workers.count)
        self.total = training.total(self.batches.per_epoch)
        self.every = training.evaluate_every or self.batches.per_epoch
        self.parameters = [one for one in self.network.parameters() if one.requires_grad]
        self.optimizer = _optimizer(self.parameters, training, workers.device)
        self.step, self.waited = 0, 0
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, int, checkpoint.Weights] | None = None

    @property
    def call(self) -> str:
        """What tells this training from others."""
        ends = [self.lists[0], self.lists[len(self.lists) - 1]]
        data = derived(0, len(self.lists), *(f"{one.qid} {one.targets}" for one in ends))
        hidden = {"device": None, "verbose": False, "checkpoint_every": None}
        settings = Training(**{**self.training.__dict__, **hidden})
        return f"{self.learner!r}, {settings!r}, {self.workers.count} process(es), {len(self.lists)} lists ({data:x})"

    def resume(self) -> None:
        """Goes back to the folder's checkpoint, where there is one; measures what is not trained yet otherwise."""
        found = checkpoint.read(self.path, self.call)
        if found is None:
            self._measured({"step": 0.0})
            return
        checkpoint.put(found.weights, self.network)
        self.optimizer.load_state_dict(found.optimizer)
        checkpoint.set_random_states(found.random[self.workers.index], self.workers.device)
        self.step, self.history, self.best, self.waited = found.step, found.history, found.best, found.waited

    def go(self) -> None:
        """The steps that are left."""
        bar = _bar(self.step, self.total, self.training.verbose and self.workers.first)
        self.network.train()
        for places in self.batches(self.step):
            if self.step >= self.total or self._enough:
                break
            row = self._step([self.lists[place] for place in places])
            last = self.step == self.total
            if self.step % self.every == 0 or last:
                self._measured(row)
            self.history.append(row)
            bar.update()
            bar.set_postfix(loss=row["loss"])
            if (every := self.training.checkpoint_every) and (self.step % every == 0 or last or self._enough):
                self._keep()
        bar.close()

    def finish(self, about: Mapping[str, str]) -> Trained:
        """Saves the best weights, and then has no more need of the checkpoint."""
        if self.best is not None:
            checkpoint.put(self.best[2], self.network)
        self.network.eval()
        if self.workers.first:
            self.learner.save(self.path)
            report(self.path, self.history, self.training, {"learner": repr(self.learner), **about})
            (self.path / checkpoint.NAME).unlink(missing_ok=True)
        self.workers.all(None)  # nobody goes on before the folder is whole, or while another has to hear of it
        return Trained(self.step, self.history, self.best[1] if self.best else self.step)

    def _step(self, lists: list[TrainingList]) -> dict[str, float]:
        """One update; the row of the history."""
        rate = self.training.rate(self.step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        try:
            with self._autocast(self.training.precision == "bfloat16"):
                loss = self.learner.learn(lists, self._backward)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"memory was exceeded in step {self.step + 1} by {len(lists)} lists; read fewer of them at once "
                f"(micro=…, now {getattr(self.learner, 'micro', None)}), shorten the texts, or use "
                "precision='bfloat16'"
            ) from error
        loss = self.workers.mean(loss, len(lists))
        self.workers.average_gradients(self.parameters, len(lists))
        norm = nn.utils.clip_grad_norm_(self.parameters, self.training.clip)
        if not torch.isfinite(norm + loss):
            raise ModelError(
                f"the loss of step {self.step + 1} is {loss}, its gradient's norm {float(norm)}; lower learning_rate "
                f"({self.training.learning_rate}), or warm up longer ({self.training.warmup})"
            )
        self.optimizer.step()
        self.step += 1
        return {"step": float(self.step), "loss": loss, "rate": rate}

    def _autocast(self, halved: bool) -> AbstractContextManager[Any]:
        if not halved:
            return nullcontext()
        return torch.autocast(self.workers.device.type, dtype=torch.bfloat16)

    def _backward(self, value: Tensor) -> None:
        """Adds gradients, in the precision that each operation had on the way forward."""
        with torch.autocast(self.workers.device.type, enabled=False):
            value.backward()  # type: ignore[no-untyped-call]

    @property
    def _enough(self) -> bool:
        """Whether it got no better for too long."""
        return self.training.patience is not None and self.waited >= self.training.patience

    def _measured(self, row: dict[str, float]) -> None:
        """Measures the network and notes it in a row; keeps the weights if none were better."""
        if self.measure is None:
            return
        found = 0.0
        if self.workers.first:
            self.network.eval()
            with torch.random.fork_rng(devices=random_devices(self.workers)), torch.no_grad():
                found = float(self.measure())
            self.network.train()
        row["measure"] = found = self.workers.told(found)
        if self.step == 0:
            self.history.append(row)
        if self.best is None or found > self.best[0]:
            self.best, self.waited = (found, self.step, checkpoint.kept(self.network)), 0
        else:
            self.waited += 1

    def _keep(self) -> None:
        """Writes the state of all workers."""
        random = self.workers.all(checkpoint.random_states(self.workers.device))
        if self.workers.first:
            weights, state = checkpoint.trained(self.network), self.optimizer.state_dict()
            kept = (self.call, self.step, weights, state, random, self.history, self.best, self.waited)
            checkpoint.write(Checkpoint(*kept), self.path)


def random_devices(workers: Workers) -> list[torch.device]:
    """Those whose random state is to be kept, beside the CPU's."""
    return [workers.device] if workers.device.type == "cuda" else []


def _optimizer(parameters: Sequence[nn.Parameter], training: Training, device: torch.device) -> torch.optim.Optimizer:
    """AdamW that shrinks matrices only, and none that is marked as ``undecayed``."""
    groups: list[dict[str, Any]] = [{"params": [], "weight_decay": decay} for decay in (training.weight_decay, 0.0)]
    for one in parameters:
        groups[one.dim() <= 1 or hasattr(one, "undecayed")]["params"].append(one)
    return torch.optim.AdamW(groups, lr=training.learning_rate, fused=device.type in ("cpu", "cuda"))


def _bar(step: int, total: int, shown: bool) -> Any:  # noqa: ANN401 - tqdm is untyped
    from tqdm.auto import tqdm

    return tqdm(initial=step, total=total, desc="training", unit="step", disable=not shown)
