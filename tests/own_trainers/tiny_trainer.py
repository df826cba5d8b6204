"""``transformers.Trainer`` on a model of one layer, with the callback; under torchrun."""

from __future__ import annotations

import sys

import torch
from scripted_ranks import sign
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from sweeper.integrations.transformers import SweeperCallback


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": nn.functional.mse_loss(self.layer(x).squeeze(-1), labels)}


def main() -> None:
    output, batch_size = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(0)
    samples = [{"x": torch.randn(4), "labels": torch.randn(())} for _ in range(100)]
    trainer = Trainer(
        model=Tiny(),
        args=TrainingArguments(
            output_dir=output,
            per_device_train_batch_size=batch_size,
            num_train_epochs=2,
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=samples,
        eval_dataset=samples[:10],
        callbacks=[SweeperCallback()],
    )
    sign("began")
    try:
        trainer.train()
    except SystemExit:
        sign(f"stopped {trainer.state.global_step}")
        raise
    sign(f"ended {trainer.state.global_step}")


if __name__ == "__main__":
    main()
