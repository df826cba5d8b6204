"""Runs the cells of a sweep, and takes in those that users add while they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sweeper import programs
from sweeper.adapters.ray.cluster import Cluster
from sweeper.adapters.study import StudyLedger
from sweeper.control import Desk
from sweeper.core.config import TrialConfig
from sweeper.core.layout import SweepFolder
from sweeper.core.milestones import Milestones
from sweeper.core.record import TrialInfo
from sweeper.core.space import SearchSpace
from sweeper.judge import Judge
from sweeper.planned import PlannedCell, offline_environment
from sweeper.ports import Tracker
from sweeper.promotions import Promotions
from sweeper.proposer import make_proposer
from sweeper.sweep import hold_back_of, read_facts


class WallClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class Job:
    """The cells of a sweep that can run. Users may add to them while they run."""

    def __init__(
        self,
        folder: SweepFolder,
        space: SearchSpace,
        planned: Sequence[PlannedCell],
        ledger: StudyLedger,
        calibration: Sequence[str],
    ) -> None:
        self.folder = folder
        self.space = space
        self.ledger = ledger
        self.calibration = calibration
        self.infos: dict[str, TrialInfo] = {}
        self.milestones: dict[str, Milestones] = {}
        self.gangs: dict[int, TrialConfig] = {}
        """By number of ranks, a config with such a gang."""
        for cell in planned:
            if cell.infeasible is None:
                self.enter(cell)

    def enter(self, planned: PlannedCell) -> None:
        fingerprint = planned.cell.fingerprint
        self.infos[fingerprint] = planned.trial_info(calibration=fingerprint in self.calibration)
        self.milestones[fingerprint] = planned.milestones
        self.gangs[planned.cell.config.train.ranks] = planned.cell.config

    @property
    def left(self) -> int:
        """Cells that have not ended."""
        return sum(not cell.state.is_final for cell in self.ledger.cells())


def run_job(
    job: Job, trackers: Sequence[Tracker], where: AbstractContextManager[Cluster], notice: Callable[[str], None]
) -> None:
    """Take up what users asked for meanwhile, and run until every cell has ended or the user ends the run."""
    desk = Desk(job.folder, job.ledger, job.infos, trackers, job.enter, notice)
    desk.take()
    if not job.left:
        return
    with where as cluster:
        cluster.refuse_what_never_fits(job.gangs.values(), job.space.resources)
        before = job.left + 1
        # Another round only for what was asked for while the last trials ended.
        while 0 < job.left < before:
            before = job.left
            if _run_cells(job, trackers, cluster, desk, notice):
                return
            desk.take()


def _run_cells(
    job: Job, trackers: Sequence[Tracker], cluster: Cluster, desk: Desk, notice: Callable[[str], None]
) -> bool:
    from sweeper.adapters.ray.execute import execute

    space, folder = job.space, job.folder
    judge = Judge(space.objective, job.ledger, trackers, WallClock(), hold_back_of(space))
    promotions = None
    if space.mode == "promote":
        promotions = Promotions(job.ledger, job.infos, space, job.calibration, judge, job.milestones)
    return execute(
        judge=judge,
        queue=promotions or make_proposer(job.ledger, job.infos, space, job.calibration, judge),
        promotions=promotions,
        milestones=lambda trial: job.milestones[trial.fingerprint],
        resources=space.resources,
        cluster=cluster,
        gangs=job.gangs,
        environment=_environment(folder, space),
        folder=folder.ray_results,
        checkpoints=folder.checkpoints,
        take_orders=desk.take,
        notice=notice,
    )


def _environment(folder: SweepFolder, space: SearchSpace) -> dict[str, str]:
    if space.trial is not None:
        return programs.environment(folder, read_facts(folder)["facts"])
    return offline_environment(space.model, space.data)
