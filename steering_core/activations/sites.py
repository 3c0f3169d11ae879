"""Names of sites of a block and of positions of a prompt, known without loading MLX."""

from steering_core.foundation.errors import PositionUnknown, SiteNotFound

SITE = "resid_post"
SITES = ("resid_post", "resid_pre", "attn_out", "mlp_out")
POSITIONS = ("last", "mean", "response", "all", "span:a:b")


def checked_site(site: str) -> str:
    """`site` itself. Raises SiteNotFound for one that no architecture has."""
    if site not in SITES:
        raise SiteNotFound(f"there is no site {site!r}: name one of {', '.join(SITES)}")
    return site


def checked_position(position: str) -> str:
    """`position` itself. Raises PositionUnknown for one that names no tokens."""
    if position not in POSITIONS[:-1]:
        span(position)
    return position


def span(position: str) -> slice:
    """The tokens of `span:a:b`, counted as Python slices do. Raises PositionUnknown."""
    name, _, bounds = position.partition(":")
    try:
        begin, end = (int(bound) if bound else None for bound in bounds.split(":"))
    except ValueError:
        name = ""
    if name != "span":
        raise PositionUnknown(
            f"there is no position {position!r}: name one of {', '.join(POSITIONS)} (span:-5: is five)"
        )
    return slice(begin, end)
