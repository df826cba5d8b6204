"""The data sets and the base model of a trial, as inputs of its MLflow run."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Final

from sweeper.adapters.mlflow.translate import PREFIX
from sweeper.core.config import ModelConfig
from sweeper.core.record import DataInput, TrialInfo

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

CONTEXT: Final = {"train": "training", "test": "evaluation"}
MAX_DIGEST: Final = 36
"""Characters that MLflow's tables take."""


class Inputs:
    """Logs inputs to the runs of one experiment; safe to repeat."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._models: dict[str, str] = {}

    def log(self, run_id: str, trial: TrialInfo) -> None:
        """Tell a run what it reads."""
        from mlflow.entities import LoggedModelInput

        datasets = [dataset_input(each) for each in trial.data]
        model = LoggedModelInput(model_id=self._base_model(trial.config.model))
        self._client.log_inputs(run_id, datasets=datasets, models=[model])

    def _base_model(self, model: ModelConfig) -> str:
        """Return the id of the one entry of this model in the experiment, made where there is none."""
        name = model_name(model)
        if name not in self._models:
            found = self._client.search_logged_models([self._experiment_id], filter_string=f"name = '{name}'")
            tags = {
                PREFIX + "role": "base model",
                PREFIX + "path": model.path,
                PREFIX + "revision": model.revision or "",
            }
            made = found[0] if found else self._client.create_logged_model(self._experiment_id, name=name, tags=tags)
            # Its weights lie where the path says and are not copied, so there is nothing to wait for.
            self._client.finalize_logged_model(made.model_id, "READY")
            self._models[name] = str(made.model_id)
        return self._models[name]


def dataset_input(data: DataInput) -> DatasetInput:
    """Return a data set with its digest and size, and what it is used for."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=os.path.basename(data.path) if os.path.isabs(data.path) else data.path,
        digest=data.sha256[:MAX_DIGEST],
        source_type="local" if os.path.isabs(data.path) else "name",
        source=json.dumps({"uri": data.path}),
        profile=json.dumps({"num_rows": data.samples, "num_tokens": data.tokens, "sha256": data.sha256}),
    )
    return DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", CONTEXT[data.role])])


def model_name(model: ModelConfig) -> str:
    """Return the model's folder or hub name in the characters that MLflow takes."""
    path = os.path.basename(model.path.rstrip("/")) if os.path.isabs(model.path) else model.path
    return re.sub(r"[/:.%\"']", "-", f"{path}@{model.revision}" if model.revision else path)
