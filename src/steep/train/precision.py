"""Which number format to compute in. Master weights and optimizer state are fp32 whatever it is.

On a CPU bf16 pays only with units for its matrix products: those with bf16 dot products alone are slower in it than in fp32. So
a processor without such units computes in fp32, whatever a probe would say while other work goes on; with them, a probe of a
few products decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import linear

_ROWS, _INPUTS, _OUTPUTS = 512, 512, 1024
_ROUNDS = 5
MIN_SPEEDUP = 1.1  # of bf16 products; far from what any processor has, with or without bf16 instructions
MAX_ERROR = 1e-6  # of an fp32 product, relative: a few roundings


@dataclass(frozen=True, slots=True)
class Precision:
    """The number format of the forward and backward pass, and why.

    Args:
        dtype: `torch.bfloat16` or `torch.float32`.
        reason: a sentence for people.
    """

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> Literal["bf16", "fp32"]:
        """As in the job spec."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"


def choose_precision(device: torch.device, wanted: Literal["auto", "bf16", "fp32"]) -> Precision:
    """The user's choice, or for `auto` bf16 where the device is quicker with it."""
    if wanted != "auto":
        return Precision(torch.bfloat16 if wanted == "bf16" else torch.float32, "as given")
    if device.type == "cuda":
        if has_native_bf16(device):
            return Precision(torch.bfloat16, "the device computes in it natively")
        return Precision(torch.float32, "the device has no native bf16")
    if not has_bf16_matrix_units():
        return Precision(torch.float32, "this processor has no units for bf16 matrix products")
    speedup = bf16_speedup(device)
    quicker = speedup >= MIN_SPEEDUP
    return Precision(
        torch.bfloat16 if quicker else torch.float32,
        f"bf16 matrix products are {speedup:.1f}x as quick as fp32 ones in the start-up probe",
    )


def has_native_bf16(device: torch.device) -> bool:
    """Whether a device computes in bf16 without emulating it; of a processor this says nothing of how quick it is."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def has_bf16_matrix_units() -> bool:
    """Whether this processor multiplies bf16 matrices in hardware: AMX, or the bf16 instructions of Arm."""
    known = getattr(torch.cpu, "get_capabilities", None)
    if known is None:  # an older torch
        return bool(torch.cpu._is_amx_tile_supported())
    capabilities = known()
    if capabilities.get("architecture") == "x86_64":
        return bool(capabilities.get("amx_bf16") or capabilities.get("amx_tile"))
    return any(present is True and "bf16" in name for name, present in capabilities.items())


def use_quick_fp32_products(device: torch.device) -> bool:
    """Let fp32 matrix products take the quicker kernels, where a probe shows that they lose no accuracy.

    On CUDA these are TF32 products, which training tolerates. On a CPU it is oneDNN, asked to use bf16 if it likes: on
    processors without bf16 matrix units it stays in fp32, on others it would round to bf16, and then it is turned
    off again. Intel's processors are left to Intel's own library, which is as quick there, and with which attention
    is quicker. A setting of the whole process.

    Returns:
        Whether they are on.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        return True
    if not torch.backends.mkldnn.is_available() or has_quick_default_products():
        return False
    weights, inputs = _probe_tensors(torch.float32, torch.device("cpu"))
    exact = linear(inputs.double(), weights.double())
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    error = float((linear(inputs, weights) - exact).norm() / exact.norm())
    if error > MAX_ERROR:
        torch.backends.mkldnn.matmul.fp32_precision = "none"
    return error <= MAX_ERROR


def has_quick_default_products() -> bool:
    """Whether torch's default library for matrix products is the one that the maker of this processor wrote for it."""
    known = getattr(torch.cpu, "get_capabilities", None)
    name = known().get("cpu_name", "") if known is not None else ""
    return torch.backends.mkl.is_available() and str(name).startswith("Intel")


def bf16_speedup(device: torch.device) -> float:
    """How much quicker a matrix product is in bf16 than in fp32 on this device."""
    seconds: dict[torch.dtype, float] = {}
    products = {dtype: _product(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    for _ in range(_ROUNDS):  # in turns, so that whatever else the machine does slows both
        for dtype, product in products.items():
            started = time.perf_counter()
            product()
            elapsed = time.perf_counter() - started
            seconds[dtype] = min(elapsed, seconds.get(dtype, elapsed))
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _product(dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    weights, inputs = _probe_tensors(dtype, device)
    linear(inputs, weights)  # the first one compiles its kernel
    return lambda: linear(inputs, weights)


def _probe_tensors(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(_OUTPUTS, _INPUTS, generator=generator)
    inputs = torch.randn(_ROWS, _INPUTS, generator=generator)
    return weights.to(device, dtype), inputs.to(device, dtype)
