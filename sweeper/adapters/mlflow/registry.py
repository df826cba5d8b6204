"""A trained model in MLflow's model registry: an output of its trial's run, and a version of a registered model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sweeper.adapters.mlflow.store import connect, sweep_store
from sweeper.adapters.mlflow.translate import PREFIX
from sweeper.core.errors import InputError, RecordError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

FINGERPRINT: Final = f"{PREFIX}fingerprint"
DIGEST: Final = f"{PREFIX}weights_sha256"
_NAME: Final = re.compile(r"[^/:\s][^/:]{0,199}")
"""What MLflow takes for the name of a registered model, shorter than its longest."""


def refuse_model_name(name: str) -> None:
    """Raise InputError for a name that MLflow does not take."""
    if not _NAME.fullmatch(name):
        raise InputError("must have no slash or colon, and at most 200 characters", where="--name", got=name)


def find_version(client: MlflowClient, name: str, fingerprint: str, digest: str) -> ModelVersion | None:
    """Return the version of a registered model that holds these weights of a trial; None where there is none."""
    # Tags of versions cannot be asked for in every store, so all of them are looked at.
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        for version in page:
            if (version.tags.get(FINGERPRINT), version.tags.get(DIGEST)) == (fingerprint, digest):
                return version
        token = page.token
        if not token:
            return None


def register_model(
    folder: Path,
    uri: str | None,
    *,
    name: str,
    run_id: str,
    fingerprint: str,
    digest: str,
    weights: Path,
    tags: Mapping[str, str],
    description: str,
) -> tuple[str, bool]:
    """Put the files in ``weights`` into the registry as a version of ``name``; return it, and whether it is new.

    Safe to repeat: weights of this ``digest`` that are registered for the trial already stay as they are. An upload
    that breaks off leaves no version.

    Args:
        folder: the sweep's, with ``uri`` the tracking URI that its search space names.
        run_id: the trial's run, of which the model becomes an output.

    Raises:
        RecordError: MLflow does not take it.
    """
    from mlflow.exceptions import MlflowException

    refuse_model_name(name)
    client = connect(sweep_store(folder, uri))
    known = {FINGERPRINT: fingerprint, DIGEST: digest, **{PREFIX + key: value for key, value in tags.items()}}
    try:
        found = find_version(client, name, fingerprint, digest)
        if found is not None:
            return str(found.version), False
        _make_model(client, name)
        model = _upload(client, run_id, name, weights, known)
        # By its place, not as models:/ID: that would be looked up in whatever store the process has as its default.
        made = client.create_model_version(
            name,
            model.artifact_location,
            run_id=run_id,
            tags=known,
            description=description,
            model_id=model.model_id,
        )
    except MlflowException as error:
        raise RecordError(f"MLflow does not take the model: {str(error).strip().splitlines()[0]}") from error
    return str(made.version), True


def _make_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _upload(client: MlflowClient, run_id: str, name: str, weights: Path, tags: Mapping[str, str]) -> LoggedModel:
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, name=_plain(name), source_run_id=run_id, tags=dict(tags))
    try:
        client.log_model_artifacts(model.model_id, str(weights))
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return model


def _plain(name: str) -> str:
    """Return a name in the characters that MLflow takes for a model of an experiment."""
    return re.sub(r"[.%\"']", "-", name)
