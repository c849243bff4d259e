"""The other ways to deploy the template: made on a local cloud without API tasks, and removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gooseherd import certs
from gooseherd.devcloud.stack import DeployedStack, stack_on_local_cloud

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

TEMPLATES = Path(__file__).parents[2] / "deploy" / "cloudformation"
ELSEWHERE = "arn:aws:secretsmanager:us-east-1:123456789012:secret:certificates-AbCdEf"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedStack]:
    folder = tmp_path_factory.mktemp("stack")
    with stack_on_local_cloud(TEMPLATES, folder, settings={}, parameters={"ApiMinTasks": "0"}) as stack:
        yield stack
        stack.delete()
        assert not any(stack.left_over().values()), stack.left_over()


def create(stack: DeployedStack, name: str, template: str | None = None, **parameters: str) -> dict[str, str]:
    """A second stack beside the fixture's; its outputs."""
    given = {
        "Registry": "local",
        "Build": "1",
        "ApiMinTasks": "0",
        "ApiCertificates": ELSEWHERE,
        "WorkerCertificates": ELSEWHERE,
        **parameters,
    }
    cloudformation = stack.client("cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=template or (TEMPLATES / "gooseherd.yaml").read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    (found,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    return {one["OutputKey"]: one["OutputValue"] for one in found["Outputs"]}


def remove(stack: DeployedStack, name: str, bucket: str) -> None:
    stack.client("cloudformation").delete_stack(StackName=name)
    stack.client("s3").delete_bucket(Bucket=bucket)


def test_behind_cloudfront_with_tls_and_documentdb(stack: DeployedStack, tmp_path: Path) -> None:
    certs.make_all(tmp_path / "certs")
    pair = {"Certificate": "ca.pem", "PrivateKey": "ca.key"}
    certificate = stack.client("acm").import_certificate(
        **{name: (tmp_path / "certs" / file).read_bytes() for name, file in pair.items()}
    )["CertificateArn"]
    outputs = create(
        stack,
        "cdn",
        Database="documentdb",
        CertificateArn=certificate,
        Hostname="origin.example.org",
        Cdn="true",
        CdnHostname="files.example.org",
        CdnCertificateArn=certificate,
        Retention="true",
        AlarmTopicArn="arn:aws:sns:us-east-1:123456789012:alarms",
    )
    assert outputs["ApiPublicUrl"] == "https://files.example.org"
    assert (outputs["ApiTrustedProxies"], outputs["ArtifactDelivery"]) == ("2", "redirect")
    url = stack.client("secretsmanager").get_secret_value(SecretId=outputs["DatabaseUrlArn"])["SecretString"]
    assert url.startswith("mongodb://gooseherd:")
    assert "resolve:" not in url
    (balancer,) = [
        one
        for one in stack.client("elbv2").describe_load_balancers()["LoadBalancers"]
        if one["LoadBalancerName"].startswith("cdn-")
    ]
    listeners = stack.client("elbv2").describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])
    assert {(one["Port"], one["Protocol"]) for one in listeners["Listeners"]} == {
        (443, "HTTPS"),
        (80, "HTTP"),
    }
    remove(stack, "cdn", outputs["WorkflowS3Bucket"])


def test_in_a_network_that_is_there_with_postgresql(stack: DeployedStack) -> None:
    ec2: Any = stack.client("ec2")
    subnets = ec2.describe_subnets()["Subnets"]
    ours = [one for one in subnets if one["DefaultForAz"]]
    two = ",".join(one["SubnetId"] for one in ours[:2])
    before = len(ec2.describe_vpcs()["Vpcs"])
    outputs = create(
        stack,
        "mine",
        Database="postgresql",
        VpcId=ours[0]["VpcId"],
        TaskSubnets=two,
        LoadBalancerSubnets=two,
        LoadBalancerScheme="internal",
    )
    assert outputs["EcsWorkerSubnets"] == two
    assert outputs["EcsWorkerAssignPublicIp"] == "DISABLED"
    assert len(ec2.describe_vpcs()["Vpcs"]) == before
    url = stack.client("secretsmanager").get_secret_value(SecretId=outputs["DatabaseUrlArn"])["SecretString"]
    assert url.startswith("postgresql://gooseherd:")
    remove(stack, "mine", outputs["WorkflowS3Bucket"])


def test_a_type_that_is_not_known_is_refused(stack: DeployedStack) -> None:
    template = "Resources:\n  Fleet:\n    Type: AWS::GameLift::Fleet\n"
    with pytest.raises(ClientError, match=r"does not know resources of type AWS::GameLift::Fleet"):
        create(stack, "strange", template)
    stack.client("cloudformation").delete_stack(StackName="strange")
