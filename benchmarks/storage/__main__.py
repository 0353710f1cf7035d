"""History and models on real servers beside plain drivers, in one run.

    python benchmarks/storage [PART...] [--rows 1000000] [--megabytes 300] [--large 2000]

Parts, all unless some are named: `inserts` (batches of 1 and 32 on SQLite and PostgreSQL beside
sqlite3 and psycopg), `writers` (1, 2 and 4 processes that write to one SQLite file), `history`
(pages and statistics of a million rows), `labels` (the import of 10,000 labels), `models` (a
download from S3 beside plain minio-py), `memory` (of a process that moves 2 GB). PostgreSQL and S3
come out of the test group's wheels and npm; nothing has to be there.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import history
import inserts
import labels
import models
import psycopg
import sqlalchemy as sa
import writers

from d3.adapters.sql import Database, upgrade

sys.path.append(str(Path(__file__).resolve().parents[2]))  # for tests.support
from tests.support.servers import local_postgresql

PARTS = ("inserts", "writers", "history", "labels", "models", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--large", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    parts = asked.parts or PARTS
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {load}")
    print(f"Python {platform.python_version()}, SQLAlchemy {sa.__version__}", end=", ")
    print(f"SQLite {sqlite3.sqlite_version}, psycopg {psycopg.__version__}")
    if "inserts" in parts:
        with databases() as both:
            for database in both:
                inserts.compare(database, asked.repeat)
    if "writers" in parts:
        writers.compare((1, 2, 4), asked.repeat)
    if "history" in parts:
        with databases() as both:
            for database in both:
                history.show(database, asked.rows, asked.repeat)
    if "labels" in parts:
        with databases() as both:
            for database in both:
                labels.show(database, min(asked.rows, 100_000), asked.repeat)
    if "models" in parts:
        models.compare(asked.megabytes, asked.repeat)
    if "memory" in parts:
        models.watch_memory(asked.large)


@contextmanager
def databases() -> Iterator[list[Database]]:
    """An SQLite and a PostgreSQL with D3's tables."""
    with (
        tempfile.TemporaryDirectory(prefix="d3-bench-") as folder,
        local_postgresql() as server,
        server.database() as url,
    ):
        both = [
            Database(Path(folder) / "d3.db", statement_seconds=600),
            Database(url, statement_seconds=600),
        ]
        for database in both:
            upgrade(database)
        yield both
        for database in both:
            database.close()


if __name__ == "__main__":
    main()
