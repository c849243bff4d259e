"""Whether deploy/cloudformation is what AWS takes: cfn-lint for templates, parliament for their IAM policies.

Both have their rules in their packages and ask nobody. Prints what they find; exit status 1 when they do.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "cloudformation"
_BODY_BYTES: Final = 51_200
"""Most that CreateStack takes in the request itself, without a bucket in between."""
_ACCOUNT: Final = "123456789012"
_ARNS: Final = {
    "AttemptRole": f"arn:aws:iam::{_ACCOUNT}:role/attempt",
    "Bucket": "arn:aws:s3:::artifacts",
    "Cluster": f"arn:aws:ecs:eu-north-1:{_ACCOUNT}:cluster/one",
    "ApiLogs": f"arn:aws:logs:eu-north-1:{_ACCOUNT}:log-group:api:*",
    "WorkerLogs": f"arn:aws:logs:eu-north-1:{_ACCOUNT}:log-group:worker:*",
    "WorkerExecutionRole": f"arn:aws:iam::{_ACCOUNT}:role/worker-execution",
    "EnvironmentFile": "arn:aws:s3:::settings/gooseherd.env",
    "SourceRoleArns": f"arn:aws:iam::{_ACCOUNT}:role/reader",
}
_SECRET: Final = f"arn:aws:secretsmanager:eu-north-1:{_ACCOUNT}:secret:one-AbCdEf"
_NAMES: Final = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-north-1",
    "AWS::AccountId": _ACCOUNT,
    "AWS::StackName": "gooseherd",
}
_WITHOUT_RESOURCE: Final = frozenset({"ecr:GetAuthorizationToken", "ecs:ListTasks"})
"""Neither takes one; of ListTasks the cluster is a condition."""


def main(argv: Sequence[str]) -> int:
    """Check the named templates, or all."""
    paths = [Path(name) for name in argv] or sorted(FOLDER.glob("*.yaml"))
    found = [problem for path in paths for problem in problems(path)]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


def problems(path: Path) -> Iterator[str]:
    """What is wrong with a template, a line each."""
    import cfnlint  # late: its import takes seconds, in each process that collects a test of this
    from parliament import analyze_policy_string  # late: it leaves files open for the collector

    text = path.read_text(encoding="utf-8")
    if len(text.encode()) > _BODY_BYTES:
        yield f"{path.name}: {len(text.encode())} bytes; {_BODY_BYTES} can be deployed without a bucket"
    for match in cfnlint.lint(text):
        yield f"{path.name}:{match.linenumber}: {match.rule.id} {match.message}"
    for name, policy in policies(template(path)):
        for finding in analyze_policy_string(json.dumps(policy)).findings:
            if finding.issue == "RESOURCE_STAR" and set(finding.detail) <= _WITHOUT_RESOURCE:
                continue
            yield f"{path.name}: {name}: {finding.issue} {finding.detail} {finding.location}"


def template(path: Path) -> dict[str, Any]:
    """The template, with intrinsic functions in their long form."""
    from cfnlint.decode import decode  # late, as above

    read, _ = decode(str(path))
    return dict(json.loads(json.dumps(read, default=str)))


def policies(read: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All identity policies of a template, with names filled in, by the resource that has them."""
    for name, resource in read["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::IAM::Policy":
            yield name, resolved(properties["PolicyDocument"])
        for policy in properties.get("Policies", ()) if resource["Type"] == "AWS::IAM::Role" else ():
            yield name, resolved(policy["PolicyDocument"])


def resolved(value: Any) -> Any:
    """With references filled in, of conditions the first branch taken."""
    if isinstance(value, list):
        return [resolved(one) for one in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"Ref": name}:
            return _NAMES.get(name) or _ARNS.get(name) or _SECRET
        case {"Fn::GetAtt": [name, *_]}:
            return _ARNS[name]
        case {"Fn::GetAtt": str(name)}:
            return _ARNS[name.partition(".")[0]]
        case {"Fn::If": [_, first, _]}:
            return resolved(first)
        case {"Fn::Select": _}:
            return "arn:aws:s3:::settings"
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([\w:]+)(?:\.\w+)?\}", lambda found: _filled(found[1]), text)
    return {name: resolved(inner) for name, inner in value.items()}


def _filled(name: str) -> str:
    return "one" if name == "Cluster" else _NAMES.get(name) or _ARNS[name]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
