"""See that the document is OpenAPI, and that every answer is as it says.

Reads a file with {"document": ..., "answers": [{"route", "status", "type", "body"}]}.
"""

import json
import sys

from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

with open(sys.argv[1], encoding="utf-8") as file:
    told = json.load(file)
document = told["document"]
validate(document)

for path, item in document["paths"].items():
    for method, operation in item.items():
        for status, response in operation["responses"].items():
            assert response.get("description"), f"{method} {path} {status}: no description"

registry = Registry().with_resource(
    "urn:document", Resource(contents=document, specification=DRAFT202012)
)


def pointer(*parts):
    escaped = (part.replace("~", "~0").replace("/", "~1") for part in parts)
    # A fragment is encoded as any other part of a URI.
    return "urn:document#/" + "/".join(part.replace("{", "%7B").replace("}", "%7D") for part in escaped)


def wrong(answer):
    method, path = answer["route"].split(" ")
    method = method.lower()
    operation = document["paths"].get(path, {}).get(method)
    if operation is None:
        return "the route is not described"
    status = str(answer["status"])
    responses = operation["responses"]
    keys = [key for key in (status, status[0] + "XX", "default") if key in responses]
    if not keys:
        return "the status is not described"
    content = responses[keys[0]].get("content", {})
    kind = (answer["type"] or "").split(";")[0].strip()
    if kind not in content:
        return f"{kind} is not described" if kind or answer["body"] else None
    if kind != "application/json" or "schema" not in content[kind]:
        return None
    where = pointer("paths", path, method, "responses", keys[0], "content", kind, "schema")
    validator = OAS31Validator({"$ref": where}, registry=registry)
    errors = [error.message for error in validator.iter_errors(json.loads(answer["body"]))]
    return "; ".join(errors)[:600] or None


problems = set()
for answer in told["answers"]:
    problem = wrong(answer)
    if problem:
        problems.add(f"{answer['route']} {answer['status']}: {problem} {answer['body'][:200]}")
assert not problems, "\n" + "\n".join(sorted(problems))
assert len(told["answers"]) > 100, "too few answers"
