"""Lets `prefect deployment run discover-vectors` take a deployment's bare name.

Prefect wants FLOW/DEPLOYMENT. This plug-in (entry point group `prefect.plugins`, switched on by `[tool.prefect]` in
pyproject.toml, elsewhere by PREFECT_PLUGINS_ENABLED=1) runs when the `prefect` command starts, and writes the full name
in place of a bare one that exactly one deployment carries. Every other command is left as it is.
"""

import sys

import httpx
from prefect.plugins import HookContext, SetupResult, register_hook


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """Complete the deployment's name in `prefect deployment run NAME`; sets no environment."""
    place = _bare_name(sys.argv)
    if place is not None and ctx.api_url:
        found = _full_names(ctx.api_url, sys.argv[place])
        if len(found) == 1:
            sys.argv[place] = found[0]
    return None


def _bare_name(argv: list[str]) -> int | None:
    """Where in `argv` the bare name of a deployment to run stands."""
    words = argv[1:4]
    if len(words) == 3 and words[0] in ("deployment", "deployments") and words[1] == "run":
        return None if words[2].startswith("-") or "/" in words[2] else 3
    return None


def _full_names(api_url: str, name: str) -> list[str]:
    """FLOW/DEPLOYMENT of every deployment called `name`; none where the server does not answer, so Prefect says so."""
    try:
        with httpx.Client(base_url=api_url, timeout=10) as client:
            body = {"deployments": {"name": {"any_": [name]}}}
            found = client.post("/deployments/filter", json=body).raise_for_status().json()
            flows = [client.get(f"/flows/{row['flow_id']}").raise_for_status().json()["name"] for row in found]
    except httpx.HTTPError:
        return []
    return [f"{flow}/{name}" for flow in flows]
