"""Rows become flat batches whose segments are documents."""

from __future__ import annotations

import numpy as np
import pytest

from steep.model.batch import IGNORED, make_batch, pack

EOS, BOS = 0, 1


def test_without_bos_the_eos_before_a_document_is_its_start_token() -> None:
    batch = make_batch([np.array([5, 6, EOS, 7, 8, EOS, 9])], EOS, None)
    assert batch.input_ids.tolist() == [[5, 6, EOS, 7, 8, EOS]]
    assert batch.labels.tolist() == [6, EOS, 7, 8, EOS, 9]
    assert batch.cu_seq_lens.tolist() == [0, 2, 5, 6]
    assert batch.position_ids.tolist() == [[0, 1, 0, 1, 2, 0]]
    assert (batch.num_labels, batch.max_length) == (6, 3)


def test_with_bos_nothing_is_learned_across_documents() -> None:
    batch = make_batch([np.array([5, 6, EOS, BOS, 7, 8, EOS])], EOS, BOS)
    assert batch.labels.tolist() == [6, EOS, IGNORED, 7, 8, EOS]
    assert batch.cu_seq_lens.tolist() == [0, 3, 6]
    assert batch.num_labels == 5


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.uint32])
def test_rows_never_share_a_segment_and_are_left_as_they_are(dtype: type) -> None:
    rows = [np.array([5, 6, 7], dtype=dtype), np.array([8, EOS, 9], dtype=dtype)]
    before = [row.copy() for row in rows]
    batch = make_batch(rows, EOS, 9)
    assert batch.cu_seq_lens.tolist() == [0, 2, 4]
    assert batch.position_ids.tolist() == [[0, 1, 0, 1]]
    assert batch.labels.tolist() == [6, 7, EOS, IGNORED]
    assert all((row == old).all() for row, old in zip(rows, before, strict=True))


def test_packed_segments_keep_their_bounds() -> None:
    batch = pack([(np.array([4, 5]), np.array([5, 6])), (np.array([7]), np.array([8]))])
    assert batch.cu_seq_lens.tolist() == [0, 2, 3]
    assert batch.input_ids.tolist() == [[4, 5, 7]]
    assert batch.labels.tolist() == [5, 6, 8]
    assert batch.cu_seq_lens.dtype.itemsize == 4
