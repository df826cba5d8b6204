"""Answers ``python -m trials prepare`` with a data set of 1,024 samples, or of ``SCRIPTED_SAMPLES``."""

import json
import os

print(
    json.dumps(
        {
            "train_samples": int(os.environ.get("SCRIPTED_SAMPLES", "1024")),
            "longest_tokens": 12,
            "data_sha256": "scripted",
        }
    )
)
