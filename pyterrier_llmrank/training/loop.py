"""``train``: the one loop that trains networks on lists. Killed at any moment, the same call goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.seeds import derived

from .data import TrainingList
from .learner import Learner
from .running import Measure, Run, Trained, random_devices
from .settings import Training
from .workers import Workers


def train(
    learner: Learner,
    lists: Sequence[TrainingList],
    folder: str | os.PathLike[str],
    training: Training | None = None,
    *,
    measure: Measure | None = None,
    about: Mapping[str, str] | None = None,
) -> Trained:
    """Trains a network and saves it in a folder, with its history and a model card.

    Where there is a measure, the weights that are saved are the best by it, which may be those of the beginning;
    otherwise the last ones. The same call gives the same weights on the same machine. The caller's random state stays
    as it is.

    With ``training.checkpoint_every`` the state is written to ``folder/checkpoint.pt`` now and then. After a crash
    the same call goes on from there, and ends with the weights of a run that was never stopped. Once all is saved
    that file is removed, and the same call would train anew.

    Started by ``torchrun`` or ``accelerate launch``, several processes share each batch; the first one measures and
    writes.

    Args:
        learner: What is trained; in training mode, on ``training.device``, and at last in evaluation mode.
        lists: What it learns from; ``StoredLists`` are read as they are needed.
        folder: Where everything goes; made if it is not there.
        training: How; the defaults of ``Training`` if left out.
        measure: What to stop and choose by, see ``training.evaluate_every`` and ``patience``.
        about: Texts for the model card, see ``report``.

    Raises:
        InputError: There are no lists.
        ConfigurationError: The folder's checkpoint is of another training, or there is no such device.
        ModelError: The loss is not finite, or memory was exceeded; a checkpoint stays where it is.
        MissingExtra: There are several processes and no accelerate.
    """
    if not len(lists):
        raise InputError("there are no lists to learn from; check that the teacher returned something for the queries")
    training = training or Training()
    workers = Workers.here(training.device)
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=random_devices(workers)), torch.enable_grad():
        torch.manual_seed(derived(training.seed, "training", workers.index))
        learner.network.to(workers.device)
        workers.same(learner.network)
        run = Run(learner, lists, path, training, measure, workers)
        run.resume()
        run.go()
    return run.finish(about or {})
