"""What schemathesis has to be told of this API. What it makes up itself rarely meets anything that is there: half
of its requests are pointed at things that a list names just now.
"""

import json
import os
import re
import urllib.request
import zlib

import schemathesis
from schemathesis import GenerationMode

ROOT, KEY, ADMIN_KEY, TENANT = (os.environ[f"CONTRACT_{name}"] for name in ["ROOT", "API_KEY", "ADMIN_KEY", "TENANT"])


@schemathesis.serializer("application/x-ndjson")
def lines(_context, value):
    """Lines as they are; what was made up in place of them as JSON, as a wrong client would send it."""
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "surrogatepass")


@schemathesis.hook
def filter_case(_context, case):
    """The tenant whose key the run takes, and that key, are not to be deleted under it."""
    tenant = (case.path_parameters or {}).get("tenant")
    return case.method.upper() not in ("DELETE", "PATCH", "PUT") or tenant != TENANT


@schemathesis.hook
def map_case(_context, case):
    """Points every other request at what is there: `{id}` at something of the list before it, `targetId` at a
    target. Sequences are left as they are: they have ids from their own answers."""
    if case.meta is None or case.meta.phase.name == "stateful":
        return case
    chance = zlib.crc32(repr((case.operation.label, case.path_parameters, case.query, case.body)).encode())
    if chance % 2:
        return case
    right = {place.value for place, part in case.meta.components.items() if part.mode == GenerationMode.POSITIVE}
    if "path" in right:
        point_path(case, chance)
    bases = re.match(r"(.*/webhooks)/", case.operation.path)
    if bases:
        for place, fields in [("query", case.query), ("body", case.body)]:
            if place in right and isinstance(fields, dict):
                point_fields(fields, bases[1], chance)
                # A cursor is good for one list, and nobody makes one up.
                fields.pop("cursor", None)
    return case


def point_path(case, chance):
    before = ""
    for segment in case.operation.path.split("/")[1:]:
        if segment.startswith("{") and (there := listed(before)):
            item = there[chance // 2 % len(there)]
            name = segment.strip("{}")
            case.path_parameters[name] = item.get("id", item.get("name"))
        if segment.startswith("{"):
            segment = str(case.path_parameters[segment.strip("{}")])
        before += f"/{segment}"


def point_fields(fields, base, chance):
    for name in fields:
        if name.endswith("Id") and (there := listed(f"{base}/{name.removesuffix('Id')}s")):
            fields[name] = there[chance // 2 % len(there)]["id"]


def listed(path):
    """What a list has now, without the run's own tenant; nothing where there is no such list."""
    key = ADMIN_KEY if "/admin/" in path else KEY
    request = urllib.request.Request(ROOT + path, headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return [item for item in json.load(answer)["items"] if item.get("name") != TENANT]
    except (OSError, ValueError, KeyError, TypeError):
        return []
