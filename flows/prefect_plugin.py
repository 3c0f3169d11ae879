"""Lets `prefect deployment run discover-vectors` take a deployment's bare name.

Prefect wants FLOW/DEPLOYMENT. This plug-in (entry point group `prefect.plugins`, switched on by `[tool.prefect]` in
pyproject.toml, elsewhere by PREFECT_PLUGINS_ENABLED=1) runs when the `prefect` command starts, and writes the full name
in place of a bare one that exactly one deployment carries. A name that no deployment carries ends the command with what
was probably meant, and so does a parameter that the flow run would fail by, such as a spec that this clone has not.
Every other command is left as it is.
"""

import sys
from collections.abc import Iterable

import httpx
from prefect.plugins import HookContext, SetupResult, register_hook
from prefect.settings import get_current_settings

from flows.service.loopback import LOOPBACK
from flows.typed import Form, parameters, refuse_other_forms, refuse_what_is_not_there, with_whole_paths
from steering_core.foundation.suggestions import did_you_mean

UP = "`make up` starts this clone's server"


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """Complete the name in `prefect deployment run NAME`; SystemExit unless it names exactly one, of what is there."""
    if _runs_by_name(sys.argv):
        known = _known(ctx.api_url)
        sys.argv[3] = _full_name(known, sys.argv[3])
        given = parameters(sys.argv[4:])
        refuse_other_forms(given, known[sys.argv[3]])
        if httpx.URL(str(ctx.api_url)).host in LOOPBACK:  # its workers have this machine's files
            refuse_what_is_not_there(given)
            sys.argv[4:] = with_whole_paths(sys.argv[4:])
    return None


def _runs_by_name(argv: list[str]) -> bool:
    """Whether the command is `prefect deployment run NAME …`."""
    words = argv[1:4]
    asked = len(words) == 3 and words[0] in ("deployment", "deployments") and words[1] == "run"
    return asked and not words[2].startswith("-")


def _full_name(names: Iterable[str], name: str) -> str:
    """FLOW/DEPLOYMENT of the only deployment called `name`. SystemExit, with what to type, for any other number."""
    found = [full for full in names if name in (full, full.partition("/")[2])]
    if len(found) > 1:
        raise SystemExit(f"Several deployments are called {name!r}: give one of {', '.join(found)}.")
    if not found:
        known = names if "/" in name else [full.partition("/")[2] for full in names]
        raise SystemExit(f"There is no deployment {name!r}: {did_you_mean(name, known)}")
    return found[0]


def _known(api_url: str | None) -> dict[str, dict[str, Form]]:
    """What `_deployments` gives. SystemExit, with the way out, where no server tells."""
    if not api_url:
        raise SystemExit(f"No Prefect server is known here: {UP}.")
    try:
        return _deployments(api_url)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        why = "wants another PREFECT_API_AUTH_STRING" if status == httpx.codes.UNAUTHORIZED else f"answers {status}"
        raise SystemExit(f"The Prefect server at {api_url} {why}.") from None
    except httpx.HTTPError as error:
        raise SystemExit(f"No Prefect server answers at {api_url} ({type(error).__name__}): {UP}.") from None


def _deployments(api_url: str) -> dict[str, dict[str, Form]]:
    """The forms of every deployment's parameters, by FLOW/DEPLOYMENT. Raises httpx.HTTPError for no answer."""
    secret = get_current_settings().api.auth_string
    user, _, password = secret.get_secret_value().partition(":") if secret else ("", "", "")
    with httpx.Client(base_url=api_url, timeout=10, auth=(user, password) if secret else None) as client:
        rows = client.post("/deployments/filter", json={}).raise_for_status().json()
        ids = sorted({row["flow_id"] for row in rows})
        flows = client.post("/flows/filter", json={"flows": {"id": {"any_": ids}}}).raise_for_status().json()
    names = {flow["id"]: flow["name"] for flow in flows}
    forms = {f"{names[row['flow_id']]}/{row['name']}": row["parameter_openapi_schema"]["properties"] for row in rows}
    return dict(sorted(forms.items()))
