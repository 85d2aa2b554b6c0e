"""The API, all of it below /api/."""

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import create_engine, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import database

# `pool_pre_ping` replaces a connection that a restart of PostgreSQL has ended.
engine = create_engine(database.url("DATABASE_URL"), pool_pre_ping=True)
api = APIRouter(prefix="/api")


class NewEvent(BaseModel):
    """An event to keep."""

    title: str = Field(min_length=1, max_length=200)


@api.get("/health")
def health() -> dict[str, object]:
    """Say that the process answers."""
    return {"ok": True, "service": "api"}


@api.get("/db-health")
def db_health() -> JSONResponse:
    """Say whether the database answers, and its time."""
    try:
        with engine.connect() as connection:
            now = connection.scalar(select(func.now()))
    except SQLAlchemyError:
        return JSONResponse({"db_ok": False}, status_code=503)
    return JSONResponse({"db_ok": True, "now": now.isoformat()})


@api.get("/events")
def events() -> dict[str, object]:
    """List the events."""
    with Session(engine) as session:
        found = session.scalars(select(database.Event).order_by(database.Event.id))
        return {"events": [{"id": each.id, "title": each.title} for each in found]}


@api.post("/events", status_code=201)
def add_event(new: NewEvent) -> dict[str, object]:
    """Keep an event."""
    with Session(engine) as session, session.begin():
        event = database.Event(title=new.title)
        session.add(event)
        session.flush()
        return {"id": event.id, "title": event.title}


app = FastAPI(title="SRQ HPN", docs_url=None, redoc_url=None, openapi_url=None)
app.include_router(api)
