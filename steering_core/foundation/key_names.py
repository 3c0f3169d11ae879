"""Key names: which environment variables may hold the key of an endpoint that a spec names."""

import re

from steering_core.foundation.errors import SettingError

API_KEY = "OPENAI_API_KEY"
_KEY_NAME = re.compile(r"[A-Z][A-Z0-9_]*_(KEY|TOKEN)")
_NOT_FOR_OTHERS = ("PREFECT_", "STEERFLOW_", "AWS_")  # what is secret there is for one server, and never for this one


def checked_key_name(name: str) -> str:
    """The name of an environment variable that may hold an endpoint's key. Raises SettingError for any other.

    Whoever writes a spec also names the server that is sent the key, so that most variables must not be named.
    """
    if _KEY_NAME.fullmatch(name) and not name.startswith(_NOT_FOR_OTHERS):
        return name
    raise SettingError(
        f"{name[:100]!r} is no environment variable that may be sent to an endpoint: put the endpoint's key into one "
        "whose name ends in _KEY or _TOKEN, in capitals, and does not begin with "
        f"{', '.join(_NOT_FOR_OTHERS[:-1])} or {_NOT_FOR_OTHERS[-1]}"
    )
