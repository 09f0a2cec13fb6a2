import threading

import numpy as np
import pytest
import torch
from tests.train.conftest import EOS, SEQUENCE_TOKENS, order_of

from steep.artifacts.tokens import TokenDataset
from steep.spec.errors import DamagedArtifact
from steep.train.loader import Loader, Sequences


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "loader"]


def test_a_row_is_the_stream_where_the_order_says(datasets: dict[str, TokenDataset]) -> None:
    order = order_of(datasets)
    sequences = Sequences(datasets, order)
    for index in (0, 1, 17, 10**9):
        location = order.locate(index)
        data = datasets[order.streams[location.stream].name]
        assert np.array_equal(sequences.row(index), data.read(location.start, SEQUENCE_TOKENS + 1))


def test_a_step_holds_its_sequences_once_in_order(datasets: dict[str, TokenDataset]) -> None:
    sequences = Sequences(datasets, order_of(datasets))
    data = sequences.step(100, 7, 3)
    assert [one.batch.input_ids.numel() for one in data.microbatches] == [3 * 64, 3 * 64, 64]
    ids = torch.cat([one.batch.input_ids[0] for one in data.microbatches]).numpy()
    assert np.array_equal(ids, np.concatenate([sequences.row(index)[:-1] for index in range(100, 107)]))
    assert data.num_labels == 7 * 64
    assert data.cursor == 100


def test_documents_are_segments(datasets: dict[str, TokenDataset]) -> None:
    sequences = Sequences(datasets, order_of(datasets))
    seen = 0
    for cursor in range(0, 400, 4):
        batch = sequences.step(cursor, 4, 4).microbatches[0].batch
        begins = set((batch.input_ids[0] == EOS).nonzero().flatten().tolist()) | {0, 64, 128, 192}
        assert batch.cu_seq_lens.tolist() == [*sorted(begins), 256]
        seen += len(begins) - 4
    assert seen > 20


def test_the_base_is_shown_the_replay_rows_and_no_others(datasets: dict[str, TokenDataset]) -> None:
    order = order_of(datasets)
    sequences = Sequences(datasets, order, {"replay"})
    seen = 0
    for cursor in range(0, 64, 4):
        one = sequences.step(cursor, 4, 4).microbatches[0]
        replayed = [i for i in range(4) if order.streams[order.locate(cursor + i).stream].name == "replay"]
        if not replayed:
            assert one.shown is None
            continue
        assert one.shown is not None
        assert one.rows is not None
        assert one.rows.tolist() == [64 * i + offset for i in replayed for offset in range(64)]
        assert torch.equal(one.batch.input_ids[0][one.rows], one.shown.input_ids[0])
        assert torch.equal(one.batch.position_ids[0][one.rows], one.shown.position_ids[0])
        seen += len(replayed)
    assert seen == 16


def test_reads_ahead_from_the_cursor(datasets: dict[str, TokenDataset]) -> None:
    sequences = Sequences(datasets, order_of(datasets))
    with Loader(sequences, 40, sequences_per_step=8, microbatch_sequences=8) as loader:
        for cursor in (40, 48, 56, 64):
            data = loader.next_step()
            assert data.cursor == cursor
            expected = sequences.step(cursor, 8, 8).microbatches[0].batch
            assert torch.equal(data.microbatches[0].batch.input_ids, expected.input_ids)
    assert not loader_threads()


def test_its_thread_ends_when_training_fails(datasets: dict[str, TokenDataset]) -> None:
    sequences = Sequences(datasets, order_of(datasets))
    with pytest.raises(ZeroDivisionError), Loader(sequences, 0, sequences_per_step=1, microbatch_sequences=1):
        raise ZeroDivisionError
    assert not loader_threads()


def test_what_goes_wrong_in_the_thread_is_raised_where_training_waits(datasets: dict[str, TokenDataset]) -> None:
    class Broken(Sequences):
        def row(self, index: int) -> np.ndarray:
            if index >= 2:
                raise DamagedArtifact("is not readable any more", where="tokens-00000.bin")
            return super().row(index)

    broken = Broken(datasets, order_of(datasets))
    with Loader(broken, 0, sequences_per_step=1, microbatch_sequences=1) as loader:
        assert [loader.next_step().cursor, loader.next_step().cursor] == [0, 1]
        with pytest.raises(DamagedArtifact):
            loader.next_step()
    assert not loader_threads()
