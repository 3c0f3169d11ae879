"""A user's mistake in the log of a flow run: one line that says what to do, without a traceback.

Prefect logs an error of a flow with its traceback where it is caught, and again where the process ends. For a
SteerflowError the message is all that helps: it names the thing, the value and the remedy. Any other error keeps its
traceback.
"""

import logging

from prefect.logging import get_logger

from steering_core.foundation.errors import SteerflowError

LOGGERS = ("flow_runs", "task_runs", "engine")


def tell_faults_in_one_line() -> None:
    """Have Prefect's loggers of this process leave out tracebacks of SteerflowErrors; asking twice is asking once."""
    for name in LOGGERS:
        get_logger(name).addFilter(without_traceback)  # the same filter is added once


def without_traceback(record: logging.LogRecord) -> bool:
    """Keep every record, that of a SteerflowError without its traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, SteerflowError):
        record.exc_info = record.exc_text = None
        if str(error) not in record.getMessage():
            record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}: {error}", ()
    return True
