"""Runs trials on a cluster until there is none left to propose."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from sweeper.adapters.ray.cluster import Cluster
from sweeper.adapters.ray.interrupt import Interrupt
from sweeper.adapters.ray.reins import Reins
from sweeper.adapters.ray.scheduler import JudgeScheduler
from sweeper.adapters.ray.searcher import CellSearcher
from sweeper.adapters.ray.sentry import Sentry
from sweeper.adapters.ray.store import CheckpointStore
from sweeper.adapters.ray.trainable import GangTrainable, trial_config
from sweeper.core.command import Orders
from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode
from sweeper.core.milestones import Milestones
from sweeper.core.program import processes_of
from sweeper.core.record import TrialInfo
from sweeper.core.space import Resources
from sweeper.judge import Judge

_HEAD_BUNDLE = {"memory": 1.0}
"""The trial actor only waits for its ranks: it gets a bundle, as Tune demands, but no CPU slot of its own."""


def execute(
    *,
    judge: Judge,
    propose: Callable[[], TrialInfo | None],
    milestones: Callable[[TrialInfo], Milestones],
    resources: Resources,
    cluster: Cluster,
    gangs: int,
    environment: dict[str, str],
    folder: Path,
    checkpoints: Path,
    take_orders: Callable[[], Orders],
    notice: Callable[[str], None],
) -> bool:
    """Run every proposed trial until ``propose`` has no more; return whether the user ended the run before that.

    Args:
        judge: told of every measurement and end.
        propose: the next trial to run, or None when there is none; called when a gang is free.
        milestones: where each trial is measured.
        resources: what one rank occupies.
        cluster: where to run.
        gangs: how many trials run at once.
        environment: variables set in every rank before torch is imported.
        folder: Tune's own files; may be deleted afterwards.
        checkpoints: where running trials keep their checkpoints, if ``resources`` asks for them.
        take_orders: asked every second for what users want of trials that run.
        notice: told in one line what befell a trial that goes on all the same.
    """
    trials: dict[str, TrialInfo] = {}

    def begin() -> TrialInfo | None:
        trial = propose()
        if trial is not None:
            trials[trial.fingerprint] = trial
            judge.begin(trial)
        return trial

    def plain(trial: TrialInfo) -> dict[str, Any]:
        kept = None
        if resources.checkpoint_every is not None:
            kept = {"root": str(checkpoints / trial.fingerprint), "every": resources.checkpoint_every}
        return trial_config(
            trial.config,
            trial.fingerprint,
            trial.name,
            milestones(trial).samples,
            environment,
            kept,
            resources.hang_limit_s,
        )

    def placement(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        trial = decode(TrialConfig, config["trial"])
        bundles = processes_of(trial)
        # A command starts the ranks itself: all that they need lies in one bundle, and so on one node.
        share = trial.train.ranks / bundles
        bundle = {"CPU": share * resources.cpus_per_rank}
        if gpus := cluster.gpus_per_rank(resources):
            bundle["GPU"] = share * gpus
        return tune.PlacementGroupFactory([_HEAD_BUNDLE, *[dict(bundle) for _ in range(bundles)]], strategy="PACK")

    searcher = CellSearcher(begin, plain, gangs)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told by the judge, with their reason
    with warnings.catch_warnings(), Interrupt() as interrupt:
        warnings.simplefilter("ignore")
        reins = Reins(interrupt, take_orders, notice, saves=resources.checkpoint_every is not None)
        store = CheckpointStore(checkpoints, resources.keep_pruned)
        tuner = tune.Tuner(
            tune.with_resources(GangTrainable, placement),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=JudgeScheduler(judge, trials, store, Sentry(resources.hang_limit_s), reins, notice),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_cell_folder,
                trial_dirname_creator=_cell_folder,
            ),
            run_config=tune.RunConfig(
                name=folder.name,
                storage_path=str(folder.parent),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=resources.max_failures),
            ),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:
            return True
    return reins.is_ending


def _cell_folder(trial: Trial) -> str:
    return f"{trial.config['fingerprint']}-{trial.trial_id}"
