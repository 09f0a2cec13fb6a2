import time

import pytest
import torch

from steep.train import precision
from steep.train.precision import choose_precision, use_quick_fp32_products

CPU = torch.device("cpu")


def test_what_the_user_wants_is_taken() -> None:
    assert choose_precision(CPU, "bf16").dtype == torch.bfloat16
    assert choose_precision(CPU, "fp32").dtype == torch.float32


@pytest.mark.parametrize(("speedup", "name"), [(3.0, "bf16"), (0.4, "fp32")])
def test_auto_follows_the_probe(monkeypatch: pytest.MonkeyPatch, speedup: float, name: str) -> None:
    monkeypatch.setattr(precision, "has_bf16_matrix_units", lambda: True)
    monkeypatch.setattr(precision, "bf16_speedup", lambda device: speedup)
    chosen = choose_precision(CPU, "auto")
    assert chosen.name == name
    assert f"{speedup:.1f}x" in chosen.reason


def test_without_units_for_it_a_probe_on_a_busy_machine_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16_matrix_units", lambda: False)
    monkeypatch.setattr(precision, "bf16_speedup", lambda device: 2.1)
    assert choose_precision(CPU, "auto").name == "fp32"


def test_the_probe_is_quick() -> None:
    started = time.process_time()
    assert precision.bf16_speedup(CPU) > 0
    assert time.process_time() - started < 3


def test_quick_fp32_products_are_accurate_or_off(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    monkeypatch.setattr(precision, "has_quick_default_products", lambda: False)
    try:
        use_quick_fp32_products(CPU)
        a, b = torch.randn(300, 200), torch.randn(100, 200)
        exact = a.double() @ b.double().T
        assert float((torch.nn.functional.linear(a, b) - exact).norm() / exact.norm()) < 1e-5
        monkeypatch.setattr(precision, "MAX_ERROR", 0.0)
        assert not use_quick_fp32_products(CPU)
        assert torch.backends.mkldnn.matmul.fp32_precision == "none"
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


def test_products_are_left_to_the_library_of_the_processors_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    monkeypatch.setattr(precision, "has_quick_default_products", lambda: True)
    assert not use_quick_fp32_products(CPU)
    assert torch.backends.mkldnn.matmul.fp32_precision == before
