"""`lint`: every check on one concept."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from steering_core.authoring.lint.finding import Finding, warning
from steering_core.authoring.lint.items import letters, option_order, options_on_lines
from steering_core.authoring.lint.rows import described, enough, near_duplicates, unfilled
from steering_core.authoring.lint.sides import broken_text, giveaways, lengths, same_sides, surface_probe, word_lists
from steering_core.authoring.lint.tokens import model_checks
from steering_core.concepts.concept import Concept
from steering_core.models import Model

LintCheck = Callable[[Concept], Iterator[Finding]]
CHECKS: tuple[LintCheck, ...] = (
    same_sides,
    broken_text,
    near_duplicates,
    lengths,
    giveaways,
    surface_probe,
    letters,
    options_on_lines,
    option_order,
    word_lists,
    enough,
    described,
    unfilled,
)
ACCEPTABLE = ("lengths", "giveaway", "surface", "tokens")


def lint(concept: Concept, model: Model | None = None) -> list[Finding]:
    """What is wrong with a concept, errors first; with a model also what its tokenizer makes of it.

    A check that the card accepts, with a reason, is reported as accepted: some contrasts are their own giveaway. An
    acceptance that no finding needs is itself one.
    """
    found = [finding for check in CHECKS for finding in check(concept)]
    found += list(model_checks(concept, model)) if model else []
    reasons = {check: reason for check, reason in concept.card.accepted.items() if check in ACCEPTABLE}
    kept = [finding for finding in found if finding.check not in reasons]
    kept += [_accepted(check, found, reason) for check, reason in reasons.items() if _of(check, found)]
    kept += _stale(concept, found, model is not None)
    return sorted(kept, key=lambda finding: ("error", "warning", "accepted").index(finding.level))


def _of(check: str, found: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.check == check]


def _accepted(check: str, found: Sequence[Finding], reason: str) -> Finding:
    """All findings of one check as a single accepted one."""
    first, *more = _of(check, found)
    message = f"{first.message}; and {len(more)} more of this kind" if more else first.message
    return dataclasses.replace(first, level="accepted", message=message, remedy=reason)


def _stale(concept: Concept, found: Sequence[Finding], with_model: bool) -> list[Finding]:
    checks = {finding.check for finding in found}
    unknown = [check for check in concept.card.accepted if check not in ACCEPTABLE]
    looked_for = [check for check in concept.card.accepted if check in ACCEPTABLE and (with_model or check != "tokens")]
    stale = [check for check in looked_for if check not in checks]
    refused = f"only {', '.join(ACCEPTABLE)} can be accepted"
    return [
        *(warning("card", f"the card accepts {check!r}", refused) for check in unknown),
        *(warning("card", f"the card accepts {check!r}, which finds nothing", "take it out") for check in stale),
    ]
