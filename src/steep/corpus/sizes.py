"""How much text sources hold, about, from sizes of files alone."""

from __future__ import annotations

from collections.abc import Sequence

from steep.corpus.sources import list_files, name_sources
from steep.spec.errors import InvalidCorpus
from steep.spec.job import Source
from steep.spec.units import format_bytes

COMPRESSED_FACTOR = 3.5  # text grows about this much when it is unpacked
COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".zip", ".tgz", ".parquet")


def estimated_bytes(sources: Sequence[Source]) -> tuple[int, str]:
    """Bytes of text that sources hold, about, and a sentence on that; 0 when one of them cannot be listed."""
    total, num_files = 0.0, 0
    for name, source in name_sources(list(sources)).items():
        try:
            files = list_files(name, source)
        except InvalidCorpus as error:
            return 0, f"corpus: {error}"
        num_files += len(files)
        total += sum(
            file.size_bytes * (COMPRESSED_FACTOR if file.path.lower().endswith(COMPRESSED) else 1) for file in files
        )
    return round(total), (
        f"corpus: {num_files} file(s), about {format_bytes(total)} of text; cleaning and deduplication will leave less"
    )
