"""The list of models: what there is to complete prompts with."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import event
from tests.server.serving import serving
from tests.server.shelving import Shelf


def test_the_list_has_what_can_be_used_and_is_made_by_few_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path)
    jobs = []
    for _ in range(3):
        shelf.now += 1.0
        jobs.append(shelf.job(10, 20))
    shelf.store.checkpoints.verified(jobs[1], 20, "damaged", "rotten", shelf.now)
    shelf.store.checkpoints.delete(jobs[2], 10, 0, "", shelf.now)
    shelf.service.close()
    queries: list[str] = []
    with serving(tmp_path) as house, house.http(house.key("viewer")) as http:
        engine = house.service.store.database.engine
        event.listen(engine, "before_cursor_execute", lambda *all: queries.append(all[2]))
        answer = http.get("/v1/models").json()
        assert [one["id"] for one in answer["data"]] == [
            "tiny-base", f"ft:{jobs[2]}:step-20", f"ft:{jobs[1]}:step-10", f"ft:{jobs[0]}:step-10", f"ft:{jobs[0]}:step-20",
        ]  # fmt: skip
        assert (answer["first_id"], answer["last_id"], answer["has_more"]) == (
            "tiny-base",
            f"ft:{jobs[0]}:step-20",
            False,
        )
        assert len([query for query in queries if "FROM checkpoints" in query]) == 1
        monkeypatch.setattr("steep.server.openai.models.MOST_JOBS", 2)
        answer = http.get("/v1/models").json()
        assert (len(answer["data"]), answer["has_more"]) == (3, True)
