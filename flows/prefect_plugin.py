"""Lets `prefect deployment run discover-vectors` take a deployment's bare name.

Prefect wants FLOW/DEPLOYMENT. This plug-in (entry point group `prefect.plugins`, switched on by `[tool.prefect]` in
pyproject.toml, elsewhere by PREFECT_PLUGINS_ENABLED=1) runs when the `prefect` command starts, and writes the full name
in place of a bare one that exactly one deployment carries. A name that no deployment carries ends the command with what
was probably meant. Every other command is left as it is.
"""

import sys

import httpx
from prefect.plugins import HookContext, SetupResult, register_hook
from prefect.settings import get_current_settings

from steering_core.foundation.data_files import did_you_mean

UP = "`make up` starts this clone's server"


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """Complete the name in `prefect deployment run NAME`; SystemExit unless it names exactly one."""
    place = _bare_name(sys.argv)
    if place is not None:
        sys.argv[place] = _full_name(ctx.api_url, sys.argv[place])
    return None


def _bare_name(argv: list[str]) -> int | None:
    """Where in `argv` the bare name of a deployment to run stands."""
    words = argv[1:4]
    if len(words) == 3 and words[0] in ("deployment", "deployments") and words[1] == "run":
        return None if words[2].startswith("-") or "/" in words[2] else 3
    return None


def _full_name(api_url: str | None, name: str) -> str:
    """FLOW/DEPLOYMENT of the only deployment called `name`. SystemExit, with what to type, for any other number."""
    names = _known(api_url)
    found = [full for full in names if full.partition("/")[2] == name]
    if len(found) > 1:
        raise SystemExit(f"Several deployments are called {name!r}: give one of {', '.join(found)}.")
    if not found:
        known = [full.partition("/")[2] for full in names]
        raise SystemExit(f"There is no deployment {name!r}: {did_you_mean(name, known)}")
    return found[0]


def _known(api_url: str | None) -> list[str]:
    """FLOW/DEPLOYMENT of every deployment. SystemExit, with the way out, where no server tells."""
    if not api_url:
        raise SystemExit(f"No Prefect server is known here: {UP}.")
    try:
        return _full_names(api_url)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        why = "wants another PREFECT_API_AUTH_STRING" if status == httpx.codes.UNAUTHORIZED else f"answers {status}"
        raise SystemExit(f"The Prefect server at {api_url} {why}.") from None
    except httpx.HTTPError as error:
        raise SystemExit(f"No Prefect server answers at {api_url} ({type(error).__name__}): {UP}.") from None


def _full_names(api_url: str) -> list[str]:
    """FLOW/DEPLOYMENT of every deployment of the server. Raises httpx.HTTPError where it does not answer."""
    secret = get_current_settings().api.auth_string
    user, _, password = secret.get_secret_value().partition(":") if secret else ("", "", "")
    with httpx.Client(base_url=api_url, timeout=10, auth=(user, password) if secret else None) as client:
        rows = client.post("/deployments/filter", json={}).raise_for_status().json()
        ids = sorted({row["flow_id"] for row in rows})
        flows = client.post("/flows/filter", json={"flows": {"id": {"any_": ids}}}).raise_for_status().json()
    names = {flow["id"]: flow["name"] for flow in flows}
    return sorted(f"{names[row['flow_id']]}/{row['name']}" for row in rows)
