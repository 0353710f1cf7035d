"""The prototype's procedure: Flask, a session and a commit for each request, an idle model."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask, jsonify, request
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

DATABASE = Path(os.environ["BENCHMARK_FOLDER"]) / "flask.db"


class Base(DeclarativeBase):
    """The prototype's tables."""


class InferenceResult(Base):
    """One result."""

    __tablename__ = "inference_results"
    id: Mapped[int] = mapped_column(primary_key=True)
    image_name: Mapped[str]
    prediction: Mapped[float]
    is_fake: Mapped[bool]
    confidence: Mapped[float]
    threshold: Mapped[float]
    processing_time: Mapped[float]
    created_at: Mapped[datetime]


engine = sa.create_engine(f"sqlite:///{DATABASE}", connect_args={"timeout": 30})


@sa.event.listens_for(engine, "connect")
def prepare(connection: Any, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


with engine.begin() as beginning:
    Base.metadata.create_all(beginning)
engine.dispose()  # the workers are forks; each opens connections of its own
app = Flask(__name__)


@app.post("/api/inference/predict")
def predict() -> Any:
    file = request.files["file"]
    file.read()
    now = datetime.now(UTC)
    with Session(engine) as session:
        result = InferenceResult(
            image_name=file.filename or "",
            prediction=0.5,
            is_fake=False,
            confidence=0.0,
            threshold=0.5,
            processing_time=0.0,
            created_at=now,
        )
        session.add(result)
        session.commit()
        inference_id = result.id
    answer = {"prediction": 0.5, "is_fake": False, "confidence": 0.0, "processing_time": 0.0}
    return jsonify(success=True, result=answer, inference_id=inference_id)
