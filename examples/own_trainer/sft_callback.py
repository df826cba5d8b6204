"""A TRL script as people have it. The two lines with a mark make a trial of it.

sweeper run examples/own_trainer/callback.yaml
"""

from __future__ import annotations

import argparse

from quickstart import MODEL, chats
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from sweeper.integrations.transformers import SweeperCallback  # <- 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=16, help="of one rank")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    options = parser.parse_args()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(MODEL),
        processing_class=AutoTokenizer.from_pretrained(MODEL),
        train_dataset=chats("train", 768),
        eval_dataset=chats("new", 64),
        args=SFTConfig(
            output_dir=options.output,
            num_train_epochs=options.epochs,
            per_device_train_batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            lr_scheduler_type="constant",
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            max_length=64,
            use_cpu=True,
            bf16=False,
        ),
        callbacks=[SweeperCallback()],  # <- 2
    )
    trainer.train()
    trainer.save_model(options.output)


if __name__ == "__main__":
    main()
