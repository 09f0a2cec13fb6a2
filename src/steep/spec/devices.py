"""What is known of GPUs by their names."""

from __future__ import annotations

PEAKS = (
    ("GB200", 2500e12),
    ("B200", 2250e12),
    ("B100", 1800e12),
    ("GH200", 989e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H800", 989e12),
    ("H20", 148e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("A40", 150e12),
    ("A30", 165e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("L4", 121e12),
    ("V100", 125e12),
    ("T4", 65e12),
    ("RTX 6000 Ada", 364e12),
    ("RTX A6000", 155e12),
    ("RTX 5090", 210e12),
    ("RTX 4090", 165e12),
    ("RTX 4080", 98e12),
    ("RTX 3090", 71e12),
    ("MI325X", 1307e12),
    ("MI300X", 1307e12),
    ("MI250X", 383e12),
)
"""Dense products in bf16 with fp32 sums, as the makers state them; fp16 where there is no bf16. The first name that fits."""


def peak_of(name: str) -> float | None:
    """FLOPs a second that a GPU could make in bf16 at most, by the name that its driver gives it; None: it is not known."""
    words = f" {name.upper().replace('-', ' ').replace('GEFORCE', '')} "
    return next((peak for known, peak in PEAKS if f" {known.upper()} " in f"{words} "), None)
