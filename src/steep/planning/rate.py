"""The peak learning rate and the batch as functions of size: how `auto` comes to its numbers.

Sources: science.md's defaults (a third to a tenth of the pretraining rate; 1e-5 to 2e-5 for a small budget on a large, strongly
annealed base; ten times as much for adapters, which see only a small part of the weights), and the rates that were
measured best at 5M parameters and 2M tokens (1e-3).
"""

from __future__ import annotations

import math

REFERENCE_PARAMETERS = 5_000_000
REFERENCE_PRETRAINING_RATE = 3e-3
SIZE_EXPONENT = -0.4
CPT_SHARE = 1 / 3
REFERENCE_TOKENS_PER_PARAMETER = 0.4
BUDGET_EXPONENT = 0.25
MIN_BUDGET_FACTOR = 0.2
LORA_FACTOR = 10.0
MAX_LORA_RATE = 2e-3

USUAL_SECOND_BETA, USUAL_STEP_TOKENS = 0.95, 262_144
MAX_SECOND_BETA = 0.999  # Adam's own; what happened thousands of steps ago says little of the gradient now
FIRST_BETA = 0.9

REFERENCE_BATCH_TOKENS = 4096
REFERENCE_TOTAL_TOKENS = 2_000_000
MIN_STEPS = 500
MIN_SEQUENCES = 4


def pretraining_rate(parameters: int) -> float:
    """Peak rate that models of this size are usually pretrained with: 3e-3 up to 5M, about 4e-4 at 1B, 2e-4 at 7B."""
    return REFERENCE_PRETRAINING_RATE * min(1.0, math.pow(parameters / REFERENCE_PARAMETERS, SIZE_EXPONENT))


def budget_factor(parameters: int, total_tokens: int) -> float:
    """How much of the rate a budget deserves: 1 from 0.4 tokens a parameter, less for less text, never below a fifth.

    A short run on a large base can move it only little, and a high rate would undo its annealing for nothing.
    """
    relative = total_tokens / parameters / REFERENCE_TOKENS_PER_PARAMETER
    return min(1.0, max(MIN_BUDGET_FACTOR, math.pow(relative, BUDGET_EXPONENT)))


def peak_rate(parameters: int, total_tokens: int, *, from_scratch: bool, lora: bool) -> tuple[float, str]:
    """The peak rate, to two digits, and why.

    Args:
        parameters: of the model.
        total_tokens: of the whole run, replay included.
        from_scratch: random weights instead of a base.
        lora: adapters instead of full training.
    """
    full = pretraining_rate(parameters)
    if from_scratch:
        return _two_digits(full), f"the usual pretraining rate at {parameters / 1e6:.3g}M parameters"
    factor = budget_factor(parameters, total_tokens)
    rate = full * CPT_SHARE * factor
    reason = f"a third of the usual pretraining rate at {parameters / 1e6:.3g}M parameters ({full:.2g})"
    if factor < 1:
        reason += f", times {factor:.2f} because {total_tokens / parameters:.2g} tokens a parameter are few"
    if lora:
        rate = min(MAX_LORA_RATE, rate * LORA_FACTOR)
        reason += f", times {LORA_FACTOR:g} for adapters (at most {MAX_LORA_RATE:g})"
    return _two_digits(rate), reason


def batch_tokens(total_tokens: int, sequence_tokens: int) -> tuple[int, str]:
    """Tokens of an optimizer step: a power of two of sequences, growing with the root of the budget, and why.

    Too large a batch wastes a small corpus on few steps; too small a one wastes a large machine. The useful batch grows
    about with the root of the tokens seen (4k at 2M tokens, 64k at 300M, 256k at 10B).
    """
    by_root = REFERENCE_BATCH_TOKENS * math.sqrt(total_tokens / REFERENCE_TOTAL_TOKENS)
    by_steps = total_tokens / MIN_STEPS
    sequences = 2 ** max(0, round(math.log2(max(1.0, min(by_root, by_steps) / sequence_tokens))))
    if sequences < MIN_SEQUENCES:
        return MIN_SEQUENCES * sequence_tokens, f"{MIN_SEQUENCES} sequences, the fewest that give a steady gradient"
    reason = (
        f"about {MIN_STEPS} steps of the budget"
        if by_steps < by_root
        else "grows with the root of the budget, so that large budgets use large batches and small ones many steps"
    )
    return sequences * sequence_tokens, reason


def second_beta(step_tokens: int, total_steps: int) -> tuple[float, str]:
    """AdamW's average of the squared gradient, and why: its memory counts tokens, not steps.

    0.95 remembers half of what it knows for 13.5 steps, 3.5M tokens of the usual 262,144 a step. With smaller steps it must
    remember more of them to see as many tokens (Marek et al. 2025, arXiv 2507.07101), though no more than a tenth of the run.
    """
    usual = math.log(0.5) / math.log(USUAL_SECOND_BETA)
    half_life_steps = max(usual, min(usual * USUAL_STEP_TOKENS / step_tokens, total_steps / 10))
    beta = min(MAX_SECOND_BETA, round(0.5 ** (1 / half_life_steps), 3))
    if half_life_steps == usual:
        return USUAL_SECOND_BETA, "the usual one"
    remembered = math.log(0.5) / math.log(beta)
    return beta, f"steps are small, so it remembers {remembered:.0f} of them instead of {usual:.0f}"


def _two_digits(rate: float) -> float:
    return float(f"{rate:.1e}")
