"""The other ways to deploy the template: made on a local cloud beside each other, and removed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
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
    with stack_on_local_cloud(TEMPLATES, folder, settings={}, parameters={"ApiMinTasks": "1"}) as stack:
        yield stack
        stack.delete()
        assert not any(stack.left_over().values()), stack.left_over()


def create(stack: DeployedStack, name: str, template: str | None = None, **parameters: str) -> dict[str, str]:
    """A second stack beside the fixture's; its outputs."""
    given = {
        "Registry": "local",
        "Build": "1",
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
    return {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", ())}


def remove(stack: DeployedStack, name: str, bucket: str) -> None:
    stack.client("cloudformation").delete_stack(StackName=name)
    stack.client("s3").delete_bucket(Bucket=bucket)


def test_behind_cloudfront_with_tls_and_documentdb(stack: DeployedStack, tmp_path: Path) -> None:
    certs.make_all(tmp_path / "certs")
    pair = {"Certificate": "ca.pem", "PrivateKey": "ca.key"}
    certificate = stack.client("acm").import_certificate(
        **{name: (tmp_path / "certs" / file).read_bytes() for name, file in pair.items()}
    )["CertificateArn"]
    ec2: Any = stack.client("ec2")
    edges = ec2.create_managed_prefix_list(
        PrefixListName="cloudfront", MaxEntries=1, AddressFamily="IPv4", Entries=[{"Cidr": "192.0.2.0/24"}]
    )["PrefixList"]["PrefixListId"]
    outputs = create(
        stack,
        "cdn",
        Database="documentdb",
        CertificateArn=certificate,
        Hostname="origin.example.org",
        Cdn="true",
        IngressPrefixList=edges,
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
    (admitted,) = ec2.describe_security_groups(GroupIds=balancer["SecurityGroups"])["SecurityGroups"]
    for rule in admitted["IpPermissions"]:
        assert (rule["IpRanges"], [one["PrefixListId"] for one in rule["PrefixListIds"]]) == ([], [edges])
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


def iam_roles(stack: DeployedStack, part: str) -> list[dict[str, Any]]:
    return [one for one in stack.client("iam").list_roles()["Roles"] if part in one["RoleName"]]


def session(stack: DeployedStack, role: str, by: Any = None, **more: Any) -> dict[str, str]:
    """Credentials of a role for boto3; `by`: an STS client of somebody else than the owner."""
    issued = (by or stack.client("sts")).assume_role(RoleArn=role, RoleSessionName="test", **more)
    made = issued["Credentials"]
    return {
        "aws_access_key_id": made["AccessKeyId"],
        "aws_secret_access_key": made["SecretAccessKey"],
        "aws_session_token": made["SessionToken"],
    }


def refused(call: Callable[..., Any], **arguments: Any) -> bool:
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}
    return False


def test_roles_may_do_what_the_template_says_and_no_more(stack: DeployedStack) -> None:
    outputs = stack.outputs()
    bucket, cluster = outputs["WorkflowS3Bucket"], outputs["EcsCluster"]
    (api_role,) = [one["Arn"] for one in iam_roles(stack, "gooseherd-ApiRole")]
    as_api = session(stack, api_role)
    s3, ecs, sts = (stack.client(name, **as_api) for name in ("s3", "ecs", "sts"))
    new = {"Bucket": bucket, "Body": b"{}", "IfNoneMatch": "*"}

    assert not refused(s3.put_object, Key="p/ab/manifest.json", **new)
    assert refused(s3.put_object, Key="p/ab/data", **new)
    assert refused(s3.put_object, Bucket=bucket, Key="p/cd/manifest.json", Body=b""), "may replace"
    assert refused(s3.delete_object, Bucket=bucket, Key="p/ab/manifest.json")
    assert refused(s3.list_objects_v2, Bucket="gooseherd-settings")

    network = {"awsvpcConfiguration": {"subnets": outputs["EcsWorkerSubnets"].split(",")}}
    launch = {"cluster": cluster, "networkConfiguration": network, "launchType": "FARGATE"}
    tags = [{"key": "gooseherd:lane", "value": "job"}]
    api_task = stack.service()["taskDefinition"]
    assert refused(ecs.run_task, taskDefinition=api_task, tags=tags, **launch)
    worker = ecs.run_task(taskDefinition=outputs["EcsWorkerTaskDefinition"], tags=tags, **launch)["tasks"][0]
    assert not refused(ecs.describe_tasks, cluster=cluster, tasks=[worker["taskArn"]])
    assert not refused(ecs.stop_task, cluster=cluster, task=worker["taskArn"])
    assert refused(ecs.delete_cluster, cluster=cluster)
    assert refused(ecs.update_service, cluster=cluster, service="any", desiredCount=0)

    narrowed = json.dumps(
        {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/p/ab/*"}]}
    )
    attempt = session(stack, outputs["WorkflowS3AttemptRole"], sts, Policy=narrowed)
    s3 = stack.client("s3", **attempt)
    assert not refused(s3.put_object, Key="p/ab/data", **new)
    assert refused(s3.put_object, Key="p/ab/more/manifest.json", **new), "only the API publishes"
    assert refused(s3.put_object, Key="p/cd/data", **new), "of another artifact"
    assert refused(s3.delete_object, Bucket=bucket, Key="p/ab/data")
    assert refused(stack.client("ecs", **attempt).list_tasks, cluster=cluster)
    assert refused(session, stack=stack, role=api_role, by=stack.client("sts", **attempt))
    s3.close()


READER = """
Resources:
  Reader:
    Type: AWS::IAM::Role
    Properties:
      RoleName: portal-reader
      AssumeRolePolicyDocument:
        Statement: [{{Effect: Allow, Principal: {{AWS: {trusted}}}, Action: "sts:AssumeRole"}}]
      Policies:
        - PolicyName: read
          PolicyDocument:
            Statement: [{{Effect: Allow, Action: "s3:GetObject", Resource: "arn:aws:s3:::portal-raw/*"}}]
"""


def test_a_private_bucket_is_read_as_the_role_that_was_named_and_a_secret_is_the_api_s(
    stack: DeployedStack, tmp_path: Path
) -> None:
    s3, secrets = stack.client("s3"), stack.client("secretsmanager")
    (first,) = stack.client("cloudformation").describe_stacks(StackName="gooseherd")["Stacks"]
    parameters = {one["ParameterKey"]: one["ParameterValue"] for one in first["Parameters"]}
    role = "arn:aws:iam::123456789012:role/portal-reader"
    s3.create_bucket(Bucket="portal-raw")
    s3.put_object(Bucket="portal-raw", Key="x.bed", Body=b"chr1\t1\t2\n")
    settings = {
        "SOURCE_S3_ENDPOINT": s3.meta.endpoint_url,
        "SOURCE_S3_BUCKETS": f"portal-raw={role}",
        # A secret that is named and is not there would end the API at its start.
        "SOURCE_HEADERS": "https://files.example.org=Authorization:env:SOURCE_SECRET.portal",
    }
    lines = "".join(f"{name}={value}\n" for name, value in settings.items())
    s3.put_object(Bucket="gooseherd-settings", Key="private.env", Body=lines.encode())
    made = [
        secrets.create_secret(Name=name, SecretString=text)["ARN"]
        for name, text in (("sources", '{"portal": "Bearer it"}'), ("url", f"sqlite:///{tmp_path}/one.db"))
    ]
    given = {
        "EnvironmentFile": "arn:aws:s3:::gooseherd-settings/private.env",
        "SourceSecret": made[0],
        "SourceRoleArns": role,
        "DatabaseUrlSecret": made[1],
    }
    outputs = create(stack, "private", **(parameters | given))
    assert outputs["SourceSecretArn"] == made[0]
    roles = {one["RoleName"].partition("-ApiRole")[0]: one["Arn"] for one in iam_roles(stack, "ApiRole")}
    create(stack, "reader", READER.format(trusted=roles["private"]))
    as_first = stack.client("sts", **session(stack, roles["gooseherd"]))
    assert refused(session, stack=stack, role=role, by=as_first), "neither its policy nor the role's trust"

    headers = {"X-API-Key": secrets.get_secret_value(SecretId=outputs["ApiAdminKeyArn"])["SecretString"]}
    with httpx.Client(base_url=outputs["ApiPublicUrl"], headers=headers, timeout=30) as http:
        deadline = time.monotonic() + 60
        while http.get("/healthz").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.2)
        entry = {"dcc": "t", "local_id": "x", "access_url": "s3://portal-raw/x.bed", "file_format": "bed"}
        assert http.post("/files", json=entry).status_code == 200
        raw = http.get("/data/t/x", params={"raw": "true"})
        assert (raw.status_code, raw.content) == (200, b"chr1\t1\t2\n")
        others = entry | {"local_id": "y", "access_url": "s3://gooseherd-settings/private.env"}
        assert http.post("/files", json=others).status_code == 200
        assert http.get("/data/t/y", params={"raw": "true"}).status_code >= 400, "a bucket that is not named"
    remove(stack, "private", outputs["WorkflowS3Bucket"])
    s3.delete_object(Bucket="portal-raw", Key="x.bed")
    remove(stack, "reader", "portal-raw")
    s3.delete_object(Bucket="gooseherd-settings", Key="private.env")
    for one in made:
        secrets.delete_secret(SecretId=one, ForceDeleteWithoutRecovery=True)


def test_a_type_that_is_not_known_is_refused(stack: DeployedStack) -> None:
    template = "Resources:\n  Fleet:\n    Type: AWS::GameLift::Fleet\n"
    with pytest.raises(ClientError, match=r"does not know resources of type AWS::GameLift::Fleet"):
        create(stack, "strange", template)
    stack.client("cloudformation").delete_stack(StackName="strange")
