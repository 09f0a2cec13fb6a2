"""Sources that are not there, and the keys that name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from steep.corpus.missing import missing_sources, require_sources
from steep.spec.errors import InvalidCorpus
from steep.spec.job import JobSpec


def test_missing_sources_go_by_their_keys(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    sources = [str(tmp_path / "here"), "hf://org/data", str(tmp_path / "*.txt"), f"file://{tmp_path}/gone"]
    values = {"name": "job", "base": "org/m", "corpus": {"sources": sources}, "replay": str(tmp_path / "novels")}
    spec = JobSpec.model_validate(values)
    assert missing_sources(spec) == {
        "corpus.sources.3": f"file://{tmp_path}/gone",
        "replay.source": str(tmp_path / "novels"),
    }
    with pytest.raises(InvalidCorpus, match=r"corpus\.sources\.3 \(.*, replay\.source \(.*no such file or directory"):
        require_sources(spec)


def test_a_job_whose_sources_are_all_there_passes(tmp_path: Path) -> None:
    spec = JobSpec.model_validate({"name": "job", "base": "org/m", "corpus": {"sources": [str(tmp_path)]}})
    require_sources(spec)
