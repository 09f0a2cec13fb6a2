"""A model that completes prompts: the library's own greedy text, told piece by piece, ended where it is to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from steep.model import continuations
from steep.model.vocabulary import Vocabulary
from steep.spec.completions import SAID, Done, Forget, Piece, Ready, Refused, Said, Write
from steep.spec.errors import EXIT_FAILED, InvalidInput, InvalidModel, ServerUnavailable
from steep.worker.completions import Orders
from steep.worker.completions_text import Reading, Row
from steep.worker.completions_writer import Writer, load_directory

TINY = Path(continuations.__file__).parents[1] / "data" / "tiny-base"
PROMPT = "The function returns"


@pytest.fixture(scope="module")
def writer() -> Writer:
    return load_directory(TINY)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.load(str(TINY))


@pytest.fixture(scope="module")
def plain() -> Any:
    """The same model as the library alone has it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)


def carry_out(writer: Writer, **asked: Any) -> tuple[dict[int, list[Piece]], Done]:
    """What is said of an order, by row."""
    said: list[Said] = []
    writer.carry_out(Write(order=1, **{"temperature": 0.0, **asked}), said.append, lambda: True)  # type: ignore[arg-type]
    *pieces, done = said
    assert isinstance(done, Done)
    rows: dict[int, list[Piece]] = {}
    for piece in pieces:
        assert isinstance(piece, Piece)
        rows.setdefault(piece.row, []).append(piece)
    assert all([one.finish is not None for one in each] == [False] * (len(each) - 1) + [True] for each in rows.values())
    return rows, done


def texts(writer: Writer, **asked: Any) -> list[str]:
    rows, _ = carry_out(writer, **asked)
    return ["".join(piece.text for piece in rows[row]) for row in sorted(rows)]


def test_greedy_text_is_what_the_library_generates(writer: Writer, vocabulary: Vocabulary, plain: Any) -> None:
    prompts = (PROMPT, "", tuple(vocabulary.encode("A list of")))
    rows, done = carry_out(writer, prompts=prompts, texts=2, max_tokens=24)
    read = 0
    for number, prompt in enumerate(prompts):
        ids = vocabulary.encode(prompt) if isinstance(prompt, str) else list(prompt)
        read += len(ids)
        full = plain.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=24, pad_token_id=0)[0].tolist()
        expected = vocabulary.decode(full)[len(vocabulary.decode(ids)) :]
        for row in (2 * number, 2 * number + 1):
            assert "".join(piece.text for piece in rows[row]) == expected
            assert rows[row][-1].finish == ("stop" if full[-1] == vocabulary.eos_id else "length")
            assert len(rows[row]) > 5  # piece by piece
    assert done.prompt_tokens == read
    assert done.written_tokens <= 6 * 24


def test_the_same_seed_draws_the_same_texts_and_each_text_is_its_own(writer: Writer) -> None:
    asked = {"prompts": (PROMPT,), "texts": 4, "max_tokens": 12, "temperature": 1.0}
    one, same, other = (texts(writer, seed=seed, **asked) for seed in (7, 7, 8))
    assert one == same
    assert one != other
    assert len(set(one)) == 4
    assert len({*texts(writer, **asked), *texts(writer, **asked)}) > 4  # without a seed no two requests are alike
    assert len(set(texts(writer, seed=7, top_p=1e-6, **asked))) == 1  # nothing but the likeliest is left


def test_only_the_likeliest_tokens_with_their_share_are_drawn() -> None:
    logits = torch.log(torch.tensor([[0.4, 0.05, 0.3, 0.25]]))
    for top_p, allowed in ((0.3, {0}), (0.5, {0, 2}), (0.71, {0, 2, 3}), (1.0, {0, 1, 2, 3})):
        left = continuations._nucleus(logits, top_p)[0]
        assert {place for place, one in enumerate(left.tolist()) if one > float("-inf")} == allowed
        assert torch.equal(left[list(allowed)], logits[0, list(allowed)])


@pytest.mark.parametrize("chunk_tokens", [3, 256])
def test_scores_are_those_of_one_pass_over_everything(
    writer: Writer, vocabulary: Vocabulary, plain: Any, monkeypatch: pytest.MonkeyPatch, chunk_tokens: int
) -> None:
    monkeypatch.setattr(continuations, "CHUNK_TOKENS", chunk_tokens)
    ids = tuple(vocabulary.encode("The with statement is used to wrap the execution of a block")[1:])
    rows, _ = carry_out(writer, prompts=(ids,), max_tokens=5, echo=True, top=2, temperature=0.0)
    scores = [score for piece in rows[0] for score in piece.scores]
    text = "".join(piece.text for piece in rows[0])
    assert "".join(score.text for score in scores) == text
    full = plain.generate(torch.tensor([list(ids)]), do_sample=False, max_new_tokens=5, pad_token_id=0)[0]
    with torch.no_grad():
        expected = torch.log_softmax(plain(full[None]).logits[0], -1)
    assert scores[0].logprob is None
    assert scores[0].top is None
    for place, score in enumerate(scores[1:], 1):
        best = expected[place - 1].topk(2)
        assert score.logprob == pytest.approx(float(expected[place - 1, full[place]]), abs=1e-3)
        assert list(score.top.values()) == pytest.approx(best.values.tolist(), abs=1e-3)
        is_likeliest = int(best.indices[0]) == int(full[place])
        assert (next(iter(score.top)) == score.text) == is_likeliest


def test_a_text_ends_before_what_stops_it_and_none_of_that_is_told(writer: Writer) -> None:
    (whole,) = texts(writer, prompts=(PROMPT,), max_tokens=24)
    stop = whole[9:16]  # across tokens
    place = whole.index(stop)
    rows, done = carry_out(writer, prompts=(PROMPT,), max_tokens=24, stop=(stop, "nowhere to be found"), top=0)
    assert "".join(piece.text for piece in rows[0]) == whole[:place]
    assert rows[0][-1].finish == "stop"
    assert done.written_tokens < 24
    scored = "".join(score.text for piece in rows[0] for score in piece.scores)
    assert whole.startswith(scored)
    assert len(scored) >= place


@pytest.mark.parametrize("text", ["Tee für drei, 🍵 and 茶, naïve — 👩‍🚀!", "  spaces\n\n\tand tabs ", "plain"])
def test_what_is_told_letter_by_letter_is_the_text(vocabulary: Vocabulary, text: str) -> None:
    ids = vocabulary.encode(text)[1:]
    reading, pieces = Reading(vocabulary), []
    for token in ids:
        pieces.append(reading.add(token))
        assert "\ufffd" not in pieces[-1]
    assert "".join(pieces) + reading.end() == vocabulary.decode(ids) == text


def test_bytes_that_are_no_letter_are_told_in_the_end(vocabulary: Vocabulary) -> None:
    (half, *_) = vocabulary.encode("🍵")[1:]
    row = Row(vocabulary, [vocabulary.start_id], (), is_scored=False)
    assert row.add(continuations.Token(0, half)) == ("", ())
    assert row.end("length")[0] == "\ufffd"
    reading = Reading(vocabulary)
    assert any(reading.add(half) for _ in range(20))


def test_a_text_ends_with_the_context(writer: Writer, vocabulary: Vocabulary) -> None:
    ids = tuple(vocabulary.encode("word " * 600)[: writer.context_tokens - 3])
    _, done = carry_out(writer, prompts=(ids,), max_tokens=100)
    assert done.written_tokens <= 4
    with pytest.raises(InvalidInput, match="the model's context 512"):
        texts(writer, prompts=(PROMPT, "word " * 600), max_tokens=1)
    with pytest.raises(InvalidInput, match="no token 9000"):
        texts(writer, prompts=((9000,),), max_tokens=1)
    assert texts(writer, prompts=(PROMPT,), max_tokens=0, echo=True) == [PROMPT]


def test_nothing_more_is_written_for_somebody_who_is_gone(writer: Writer) -> None:
    said: list[Said] = []
    order = Write(order=1, prompts=(PROMPT,), texts=3, max_tokens=200, temperature=0.0)
    writer.carry_out(order, said.append, lambda: len(said) < 10)  # type: ignore[arg-type]
    assert len(said) == 10
    assert not any(isinstance(one, Done) for one in said)


def test_a_model_that_does_not_fit_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import psutil

    free = psutil.virtual_memory()._replace(available=20_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(ServerUnavailable, match=r"takes 21.1 MB of memory, and 20 MB are free"):
        load_directory(TINY)
    with pytest.raises(InvalidModel):
        load_directory(tmp_path)


# ------------------------------------------------------------------------------------------------------- as a process


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "steep.worker.completions", str(TINY)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    with process:
        yield process
        process.kill()


def tell(process: subprocess.Popen[bytes], message: Write | Forget) -> None:
    stdin: IO[bytes] = process.stdin  # type: ignore[assignment]
    stdin.write(message.model_dump_json().encode() + b"\n")
    stdin.flush()


def hear(process: subprocess.Popen[bytes]) -> Said:
    stdout: IO[bytes] = process.stdout  # type: ignore[assignment]
    return SAID.validate_json(stdout.readline())


def test_the_process_takes_orders_forgets_them_and_ends_with_whoever_began_it(process: subprocess.Popen[bytes]) -> None:
    assert hear(process) == Ready(context_tokens=512)
    for number in (1, 2):
        tell(process, Write(order=number, prompts=("a", "b", "c", "d"), texts=16, max_tokens=400, temperature=2.0))
    tell(process, Write(order=3, prompts=((99999,),), max_tokens=1))
    assert isinstance(hear(process), Piece)
    tell(process, Forget(order=2))
    tell(process, Forget(order=1))
    said, pieces = hear(process), 0
    while isinstance(said, Piece):
        assert said.order == 1
        said, pieces = hear(process), pieces + 1
    assert pieces < 5000  # of some 25,000
    assert said == Refused(order=3, code="invalid_input", what="the model has no token 99999", where="prompt.0")
    tell(process, Write(order=4, prompts=("a",), texts=64, max_tokens=400, temperature=2.0))
    assert isinstance(hear(process), Piece)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0  # in the middle of an order


def test_the_process_ends_when_it_does_not_understand_what_it_is_told(process: subprocess.Popen[bytes]) -> None:
    """Nothing would be listened to any more, and it would keep its model for ever."""
    assert isinstance(hear(process), Ready)
    assert process.stdin is not None
    process.stdin.write(b"what?\n")
    process.stdin.flush()
    assert process.wait(timeout=10) == EXIT_FAILED


def test_what_is_forgotten_after_its_end_is_remembered_no_longer() -> None:
    orders = Orders()
    for number in (1, 2):
        orders.take(Write(order=number, prompts=(PROMPT,), max_tokens=1).model_dump_json().encode())
    orders.take(Forget(order=2).model_dump_json().encode())
    taken = iter(orders)
    assert next(taken).order == 1
    assert orders.is_wanted(1)
    orders.take(Write(order=3, prompts=(PROMPT,), max_tokens=1).model_dump_json().encode())
    assert next(taken).order == 3
    orders.take(Forget(order=1).model_dump_json().encode())
    assert [orders.is_wanted(number) for number in (1, 2, 3)] == [False, False, True]
    assert orders._wanted == {3}
