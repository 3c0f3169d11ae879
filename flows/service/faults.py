"""A user's mistake in the log of a flow run: one line that says what to do, once, and without a traceback.

Prefect logs an error of a flow up to four times: where its task ends, with its traceback where it is caught, in the
flow run's last state, and with its traceback again where the process ends. For a SteerflowError the message is all that
helps: it names the thing, the value and the remedy. So the first line that holds it stays, and later ones go without
it. States keep it: what says *Failed* says why. Any other error keeps its lines and tracebacks.
"""

import logging

from prefect.logging import get_logger

from steering_core.foundation.errors import SteerflowError

LOGGERS = ("flow_runs", "task_runs", "engine")
_ENDS = "Finished in state "  # then the state's name and, in brackets, its message as Python writes a text
_PROCESS_ENDS = "Engine execution exited"


class SaidOnce(logging.Filter):
    """Leaves out tracebacks of SteerflowErrors, and their messages where an earlier line had them."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is worth a line, after it was made short."""
        message, named = record.getMessage(), record.args if isinstance(record.args, tuple) else ()
        error = record.exc_info[1] if record.exc_info else next(filter(_is_mistake, named), None)
        if isinstance(error, SteerflowError):
            record.exc_info = record.exc_text = None
            record.msg, record.args = self._shortened(message, error), ()
            return bool(record.msg)
        if message.startswith(_ENDS):
            if any(_quoted(text) in message for text in self.said):
                record.msg, record.args = message.partition("(")[0], ()
            elif record.levelno >= logging.ERROR:
                self.said.append(message)
        return True

    def _shortened(self, message: str, error: SteerflowError) -> str:
        """What Prefect says of an error, with its message if that is news; nothing where the process merely ends."""
        kind, text = type(error).__name__, str(error)
        told = any(text in said or _quoted(text) in said for said in self.said)
        self.said.append(text)
        if told:
            return "" if message.startswith(_PROCESS_ENDS) else message.replace(repr(error), f"{kind}, as said above")
        whole = f"{kind}: {text}"
        return message.replace(repr(error), whole) if repr(error) in message else f"{message}: {whole}"


def _is_mistake(value: object) -> bool:
    return isinstance(value, SteerflowError)


def _quoted(text: str) -> str:
    """A text as it stands in a Python literal, without its quotes."""
    return repr(text)[1:-1]


SAID_ONCE = SaidOnce()


def tell_faults_in_one_line() -> None:
    """Have Prefect's loggers of this process say a SteerflowError once, from this flow run on."""
    SAID_ONCE.said.clear()
    for name in LOGGERS:
        get_logger(name).addFilter(SAID_ONCE)  # the same filter is added once
