"""The chunked loss and its gradients are those of plain cross entropy in float64."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.model.families import EOS, FAMILIES, documents, make, pairs
from torch.nn.functional import cross_entropy

from steep.model.batch import IGNORED, Batch, make_batch, pack
from steep.model.loss import (
    Head,
    LanguageModelLoss,
    Lesson,
    head_of,
    hidden_states,
    linear_cross_entropy,
)

LABELS = 29


def problem(dtype: torch.dtype, *, bias: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    labels = torch.randint(0, 50, (LABELS,))
    labels[[3, 4, 28]] = IGNORED
    tensors = {"hidden": torch.randn(LABELS, 16), "weight": torch.randn(50, 16)}
    if bias:
        tensors["bias"] = torch.randn(50)
    leaves = {name: tensor.to(dtype).requires_grad_() for name, tensor in tensors.items()}
    return {"labels": labels, "bias": None, **leaves}


def plain(given: dict[str, Any], scale: float, softcap: float | None) -> torch.Tensor:
    doubles = {name: None if given[name] is None else given[name].double() for name in ("hidden", "weight", "bias")}
    logits = scale * torch.nn.functional.linear(doubles["hidden"], doubles["weight"], doubles["bias"])
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    return cross_entropy(logits, given["labels"], ignore_index=IGNORED, reduction="sum")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.25, None), (1.0, 3.0), (2.0, 5.0)])
@pytest.mark.parametrize("chunk_tokens", [4, 29, 1000])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5), (torch.bfloat16, 4e-2)]
)
def test_value_and_gradients_are_those_of_plain_float64(
    dtype: torch.dtype, tolerance: float, chunk_tokens: int, scale: float, softcap: float | None, bias: bool
) -> None:
    given = problem(dtype, bias=bias)
    leaves = [given[name] for name in ("hidden", "weight", "bias") if given[name] is not None]
    expected = plain(given, scale, softcap)
    wanted = torch.autograd.grad(expected / 7, leaves)
    head = Head(given["weight"], given["bias"], scale, softcap)
    nats = linear_cross_entropy(given["hidden"], head, given["labels"], chunk_tokens=chunk_tokens)
    torch.testing.assert_close(nats.double(), expected, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(torch.autograd.grad(nats / 7, leaves), wanted, strict=True):
        assert (ours.double() - theirs.double()).norm() <= tolerance * theirs.double().norm()


@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (2.0, 5.0)])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_lesson_is_the_cross_entropy_with_what_the_base_expects(
    share: float, scale: float, softcap: float | None
) -> None:
    given = problem(torch.float64, bias=True)
    leaves = [given["hidden"], given["weight"], given["bias"]]
    head = Head(given["weight"], given["bias"], scale, softcap)
    base = Head(torch.randn_like(given["weight"]), None, scale, softcap)
    rows = torch.arange(len(given["labels"]))
    lesson = Lesson(rows, torch.randn_like(given["hidden"]), base, share)
    goals = given["labels"].clamp(min=0)
    expected = (1 - share) * torch.nn.functional.one_hot(goals, len(given["weight"])).double()
    expected = expected + share * torch.softmax(base.logits(lesson.hidden), -1)
    logits = scale * torch.nn.functional.linear(given["hidden"], given["weight"], given["bias"])
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    costs = -(expected * torch.log_softmax(logits, -1)).sum(-1)
    wanted = costs[given["labels"] != IGNORED].sum()
    nats = linear_cross_entropy(given["hidden"], head, given["labels"], lesson=lesson, chunk_tokens=7)
    torch.testing.assert_close(nats, wanted)
    for ours, theirs in zip(
        torch.autograd.grad(nats / 7, leaves), torch.autograd.grad(wanted / 7, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_lesson_of_some_rows_leaves_the_others_their_labels() -> None:
    model, base = make("llama"), make("llama")
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    batch = make_batch([documents([33], seed)[0] for seed in (1, 2)], EOS, None)
    rows = torch.arange(32, 64)
    nothing = Lesson(rows, hidden_states(base, batch)[rows].detach(), head_of(base), 0.0)
    loss = LanguageModelLoss(model)
    torch.testing.assert_close(loss(batch, nothing)[0], loss(batch)[0])
    taught = Lesson(rows, nothing.hidden, nothing.head, 1.0)
    probabilities = torch.softmax(head_of(base).logits(taught.hidden), -1)
    logits = head_of(model).logits(hidden_states(model, batch))
    expected = cross_entropy(logits[:32], batch.labels[:32], reduction="sum")
    expected = expected + cross_entropy(logits[32:], probabilities, reduction="sum")
    torch.testing.assert_close(loss(batch, taught)[0], expected)


def test_a_hopeless_label_costs_finite_nats() -> None:
    hidden = torch.tensor([[300.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    nats = linear_cross_entropy(hidden, Head(weight, None, 1.0, None), torch.tensor([1]))
    assert float(nats.detach()) == pytest.approx(600.0)


def test_frozen_weights_get_no_gradient() -> None:
    given = problem(torch.float32, bias=False)
    weight = given["weight"].detach()
    linear_cross_entropy(given["hidden"], Head(weight, None, 1.0, None), given["labels"]).backward()
    assert given["hidden"].grad is not None
    assert weight.grad is None


def test_the_logits_of_all_tokens_never_exist() -> None:
    tokens, vocab = 4096, 5000
    hidden, weight = torch.randn(tokens, 8, requires_grad=True), torch.randn(vocab, 8, requires_grad=True)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        labels = torch.zeros(tokens, dtype=torch.int64)
        linear_cross_entropy(hidden, Head(weight, None, 1.0, None), labels, chunk_tokens=256).backward()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest <= 256 * vocab * 4 * 1.1


def mean_loss_of_each_document_alone(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    bounds = batch.cu_seq_lens.tolist()
    nats = torch.zeros(())
    for start, stop in pairwise(bounds):
        logits = model(batch.input_ids[:, start:stop], use_cache=False).logits[0]
        nats = nats + cross_entropy(logits, batch.labels[start:stop], ignore_index=IGNORED, reduction="sum")
    return nats / batch.num_labels


@pytest.mark.parametrize("family", FAMILIES)
def test_a_training_step_is_that_of_the_librarys_plain_model_on_separate_documents(family: str, tmp_path: Any) -> None:
    model, plain_model = make(family), make(family, attention="eager")
    rows = [torch.cat([torch.from_numpy(ids) for ids in documents([20, 13], seed)]).numpy() for seed in (1, 2)]
    rows[0][7] = rows[1][20] = EOS
    batch = make_batch(rows, EOS, None)
    nats, labels = LanguageModelLoss(model)(batch)
    (nats / labels).backward()
    expected = mean_loss_of_each_document_alone(plain_model, batch)
    expected.backward()
    assert float(nats.detach() / labels) == pytest.approx(float(expected.detach()), rel=1e-5)
    wanted = dict(plain_model.named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=2e-3, atol=2e-5, msg=name)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.zero_grad()
    with torch.no_grad():
        trained = LanguageModelLoss(model)(batch)[0]
        model.save_pretrained(tmp_path)
        again = type(plain_model).from_pretrained(tmp_path, attn_implementation="eager")
        assert trained < nats
        reloaded = mean_loss_of_each_document_alone(again, batch) * batch.num_labels
    assert float(trained) == pytest.approx(float(reloaded), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_makes_the_models_own_logits(family: str) -> None:
    model = make(family)
    batch = pack(pairs(documents([9, 5])))
    with torch.no_grad():
        ours = head_of(model).logits(hidden_states(model, batch))
        theirs = model(**batch.model_arguments()).logits[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("taught", [True, False])
def test_a_small_difference_of_probabilities_survives_bf16(device: str, taught: bool) -> None:
    """The weight is a unit matrix, so that hidden states are logits and their gradients those of logits."""
    torch.manual_seed(0)
    logits = torch.randn(64, 256).bfloat16()
    labels = torch.randint(0, 256, (64,))
    if not taught:
        logits[torch.arange(64), labels] = 9.0  # each label is nearly sure
    unit = Head(torch.eye(256, dtype=torch.bfloat16, device=device), None, 1.0, None)
    base = (logits.float() + 0.02 * torch.randn(64, 256)).bfloat16()
    lesson = Lesson(torch.arange(64, device=device), base.to(device), unit, 1.0) if taught else None
    hidden = logits.to(device).requires_grad_()
    (ours,) = torch.autograd.grad(linear_cross_entropy(hidden, unit, labels.to(device), lesson=lesson), hidden)
    goal = torch.softmax(base.double(), -1) if taught else torch.nn.functional.one_hot(labels, 256).double()
    exact = torch.softmax(logits.double(), -1) - goal
    assert (ours.cpu().double() - exact).norm() <= 4e-3 * exact.norm()
