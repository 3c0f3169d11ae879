"""Automations: what the server does by itself about flow runs of which nothing is heard any more.

A flow run sends a heartbeat every three minutes (PREFECT_FLOWS_HEARTBEAT_FREQUENCY). One whose machine is gone for good
is marked Crashed, so that nothing says "Running" for ever; a sweep then has another machine try again.
"""

from datetime import timedelta

from prefect.automations import AutomationCore, EventTrigger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import Posture
from prefect.events.schemas.events import ResourceSpecification

HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed", "AwaitingRetry")}
SILENCE = timedelta(minutes=9)
CLAIMED = timedelta(minutes=15)


def automations(silence: timedelta = SILENCE, claimed: timedelta = CLAIMED) -> list[AutomationCore]:
    """Crash what has sent no heartbeat for `silence`, and what a worker claimed and did not begin within `claimed`."""
    return [
        _crash("steerflow: no heartbeat", {HEARTBEAT}, {HEARTBEAT, *ENDS}, silence),
        _crash(
            "steerflow: claimed and never begun",
            {"prefect.flow-run.Pending"},
            {"prefect.flow-run.Running", *ENDS},
            claimed,
        ),
    ]


def _crash(name: str, after: set[str], expect: set[str], within: timedelta) -> AutomationCore:
    message = f"nothing was heard of it for {within.total_seconds():.0f} s"
    return AutomationCore(
        name=name,
        description="Marks a flow run Crashed whose process or machine is gone.",
        trigger=EventTrigger(
            after=after,
            expect=expect,
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message, force=False)],
    )


def apply(client: SyncPrefectClient, wanted: list[AutomationCore]) -> None:
    """Have the server hold exactly these automations under their names."""
    for automation in wanted:
        there = client.read_automations_by_name(automation.name)
        if there:
            client.update_automation(there[0].id, automation)
        else:
            client.create_automation(automation)
