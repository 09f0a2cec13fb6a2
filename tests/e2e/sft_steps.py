"""What follows continued pretraining: a few steps of supervised fine-tuning of an export, with TRL and plain transformers.

    python sft_steps.py EXPORT OUT

Prints the losses and how far the weights moved, as JSON. Nothing of Steep is imported here.
"""

from __future__ import annotations

import json
import sys

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

EXAMPLES = [
    {"prompt": f"Question: what is {number} plus {number}?\nAnswer:", "completion": f" It is {2 * number}."}
    for number in range(16)
]


def main(export: str, out: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(export)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    config = SFTConfig(
        output_dir=out, max_steps=4, per_device_train_batch_size=4, learning_rate=1e-3, warmup_steps=0, logging_steps=1,
        lr_scheduler_type="constant", use_cpu=True, bf16=False, save_strategy="no", report_to="none", max_length=128,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(EXAMPLES), processing_class=tokenizer
    )
    trainer.train()
    trainer.save_model(out)
    moved = max(float((weight - before[name]).abs().max()) for name, weight in trainer.model.named_parameters())
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(json.dumps({"losses": losses, "moved": moved, "parameters": model.num_parameters()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
