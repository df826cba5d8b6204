"""Runs trials on a cluster until there is none left to propose."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from sweeper.adapters.ray.admission import Admission, Queue
from sweeper.adapters.ray.cluster import Cluster
from sweeper.adapters.ray.interrupt import Interrupt
from sweeper.adapters.ray.pausing import Pausing, Promotions
from sweeper.adapters.ray.reins import Reins
from sweeper.adapters.ray.scheduler import JudgeScheduler
from sweeper.adapters.ray.searcher import CellSearcher
from sweeper.adapters.ray.sentry import Sentry
from sweeper.adapters.ray.states import StateStore, memory_folder
from sweeper.adapters.ray.store import CheckpointStore
from sweeper.adapters.ray.trainable import GangTrainable, trial_config
from sweeper.adapters.ray.waiting import Waiting
from sweeper.core.command import Orders
from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode
from sweeper.core.milestones import Milestones
from sweeper.core.record import TrialInfo
from sweeper.core.search import Later
from sweeper.core.sections import Resources
from sweeper.judge import Judge

_HEAD_BUNDLE: dict[str, float] = {}
"""The trial actor only waits for its ranks: it lives beside rank 0 and takes nothing of its own."""


def execute(
    *,
    judge: Judge,
    queue: Queue,
    milestones: Callable[[TrialInfo], Milestones],
    resources: Resources,
    cluster: Cluster,
    gangs: Mapping[int, TrialConfig],
    environment: dict[str, str],
    folder: Path,
    checkpoints: Path,
    take_orders: Callable[[], Orders],
    notice: Callable[[str], None],
    promotions: Promotions | None = None,
) -> bool:
    """Run every trial until ``queue`` has no more; return whether the user ended the run before that.

    Args:
        judge: told of every measurement and end.
        queue: what is to be run; asked for the next trial when a gang is free.
        milestones: where each trial is measured.
        resources: what one rank occupies.
        cluster: where to run.
        gangs: a config of every gang size, by ranks; may grow meanwhile.
        environment: variables set in every rank before torch is imported.
        folder: Tune's own files; may be deleted afterwards.
        checkpoints: where running trials keep their checkpoints, if ``resources`` asks for them.
        take_orders: asked every second for what users want of trials that run.
        notice: told in one line what befell a trial that goes on all the same.
        promotions: chooses among paused trials; None: no trial pauses.
    """
    trials: dict[str, TrialInfo] = {}
    store = CheckpointStore(checkpoints, resources.keep_pruned)
    pausing = None
    if promotions is not None:
        pausing = Pausing(promotions, _state_store(folder.parent, resources), notice, store.forget)

    admission = Admission(queue, cluster, gangs, resources)

    def begin(live: Collection[TrialInfo]) -> TrialInfo | Later | None:
        trial = admission(live)
        if isinstance(trial, TrialInfo):
            trials[trial.fingerprint] = trial
            judge.begin(trial)
        return trial

    def plain(trial: TrialInfo) -> dict[str, Any]:
        kept: dict[str, Any] | None = None
        if resources.checkpoint_every is not None or pausing is not None:
            kept = {"root": str(checkpoints / trial.fingerprint), "every": resources.checkpoint_every}
            kept["paused"] = None if pausing is None else pausing.begins(trial)
        shape = cluster.shape(trial.config, resources)
        return trial_config(
            trial.config,
            trial.fingerprint,
            trial.name,
            milestones(trial).samples,
            environment,
            kept,
            resources.hang_limit_s,
            shape.processes_per_bundle,
            is_pausable=pausing is not None,
        )

    def placement(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        shape = cluster.shape(decode(TrialConfig, config["trial"]), resources)
        bundle = {"CPU": shape.cpus, "GPU": shape.gpus}
        return tune.PlacementGroupFactory(
            [_HEAD_BUNDLE, *[dict(bundle) for _ in range(shape.bundles)]], strategy=shape.strategy
        )

    def needs(trial: Trial) -> str:
        return str(cluster.shape(decode(TrialConfig, trial.config["trial"]), resources))

    def could_run(trial: Trial) -> bool:
        return cluster.could_hold(decode(TrialConfig, trial.config["trial"]), resources)

    saves = resources.checkpoint_every is not None or pausing is not None
    searcher = CellSearcher(begin, plain)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told by the judge, with their reason
    with warnings.catch_warnings(), Interrupt() as interrupt:
        warnings.simplefilter("ignore")
        reins = Reins(interrupt, take_orders, notice, saves=saves)
        sentry = Sentry(resources.hang_limit_s, saves_first=pausing is not None)
        waiting = Waiting(needs, lambda: cluster.offer, could_run, notice)
        tuner = tune.Tuner(
            tune.with_resources(GangTrainable, placement),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=JudgeScheduler(judge, trials, store, sentry, reins, waiting, admission, notice, pausing),
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
        finally:
            if pausing is not None:
                pausing.close()
    return reins.is_ending


def _state_store(sweep: Path, resources: Resources) -> StateStore:
    """Return where paused trials' states of this sweep lie, those included that an earlier process left there."""
    memory = memory_folder(sweep) if resources.paused_memory_gib else None
    return StateStore(sweep / "paused", resources.paused_disk_gib, memory, resources.paused_memory_gib)


def _cell_folder(trial: Trial) -> str:
    return f"{trial.config['fingerprint']}-{trial.trial_id}"
