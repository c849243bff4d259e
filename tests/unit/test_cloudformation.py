"""The template of deploy/cloudformation: by names that the code knows, allowing what it calls."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator
from tests.template_checks import SCRIPT, check_templates

from gooseherd.api.conditional import SHARED_SECONDS
from gooseherd.domain.alerts import ALERT_FIELD, Alert
from gooseherd.domain.attempt import AttemptId
from gooseherd.domain.job import JobId
from gooseherd.domain.keys import MANIFEST
from gooseherd.domain.retention import UNFINISHED_LEAST
from gooseherd.domain.worker_size import WorkerSize
from gooseherd.environment import WORKER_HEALTH_PORT, WORKER_PORT
from gooseherd.fleet.provisioner import LaunchTemplate, launch_request
from gooseherd.fleet.sizes import FARGATE_MEMORY_MIB
from gooseherd.settings import Profile, Settings
from gooseherd.storage.s3_credentials import ONLY_NEW, S3Credentials
from gooseherd.wiring.fleet import worker_environment
from gooseherd.worker.tls import VARIABLES

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "cloudformation" / "gooseherd.yaml"
TEMPLATE = check_templates.template(FILE)
RESOURCES = TEMPLATE["Resources"]
TASKS = ("api", "worker")
READS = {"s3:GetObject", "s3:ListBucket"}
FORWARDED = {
    "88a5eaf4-2fd4-4709-b370-b4c650ea3fcf": {
        "Access-Control-Request-Headers",
        "Access-Control-Request-Method",
        "Origin",
    },
    "b689b0a8-53d0-40ab-baf2-68738e2966ac": {"*"},
}
"""Headers of AWS's own origin request policies, CORS-S3Origin and AllViewerExceptHostHeader, by their ids."""
SECRETS = {"DATABASE_URL", "API_ADMIN_KEY", "SOURCE_SECRET", *VARIABLES}


def properties(resource: str) -> dict[str, Any]:
    return dict(RESOURCES[resource]["Properties"])


def definition(task: str) -> dict[str, Any]:
    return properties(f"{task.capitalize()}Task")


def container(task: str) -> dict[str, Any]:
    (found,) = definition(task)["ContainerDefinitions"]
    return dict(found)


def secrets(task: str) -> dict[str, Any]:
    """Where the value of each variable comes from, optional ones too."""
    found = [one["Fn::If"][1] if "Fn::If" in one else one for one in container(task)["Secrets"]]
    return {one["Name"]: one["ValueFrom"] for one in found}


def environment() -> dict[str, Any]:
    return {one["Name"]: one["Value"] for one in container("api")["Environment"]}


def statements(resource: str) -> dict[str, dict[str, Any]]:
    return {one["Sid"]: one for one in properties(resource)["PolicyDocument"]["Statement"]}


def actions(resource: str) -> set[str]:
    lines = [statement["Action"] for statement in statements(resource).values()]
    return {action for one in lines for action in ([one] if isinstance(one, str) else one)}


def as_setting(output: str) -> str:
    """`WorkflowS3Bucket` is WORKFLOW_S3_BUCKET."""
    return "_".join(re.findall(r"[A-Z][a-z0-9]*", output)).upper()


def refused(operation: str, request: dict[str, Any], service: str = "ecs") -> str:
    model = get_session().get_service_model(service)
    report = ParamValidator().validate(request, model.operation_model(operation).input_shape)
    return str(report.generate_report())


def test_the_template_can_be_deployed_without_a_bucket_in_between() -> None:
    assert len(FILE.read_bytes()) <= 51_200


def test_every_variable_of_the_api_is_a_setting() -> None:
    assert environment().keys() <= {name.upper() for name in Settings.model_fields}
    assert secrets("api").keys() == SECRETS


def test_outputs_are_the_environment_of_the_api_and_its_secrets_by_their_arn() -> None:
    outputs = {name: one["Value"] for name, one in TEMPLATE["Outputs"].items()}
    where = outputs.pop("LoadBalancerName")
    assert where == {"Fn::GetAtt": ["LoadBalancer", "DNSName"]}
    arns = {name: outputs.pop(name) for name in list(outputs) if name.endswith("Arn")}
    assert {as_setting(name): value for name, value in outputs.items()} == environment()
    assert {as_setting(name.removesuffix("Arn")): value for name, value in arns.items()} == {
        name: value for name, value in secrets("api").items() if name not in VARIABLES
    }


def test_every_parameter_is_described_bounded_and_in_a_group() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(TEMPLATE["Parameters"])
    for name, parameter in TEMPLATE["Parameters"].items():
        assert parameter["Description"], name
        match parameter["Type"]:
            case "Number":
                assert {"MinValue", "MaxValue"} <= parameter.keys() or "AllowedValues" in parameter, name
            case "String":
                assert {"AllowedPattern", "AllowedValues"} & parameter.keys(), name


def test_defaults_of_parameters_are_within_their_bounds() -> None:
    for name, parameter in TEMPLATE["Parameters"].items():
        default = parameter.get("Default")
        if default is None:
            continue
        if "AllowedValues" in parameter:
            assert default in parameter["AllowedValues"], name
        elif parameter["Type"] == "Number":
            assert parameter["MinValue"] <= default <= parameter["MaxValue"], name
        elif "AllowedPattern" in parameter:
            assert re.fullmatch(parameter["AllowedPattern"], default), name


@pytest.mark.parametrize("task", TASKS)
def test_default_sizes_of_tasks_are_fargates(task: str) -> None:
    parameters = TEMPLATE["Parameters"]
    cpu, memory = (
        int(parameters[value["Ref"]]["Default"] if isinstance(value, dict) else value)
        for value in (definition(task)["Cpu"], definition(task)["Memory"])
    )
    assert memory in FARGATE_MEMORY_MIB[cpu]


def test_a_worker_is_told_all_but_its_certificates_at_its_launch() -> None:
    it = container("worker")
    assert secrets("worker").keys() == set(VARIABLES)
    assert "Environment" not in it
    result = worker_environment(Settings(workflow_s3_bucket="artifacts", ecs_cluster="gooseherd"))
    assert {"WORKFLOW_S3_BUCKET", "AWS_REGION", "WORKER_IDLE_TIMEOUT_SECONDS"} <= set(result)


def test_the_api_has_all_it_must_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    given = {name: value if isinstance(value, str) else "1" for name, value in environment().items()}
    given |= {
        "API_PUBLIC_URL": "https://files.example.org",
        "ARTIFACT_DELIVERY": "proxy",
        "ECS_WORKER_ASSIGN_PUBLIC_IP": "ENABLED",
        "ECS_MAX_WORKERS": "20",
        "ECS_WORKER_MAX_CPU": "4096",
        "ECS_WORKER_MAX_MEMORY_MIB": "16384",
        "ECS_WORKER_PLACEMENT": TEMPLATE["Parameters"]["WorkerPlacement"]["Default"],
        "ECS_WORKER_SUBNETS": "subnet-1,subnet-2",
        "WORKFLOW_S3_ATTEMPT_ROLE": "arn:aws:iam::123456789012:role/attempt",
        "WORKFLOW_S3_BUCKET": "artifacts",
        "DATABASE_URL": "mongodb://nowhere/",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings().checked()
    assert settings.profile is Profile.AWS
    assert settings.ecs_worker_container == container("worker")["Name"]
    template = LaunchTemplate(
        fleet=settings.ecs_fleet,
        task_definition=settings.ecs_worker_task_definition or "",
        subnets=settings.ecs_worker_subnets,
        security_groups=settings.ecs_worker_security_groups,
        environment=worker_environment(settings),
    )
    request = launch_request(template, AttemptId(JobId("job1"), 1), WorkerSize(1024, 2048, 21), spot=False)
    assert refused("RunTask", {"cluster": settings.ecs_cluster, **request}) == ""


def test_an_api_task_launches_workers_of_its_own_revision() -> None:
    assert environment()["ECS_WORKER_TASK_DEFINITION"] == {"Ref": "WorkerTask"}
    family = definition("worker")["Family"]["Fn::Sub"]
    launch = statements("ApiPolicy")["Launch"]["Resource"]["Fn::Sub"]
    assert launch.endswith(f":task-definition/{family}:*")


def test_ports_are_those_that_are_listened_on_and_let_through() -> None:
    ports = {task: {one["ContainerPort"] for one in container(task)["PortMappings"]} for task in TASKS}
    fields = Settings.model_fields
    assert ports["worker"] == {WORKER_PORT, WORKER_HEALTH_PORT}
    assert ports["worker"] == {fields["worker_port"].default, fields["worker_health_port"].default}
    assert ports["api"] == {8080}
    assert "API_PORT=8080" in (ROOT / "Dockerfile.api").read_text()
    for group, task in (("ApiGroup", "api"), ("WorkerGroup", "worker")):
        assert {one["FromPort"] for one in properties(group)["SecurityGroupIngress"]} == ports[task]


@pytest.mark.parametrize("task", TASKS)
def test_what_the_image_writes_to_is_mounted_and_its_health_command_is_asked(task: str) -> None:
    image, it = (ROOT / f"Dockerfile.{task}").read_text(), container(task)
    (volumes,) = re.findall(r"^VOLUME (\[.*\])$", image, re.MULTILINE)
    assert {mount["ContainerPath"] for mount in it["MountPoints"]} == set(json.loads(volumes))
    assert {mount["SourceVolume"] for mount in it["MountPoints"]} == {
        volume["Name"] for volume in definition(task)["Volumes"]
    }
    asked = " ".join(it["HealthCheck"]["Command"][1:])
    healthcheck = image.split("HEALTHCHECK", 1)[1].split("CMD", 1)[1].split("\n", 1)[0]
    body = " ".join(json.loads(healthcheck)) if healthcheck.strip().startswith("[") else healthcheck.strip()
    assert asked == body.replace('"$API_PORT"', "8080")


@pytest.mark.parametrize("task", TASKS)
def test_containers_have_a_root_that_is_read_only_and_no_capabilities(task: str) -> None:
    it = container(task)
    assert it["ReadonlyRootFilesystem"] is True
    assert it["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}


def test_the_role_that_is_handed_over_is_the_worker_s_for_its_secrets() -> None:
    assert "TaskRoleArn" not in definition("worker")
    assert statements("ApiPolicy")["LaunchAs"]["Resource"] == definition("worker")["ExecutionRoleArn"]


def test_attempts_get_the_role_that_the_api_may_assume() -> None:
    assert (
        statements("ApiPolicy")["CredentialsOfAttempts"]["Resource"]
        == environment()["WORKFLOW_S3_ATTEMPT_ROLE"]
    )
    (trust,) = properties("AttemptRole")["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"]["AWS"] == definition("api")["TaskRoleArn"]
    # What the session policy allows the role must allow, too.
    issuer = S3Credentials(
        "arn:aws:iam::123456789012:role/attempt", "artifacts", "", endpoint_url=None, region="eu-north-1"
    )
    narrowed = issuer.policy("p1/ab/")["Statement"][0]["Action"]
    assert set(narrowed) == set(statements("AttemptPolicy")["NewObjectsOfArtifacts"]["Action"])


def test_the_bucket_denies_what_a_session_policy_denies() -> None:
    assert statements("BucketRules")["NothingIsReplaced"]["Condition"] == ONLY_NEW["Condition"]


def test_of_s3_the_api_reads_and_writes_manifests_only() -> None:
    of_s3 = {action for action in actions("ApiPolicy") if action.startswith("s3:")}
    assert of_s3 == {*READS, "s3:PutObject"}
    publish = statements("ApiPolicy")["Publish"]["Resource"]["Fn::Sub"]
    assert publish.endswith(f"/{MANIFEST}")
    assert statements("AttemptPolicy")["OnlyTheApiPublishes"]["Resource"]["Fn::Sub"] == publish


def test_of_s3_only_the_policy_of_retention_removes_and_it_writes_nothing() -> None:
    removing = {"s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListBucketMultipartUploads"}
    assert actions("RetentionPolicy") == removing
    assert environment()["ARTIFACT_REMOVE_LEFTOVERS"] == {"Ref": "Retention"}


def test_the_bucket_forgets_uploads_when_retention_does_and_expires_nothing() -> None:
    uploads, versions = properties("Bucket")["LifecycleConfiguration"]["Rules"]
    assert not {"ExpirationInDays", "ExpirationDate"} & {*uploads, *versions}, "no object that is there"
    days = uploads["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
    assert timedelta(days=days) == UNFINISHED_LEAST


def test_the_bucket_and_the_database_outlive_the_stack() -> None:
    assert RESOURCES["Bucket"]["DeletionPolicy"] == "Retain"
    assert {RESOURCES[name]["DeletionPolicy"] for name in ("Postgresql", "Documentdb")} == {"Snapshot"}


def refusals(**given: str) -> list[str]:
    """What CloudFormation would say to those parameters."""
    values = {name: one.get("Default", "") for name, one in TEMPLATE["Parameters"].items()} | given

    def holds(condition: Any) -> Any:
        match condition:
            case {"Ref": name}:
                return values[name]
            case {"Fn::Equals": [one, other]}:
                return holds(one) == holds(other)
            case {"Fn::EachMemberEquals": [several, one]}:
                return all(each == holds(one) for each in holds(several).split(","))
            case {"Fn::Not": [inner]}:
                return not holds(inner)
            case str():
                return condition
        raise AssertionError(condition)

    return [
        assertion["AssertDescription"]
        for rule in TEMPLATE["Rules"].values()
        if holds(rule["RuleCondition"])
        for assertion in rule["Assertions"]
        if not holds(assertion["Assert"])
    ]


def test_behind_cloudfront_nobody_else_reaches_the_load_balancer() -> None:
    given = {"Cdn": "true", "Hostname": "origin.example.org", "CertificateArn": "arn:aws:acm:…"}
    (refused,) = refusals(**given)
    assert "IngressPrefixList" in refused
    assert refusals(**given, IngressPrefixList="pl-0123") == []
    assert refusals(CertificateArn="arn:aws:acm:…") == []
    for rule in properties("LoadBalancerGroup")["SecurityGroupIngress"]:
        assert rule["CidrIp"]["Fn::If"][:2] == ["HasPrefixList", {"Ref": "AWS::NoValue"}]
        assert rule["SourcePrefixListId"]["Fn::If"][:2] == ["HasPrefixList", {"Ref": "IngressPrefixList"}]


def test_a_security_group_names_a_prefix_list_in_one_rule_at_most() -> None:
    """CloudFront's weighs 55 of the 60 rules that a group may have by default."""
    groups = {
        name: resource["Properties"]["SecurityGroupIngress"]
        for name, resource in RESOURCES.items()
        if resource["Type"] == "AWS::EC2::SecurityGroup"
    }
    naming = {
        name: [rule for rule in rules if "SourcePrefixListId" in rule] for name, rules in groups.items()
    }
    assert {name: len(rules) for name, rules in naming.items() if rules} == {"LoadBalancerGroup": 1}
    (rule,) = naming["LoadBalancerGroup"]
    ports = {
        port
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::ElasticLoadBalancingV2::Listener"
        for port in numbers(resource["Properties"]["Port"])
    }
    assert (rule["FromPort"], rule["ToPort"]) == (min(ports), max(ports))


def numbers(value: Any) -> set[int]:
    """Those that a property may have under any condition."""
    return {value} if isinstance(value, int) else {one for one in value["Fn::If"][1:] if isinstance(one, int)}


def test_a_name_of_cloudfront_needs_a_certificate() -> None:
    given = {
        "Cdn": "true",
        "Hostname": "origin.example.org",
        "CertificateArn": "arn:aws:acm:…",
        "IngressPrefixList": "pl-0123",
        "CdnHostname": "files.example.org",
    }
    (refused,) = refusals(**given)
    assert "CdnCertificateArn" in refused
    assert refusals(**given, CdnCertificateArn="arn:aws:acm:us-east-1:…") == []


@pytest.mark.parametrize("task", TASKS)
def test_secrets_are_those_that_the_execution_role_may_read(task: str) -> None:
    assert definition(task)["ExecutionRoleArn"] == {
        "Fn::GetAtt": [f"{task.capitalize()}ExecutionRole", "Arn"]
    }
    (policy,) = properties(f"{task.capitalize()}ExecutionRole")["Policies"]
    (allowed,) = [one for one in policy["PolicyDocument"]["Statement"] if one.get("Sid") == "Secrets"]
    readable = allowed["Resource"] if isinstance(allowed["Resource"], list) else [allowed["Resource"]]
    readable = [
        one["Fn::If"][1] if one.get("Fn::If", [""])[0] == "HasSourceSecret" else one for one in readable
    ]
    for variable, value_from in secrets(task).items():
        where = value_from
        if "Fn::Sub" in where:  # ${Parameter}:NAME::
            name, key = re.fullmatch(r"\$\{(\w+)\}:(\w+)::", where["Fn::Sub"]).groups()  # type: ignore[union-attr]
            assert key == variable
            where = {"Ref": name}
        assert where in readable


def test_each_alert_of_the_log_has_an_alarm() -> None:
    named = {
        dimension["Value"]: name
        for name, resource in RESOURCES.items()
        for dimension in resource.get("Properties", {}).get("Dimensions", ())
        if dimension["Name"] == ALERT_FIELD
    }
    assert named.keys() == set(Alert)
    transformation = properties("AlertLines")["MetricTransformations"][0]
    assert transformation["Dimensions"] == [{"Key": ALERT_FIELD, "Value": f"$.{ALERT_FIELD}"}]
    assert properties("AlertLines")["FilterPattern"] == f'{{ $.{ALERT_FIELD} = "*" }}'
    page = (ROOT / "docs" / "aws.md").read_text()
    assert all(f"`{name}`" in page for name in named.values())


def test_alarms_on_the_log_read_a_metric_that_is_made_of_it() -> None:
    made = {
        (json.dumps(one["MetricNamespace"]), one["MetricName"])
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::Logs::MetricFilter"
        for one in resource["Properties"]["MetricTransformations"]
    }
    alarms = [
        resource["Properties"]
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    ]
    within = [
        one["MetricStat"]["Metric"]
        for alarm in alarms
        for one in alarm.get("Metrics", ())
        if "MetricStat" in one
    ]
    read = {
        (json.dumps(metric["Namespace"]), metric["MetricName"])
        for metric in (*alarms, *within)
        if metric.get("Namespace") == {"Ref": "AWS::StackName"}
    }
    assert read == made


def test_the_checks_find_what_is_wrong_with_a_template(tmp_path: Path) -> None:
    text = FILE.read_text().replace("Action: sts:AssumeRole, Resource", "Action: sts:AssumeRolls, Resource")
    text = text.replace("CidrBlock: !Sub", "CidrBlok: !Sub", 1)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text)
    script = str(SCRIPT)
    done = subprocess.run([sys.executable, script, str(wrong)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "CidrBlok" in done.stdout
    assert "UNKNOWN_ACTION" in done.stdout


def test_cloudfront_hands_over_what_decides_about_access_and_keeps_by_it() -> None:
    """The API looks at both places for a key, and CORS answers by the page that asks."""
    parameters = properties("ArtifactCaching")["CachePolicyConfig"][
        "ParametersInCacheKeyAndForwardedToOrigin"
    ]
    assert set(parameters["HeadersConfig"]["Headers"]) == {"Authorization", "Origin", "X-API-Key"}
    assert parameters["QueryStringsConfig"] == {"QueryStringBehavior": "all"}


def test_cloudfront_keeps_no_artifact_for_longer_than_shared_caches_may() -> None:
    policy = properties("ArtifactCaching")["CachePolicyConfig"]
    assert (policy["MinTTL"], policy["DefaultTTL"], policy["MaxTTL"]) == (0, 0, SHARED_SECONDS)


def test_cloudfront_hands_over_what_a_preflight_asks() -> None:
    preflight = {"Access-Control-Request-Headers", "Access-Control-Request-Method", "Origin"}
    distribution = properties("Distribution")["DistributionConfig"]
    for behaviour in (distribution["DefaultCacheBehavior"], *distribution["CacheBehaviors"]):
        assert "OPTIONS" in behaviour["AllowedMethods"]
        assert "OPTIONS" not in behaviour.get("CachedMethods", ()), "kept without what it asked in its key"
        forwarded = FORWARDED[behaviour["OriginRequestPolicyId"]]
        assert forwarded == {"*"} or preflight <= forwarded


def test_alarms_look_at_both_quotas_of_vcpus() -> None:
    classes: dict[str, str] = {}
    for name, resource in RESOURCES.items():
        for metric in resource.get("Properties", {}).get("Metrics", ()):
            dimensions = metric.get("MetricStat", {}).get("Metric", {}).get("Dimensions", ())
            classes |= {one["Value"]: name for one in dimensions if one["Name"] == "Class"}
    assert set(classes) == {"Standard/OnDemand", "Standard/Spot"}
    assert "Condition" not in RESOURCES[classes["Standard/OnDemand"]], "API tasks are on demand"
    assert TEMPLATE["Conditions"][RESOURCES[classes["Standard/Spot"]]["Condition"]] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "WorkerPlacement"}, "fargate"]}]
    }


def test_who_is_called_by_an_alarm_hears_of_its_end() -> None:
    alarms = {
        name: resource["Properties"]
        for name, resource in RESOURCES.items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert alarms
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == alarm["OKActions"], name
        assert {"Ref": "AlarmTopicArn"} in alarm["AlarmActions"]["Fn::If"][1], name


def test_the_api_may_assume_the_roles_of_private_buckets_that_were_named_and_no_other() -> None:
    (statement,) = statements("SourcePolicy").values()
    assert (statement["Action"], statement["Resource"]) == ("sts:AssumeRole", {"Ref": "SourceRoleArns"})
    assert RESOURCES["SourcePolicy"]["Condition"] == "HasSourceRoles", (
        "without any there would be no resource"
    )
    assert properties("SourcePolicy")["Roles"] == [{"Ref": "ApiRole"}]
