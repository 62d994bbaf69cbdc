"""Log records on the bus: topic ``logging.<level>``, in the field layout of Python's ``LogRecord``.

``logging.makeLogRecord(message.payload)`` gives the record back. A traceback travels as text, in ``exc_text``.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import zmq

from gazed_bus.client import Pusher
from gazed_bus.rundir import RunDir

__all__ = ["BusHandler", "log_to_bus"]

_FIELDS = (
    *("name", "levelname", "levelno", "pathname", "filename", "module", "lineno", "funcName"),
    *("exc_text", "stack_info", "created", "msecs", "relativeCreated"),
    *("thread", "threadName", "processName", "process"),
)
_MAX_TEXT = 32_768
_PLAIN = (str, int, float, bool, type(None))


class BusHandler(logging.Handler):
    """Ships records to the broker. It never waits and never raises: ``dropped`` counts the records it could not ship.

    ``hwm`` bounds the records that wait while the broker is away.
    """

    def __init__(
        self, endpoint: str, *, context: zmq.Context[zmq.Socket[bytes]] | None = None, hwm: int = 1000
    ) -> None:
        super().__init__()
        self.dropped = 0
        self._pusher = Pusher(endpoint, context=context, hwm=hwm)

    def emit(self, record: logging.LogRecord) -> None:
        """Ship one record; ``logging`` holds the handler's lock meanwhile."""
        try:
            self._pusher.send(f"logging.{record.levelname.lower()}", _as_payload(record))
        except Exception:  # noqa: BLE001 - whatever an argument's __str__ does, the caller must not suffer
            self.dropped += 1

    def close(self) -> None:
        """Close; records in flight still have a second."""
        self.acquire()
        self._pusher.close()
        self.release()
        super().close()


def _as_payload(record: logging.LogRecord) -> dict[str, Any]:
    payload = {field: getattr(record, field) for field in _FIELDS}
    # Arguments that msgpack cannot carry are formatted here; so a receiver never formats what was formatted already.
    arguments = record.args if isinstance(record.args, tuple) else ()
    plain = isinstance(record.msg, str) and len(arguments) == len(record.args or ())
    if plain and all(isinstance(item, _PLAIN) for item in arguments):
        payload |= {"msg": record.msg, "args": arguments}
    else:
        payload |= {"msg": record.getMessage(), "args": ()}
    if record.exc_info and not record.exc_text:
        payload["exc_text"] = logging.Formatter().formatException(record.exc_info)
    payload["exc_info"] = None
    return {key: value[:_MAX_TEXT] if isinstance(value, str) else value for key, value in payload.items()}


def log_to_bus(name: str, run: RunDir) -> BusHandler:
    """Send what this process logs (INFO and above) to the bus and, one line each, to standard error."""
    handler = BusHandler(run.push)
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(logging.Formatter(f"%(asctime)s {name} %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler, lines], force=True)
    return handler
