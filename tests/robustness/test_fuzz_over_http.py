"""Changed bodies that the SDK reads too: the same message."""

from __future__ import annotations

import json
import random
from typing import Any

import anthropic
import pytest

from streamkit import collect
from streamkit.testing import Reply, serve
from tests.support.bodies import BETA, FIXTURES
from tests.support.clients import PARAMS, sdk_client
from tests.support.events import sse
from tests.support.second_reading import events_of

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

BODIES = {path.stem: path.read_bytes() for path in FIXTURES}


# Where both succeed, both say the same.


def kinder(body: bytes, dice: random.Random) -> bytes:
    """A body with a change that leaves it healthy, or nearly."""
    events = [event for event in events_of(body)[0] if event]
    for _ in range(dice.randint(1, 3)):
        place = dice.randrange(len(events))
        event = json.loads(json.dumps(events[place]))
        match dice.randint(0, 4):
            case 0:
                events.insert(place + 1, {"type": "ping"})
            case 1 if event["type"] == "content_block_delta":
                events.insert(place, event)
            case 2 if event["type"] == "content_block_delta":
                events.pop(place)
            case 3:
                event["unknown_field"] = dice.choice([1, "x", {"a": []}])
                events[place] = event
            case 4 if event["type"] == "message_delta":
                events.insert(place, {**event, "usage": {"output_tokens": dice.randint(1, 99)}})
    return sse(*events)


def plain(message: Any) -> Any:
    made = message.to_dict(warnings=False)
    for block in made["content"]:
        block.pop("parsed_output", None)
    return made


def test_where_the_sdk_succeeds_too_the_messages_are_equal() -> None:
    if tuple(int(part) for part in anthropic.__version__.split(".")[:2]) < (2, 12):
        pytest.skip("older SDKs do not accumulate every field")
    same = both = 0
    names = [name for name in sorted(BODIES) if name not in BETA and name != "unknown_things"]
    changed = [(name, kinder(BODIES[name], random.Random(f"{name} {seed}"))) for name in names for seed in range(12)]
    with serve(*(Reply.recorded(body) for _, body in changed for _ in range(2))) as server:
        client = sdk_client(server)
        for name, body in changed:
            ours = collect(client, on_error="return", retries=0, **PARAMS)
            try:
                with client.messages.stream(**PARAMS) as stream:
                    theirs: Any = stream.get_final_message()
            except Exception:
                theirs = None
            if ours.status == "complete" and theirs is not None:
                both += 1
                assert plain(ours.message) == plain(theirs), (name, body)
            same += 1
    assert both > same // 2
    print(f"{both} of {same} bodies, both succeed and are equal")
