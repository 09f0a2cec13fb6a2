"""Hugging Face's Trainer, measured in the same way as Steep's.

Told: model, rows (a file of `[num_sequences, sequence_tokens + 1]` ids), device, precision, attention, sequences_per_step,
microbatch_sequences, steps, warm_steps, save_steps, rates (by step), within_documents (attention stays in documents, as
Steep's does), eos_id, liger, scratch.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from comparison.sides.clock import StepClock, save_values
from comparison.sides.said import Enough, answer, arguments


class Rows(Dataset):
    """Sequences in their order.

    Without `within_documents` a row is what packed training usually gets: ids that are their own labels. With it the row
    also carries the label of its last token, positions that begin anew in each document, and a mask between documents, so
    that the loss is that of the very function which Steep trains.
    """

    def __init__(self, path: str, eos_id: int | None) -> None:
        self._rows = np.load(path, mmap_mode="r")
        self._eos_id = eos_id

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = torch.from_numpy(self._rows[index].astype(np.int64))
        inputs = row[:-1]
        if self._eos_id is None:
            return {"input_ids": inputs, "labels": inputs}
        begins = inputs == self._eos_id
        begins[0] = True
        document = begins.cumsum(0)
        places = torch.arange(len(inputs))
        starts = torch.where(begins, places, 0).cummax(0).values
        sees = (document[:, None] == document[None, :]) & (places[:, None] >= places[None, :])
        mask = torch.zeros(1, len(inputs), len(inputs)).masked_fill_(~sees, torch.finfo(torch.float32).min)
        return {
            "input_ids": inputs,
            "labels": inputs,
            "shift_labels": row[1:],
            "position_ids": places - starts,
            "attention_mask": mask,
        }


class Watch(TrainerCallback):
    """Reads the clock at the end of each step and of each save, and ends the training when enough was seen."""

    def __init__(self, clock: StepClock, steps: int) -> None:
        self.clock = clock
        self.losses: list[float] = []
        self.saves: list[int] = []
        self.stalls: list[float] = []
        self._steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.clock.step_ended()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        self.losses.append(logs["loss"])
        if len(self.losses) >= self._steps:
            raise Enough

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.saves.append(state.global_step)
        self.stalls.append(time.perf_counter() - self.clock.ends[-1])

    def step_seconds(self) -> list[float]:
        """Seconds of each step without the saves before it."""
        ends = self.clock.ends
        between = [0.0, *(after - before for before, after in pairwise(ends))]
        for step, stall in zip(self.saves, self.stalls, strict=True):
            between[step] -= stall
        between[0] = between[1] if len(between) > 1 else 0.0
        return between


def main() -> None:
    """Train for some steps and answer."""
    told = arguments()
    model = AutoModelForCausalLM.from_pretrained(
        told["model"], dtype=torch.float32, attn_implementation=told["attention"]
    )
    accumulation = told["sequences_per_step"] // told["microbatch_sequences"]
    settings = TrainingArguments(
        output_dir=told["scratch"],
        use_cpu=told["device"] == "cpu",
        bf16=told["precision"] == "bf16",
        use_liger_kernel=told.get("liger", False),
        per_device_train_batch_size=told["microbatch_sequences"],
        gradient_accumulation_steps=accumulation,
        max_steps=told["schedule"]["total_steps"],
        learning_rate=told["schedule"]["peak_rate"],
        adam_beta1=0.9,
        adam_beta2=0.95,
        weight_decay=0.1,
        max_grad_norm=1.0,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=told["device"] == "cuda",
        logging_steps=1,
        save_strategy="steps" if told.get("save_steps") else "no",
        save_steps=told.get("save_steps") or 500,
        save_total_limit=2,
        disable_tqdm=True,
        report_to="none",
    )
    watch = Watch(StepClock(told["device"], told.get("steps_before_save", 0)), told["steps"])
    trainer = Trainer(
        model=model,
        args=settings,
        train_dataset=Rows(told["rows"], told["eos_id"] if told.get("within_documents") else None),
        callbacks=[watch],
    )
    trainer.create_optimizer()
    rates, peak = told["rates"], told["schedule"]["peak_rate"]
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
        trainer.optimizer, lambda step: rates[min(step, len(rates) - 1)] / peak
    )
    try:
        trainer.train()
    except Enough:
        report(watch, told)
    else:
        raise RuntimeError("the schedule ended before enough was measured")


def report(watch: Watch, told: dict[str, Any]) -> None:
    """Answer with what was seen."""
    values = watch.clock.values(told["sequences_per_step"] * told["sequence_tokens"], told["warm_steps"])
    if len(watch.saves) > 1:
        values |= save_values(watch.stalls, watch.step_seconds(), watch.saves)
    answer(values, {"loss": watch.losses})


if __name__ == "__main__":
    main()
