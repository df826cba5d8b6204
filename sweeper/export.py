"""The winner as a config that runs alone, with where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from sweeper.adapters.study import StudyLedger
from sweeper.core.config import TrialConfig, fingerprint
from sweeper.core.decode import decode
from sweeper.core.errors import InputError, RecordError
from sweeper.core.layout import SweepFolder
from sweeper.core.record import SweepSummary

FORMAT = 1
"""Version of the exported file, under the key ``sweeper_format``."""


def winner_yaml(folder: SweepFolder, ledger: StudyLedger, summary: SweepSummary, facts: Mapping[str, Any]) -> str:
    """Return the best trial's config as YAML; ``python -m trials FILE`` trains it again to the same loss sequence.

    Raises:
        InputError: no trial of the sweep ran to its end.
        RecordError: the study's config does not have the fingerprint it is stored under.
    """
    best = summary.best
    if best is None:
        raise InputError("no trial ran to its end, so there is no winner", where=folder.name)
    plain = ledger.config(best.fingerprint)
    found = fingerprint(decode(TrialConfig, plain))
    if found != best.fingerprint:
        raise RecordError(f"the config of {best.name} has fingerprint {found}, the study says {best.fingerprint}")
    document = {"sweeper_format": FORMAT, **plain, "provenance": _provenance(folder, summary, facts)}
    head = (
        f"# Winner of sweep {folder.name}: {best.name}, {summary.objective} {best.objective:.6g}.\n"
        f"# Train it again:  python -m trials THIS_FILE\n"
    )
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _provenance(folder: SweepFolder, summary: SweepSummary, facts: Mapping[str, Any]) -> dict[str, Any]:
    best, second = summary.best, summary.runner_up
    assert best is not None
    return {
        "sweep": folder.name,
        "trial": best.name,
        "fingerprint": best.fingerprint,
        "objective": {"metric": summary.objective, "direction": summary.direction, "value": best.objective},
        "runner_up": None if second is None else {"trial": second.name, "value": second.objective},
        "cells": dict(summary.counts),
        "data_sha256": sorted({str(found.get("data_sha256")) for found in facts["facts"].values()}),
        "git_commit": facts["git_commit"],
        "versions": dict(facts["versions"]),
    }
