"""What somebody writes against the Python client: types and functions come from the document alone."""

import os
import time

from hookwright_client import AuthenticatedClient
from hookwright_client.api.deliveries import list_deliveries
from hookwright_client.api.endpoints import create_endpoint
from hookwright_client.api.events import publish_events
from hookwright_client.models import EndpointToMake, EventToPublish, Problem

client = AuthenticatedClient(
    base_url=os.environ["CONTRACT_ROOT"], token=os.environ["CONTRACT_API_KEY"], raise_on_unexpected_status=True
)

endpoint = create_endpoint.sync(
    client=client, body=EndpointToMake(url="http://127.0.0.1:9/taken", events=["core.orders.*"])
)
assert endpoint.secret.startswith("whsec_"), endpoint

event = publish_events.sync(client=client, body=EventToPublish(type_="core.orders.created.v1", payload={"orderId": 42}))
assert event.id, event

end = time.monotonic() + 30
while True:
    page = list_deliveries.sync(client=client, target_id=endpoint.id, status="delivered")
    if page.items:
        break
    assert time.monotonic() < end, "no delivery within 30 s"
    time.sleep(0.02)  # what another process does can only be asked for
[delivery] = page.items
assert (delivery.event_id, delivery.target_id, delivery.attempt_count) == (event.id, endpoint.id, 1), delivery
assert delivery.accepted_at.tzinfo, delivery

refused = create_endpoint.sync_detailed(client=client, body=EndpointToMake(url="nowhere", events=["core.orders.*"]))
assert refused.status_code == 422, refused
assert isinstance(refused.parsed, Problem), refused
assert [error.field for error in refused.parsed.errors] == ["url"], refused.parsed
