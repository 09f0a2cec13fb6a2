"""Leases of background loops: of many replicas one at a time acts for each of them."""

from __future__ import annotations

from sqlalchemy import and_, case, or_, select, update

from steep.server.store.database import Database
from steep.server.store.tables import loops


class Loops:
    """Who acts. What a loop does is guarded by itself: a lease that is lost unnoticed costs work, and nothing else."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, holder: str, now: float, *, lease_seconds: float) -> bool:
        """Take or renew the lease of a loop. Returns whether this holder may act until `now + lease_seconds`.

        Args:
            name: of the loop.
            holder: names the replica.
            now: the time.
            lease_seconds: for how long.
        """
        with self._database.write(now, durable=False) as transaction:
            row = {"name": name, "holder": holder, "expires_at": now + lease_seconds, "turn": 1}
            if transaction.put(loops, row, keep=True):
                return True
            mine = loops.c.holder == holder
            # a lease that ends later than any that is taken now was taken by a clock that has been set back since
            free = or_(loops.c.expires_at <= now, loops.c.expires_at > now + 2 * lease_seconds)
            turn = loops.c.turn + case((mine, 0), else_=1)
            values = {"holder": holder, "expires_at": now + lease_seconds, "turn": turn}
            taken = transaction.change(update(loops).where(loops.c.name == name, or_(mine, free)).values(**values))
            return taken > 0

    def release(self, name: str, holder: str, now: float) -> None:
        """Let others act at once, if this holder may."""
        with self._database.write(now, durable=False) as transaction:
            mine = and_(loops.c.name == name, loops.c.holder == holder)
            transaction.execute(update(loops).where(mine).values(expires_at=now))

    def holder(self, name: str, now: float) -> str | None:
        """Who acts now, if anybody does."""
        with self._database.read() as connection:
            current = select(loops.c.holder).where(loops.c.name == name, loops.c.expires_at > now)
            return connection.execute(current).scalar_one_or_none()

    def turns(self, name: str) -> int:
        """How often it has changed hands: 1 is nobody but the first."""
        with self._database.read() as connection:
            found = connection.execute(select(loops.c.turn).where(loops.c.name == name)).scalar_one_or_none()
            return int(found or 0)
