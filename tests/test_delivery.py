"""Deployment of a model: manifests for Kubernetes, `make deploy`, and CloudFormation templates."""

import functools
import itertools
import json
import shutil
import stat
import subprocess
import textwrap

import boto3
import kubernetes_validate
import pytest
import yaml
from conftest import CHOICES, NAMED, ROOT, Project
from cookiecutter.main import cookiecutter

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed here")

EVERY = list(itertools.product(CHOICES["deployment"], CHOICES["tracking"]))
DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGES = (f"IMAGE=registry.example.org/night-bus@{DIGEST}", f"TRAIN_IMAGE=registry.example.org/train@{DIGEST}")
UNKNOWN = {"ScaledObject"}
"""Kinds of third parties, whose schemas are in no package."""


@pytest.fixture(scope="module")
def level3(tmp_path_factory):
    """Bakes of level 3, or of another one, each made once, with the packages that all tests share."""

    @functools.cache
    def made(deployment, tracking="local", level="3"):
        answers = {**NAMED, "deployment": deployment, "tracking": tracking, "maturity_level": level}
        folder = tmp_path_factory.mktemp("bake")
        cookiecutter(str(ROOT), no_input=True, default_config=True, output_dir=str(folder), extra_context=answers)
        return Project(folder / "night-bus").borrow_environment()

    return made


def printed(project, environment, *words):
    """The objects that `make deploy DRY=1` prints."""
    done = project.make("deploy", f"ENV={environment}", "DRY=1", *words)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def objects(project, environment, *words):
    """The objects by their kind."""
    return {each["kind"]: each for each in printed(project, environment, *words)}


def valid(objects, environment):
    """Check that Kubernetes takes each object, in the namespace of its environment."""
    for content in objects:
        assert content["metadata"]["namespace"] == f"night-bus-{environment}"
        if content["kind"] not in UNKNOWN:
            kubernetes_validate.validate(content, "1.32", strict=True)


def unprivileged(pod, containers):
    """Check that no container of a pod has more rights than it needs."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    for container in containers:
        safe = container["securityContext"]
        assert (safe["readOnlyRootFilesystem"], safe["allowPrivilegeEscalation"]) == (True, False)
        assert safe["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(container["resources"])
        assert container["image"].endswith(f"@{DIGEST}")


def containers(found):
    """The containers of a workload's pods, including init containers."""
    workload = found.get("Deployment") or found["CronJob"]["spec"]["jobTemplate"]
    pod = workload["spec"]["template"]["spec"]
    return pod, [*pod.get("initContainers", ()), *pod["containers"]]


@pytest.mark.parametrize("environment", ["staging", "production"])
@pytest.mark.parametrize(("deployment", "tracking"), EVERY)
def test_the_manifests_are_what_kubernetes_takes(level3, deployment, tracking, environment):
    found = objects(level3(deployment, tracking), environment, "VERSION=3", *IMAGES)
    valid(found.values(), environment)
    pod, all_of_them = containers(found)
    unprivileged(pod, all_of_them)
    template = (found.get("Deployment") or found["CronJob"]["spec"]["jobTemplate"])["spec"]["template"]
    assert template["metadata"]["labels"]["app.kubernetes.io/version"] == "3"
    (image,) = {each["image"] for each in all_of_them if each["name"] != "follow"}
    assert found["ConfigMap"]["data"]["IMAGE"] == image
    assert "NetworkPolicy" in found
    assert ("follow" in {each["name"] for each in all_of_them}) == (tracking == "remote" and deployment != "batch")


@pytest.mark.parametrize("deployment", CHOICES["deployment"])
def test_rounds_of_operation_are_a_job_of_production_alone(level3, deployment):
    """Staging uses the same registry, so rounds of operation in both would make conflicting decisions."""
    project = level3(deployment, "remote", "4")
    assert not any("operate" in each["metadata"]["name"] for each in printed(project, "staging", "VERSION=3", *IMAGES))
    found = {
        (each["kind"], each["metadata"]["name"]): each for each in printed(project, "production", "VERSION=3", *IMAGES)
    }
    valid(found.values(), "production")
    job = found["CronJob", "night-bus-operate"]["spec"]
    assert "suspend" not in job
    assert job["concurrencyPolicy"] == "Forbid"
    template = job["jobTemplate"]["spec"]["template"]
    pod = template["spec"]
    (container,) = pod["containers"]
    unprivileged(pod, [container])
    assert container["image"] == IMAGES[1].split("=")[1]
    # Each volume exists; each network policy selects only its own pods.
    assert {
        ("PersistentVolumeClaim", each["persistentVolumeClaim"]["claimName"]) for each in pod["volumes"][1:]
    } <= set(found)
    labels = template["metadata"]["labels"].items()
    policies = {
        name: each["spec"]["podSelector"]["matchLabels"].items()
        for (kind, name), each in found.items()
        if kind == "NetworkPolicy"
    }
    assert [name for name, wanted in policies.items() if wanted <= labels] == ["night-bus-operate"]
    # A round reads the volume that the services write to.
    (settings,) = (each["data"] for (kind, _), each in found.items() if kind == "ConfigMap")
    assert settings["MLFLOW_TRACKING_URI"]
    if deployment == "batch":
        assert settings["PREDICTION_LOG"] == settings["OUTPUT"]
    else:
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        assert mounts["/project/predictions"] == {
            "name": "predictions",
            "mountPath": "/project/predictions",
            "readOnly": True,
        }


@pytest.mark.parametrize("tracking", CHOICES["tracking"])
def test_rounds_run_in_a_cluster_where_the_store_can_be_reached_from_it(level3, tracking):
    project = level3("web", tracking, "4")
    assert (project.path / "deploy" / "kubernetes" / "operate").exists() == (tracking == "remote")


def test_the_validator_finds_a_mistake(level3):
    """The tool of the test above does find an error."""
    found = objects(level3("web"), "staging", *IMAGES)
    found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(found["Deployment"], "1.32", strict=True)


def test_a_web_service_changes_without_a_pod_too_few(level3):
    found = objects(level3("web"), "production", *IMAGES)
    assert found["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    selector = found["Deployment"]["spec"]["selector"]["matchLabels"]
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == selector
    assert found["Service"]["spec"]["selector"] == selector
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]


def test_workers_are_added_by_the_lag_of_the_group_and_topic_of_the_settings(level3):
    project = level3("streaming")
    found = objects(project, "production", *IMAGES)
    (trigger,) = found["ScaledObject"]["spec"]["triggers"]
    settings = project.text("params.toml")
    assert f'events = "{trigger["metadata"]["topic"]}"' in settings
    assert f'group = "{trigger["metadata"]["consumerGroup"]}"' in settings
    assert f"partitions = {found['ScaledObject']['spec']['maxReplicaCount']}" in settings


CLUSTER = '''
#!{python}
"""A cluster that is a file, for what no machine without one can try: it keeps what is applied and says what it is told to."""
import json, pathlib, subprocess, sys
words, state = sys.argv[1:], pathlib.Path("{state}")
known = json.loads(state.read_text())
known["calls"].append(" ".join(words)[:60])
said, code = "", 0
if words[0] == "kustomize" or "--dry-run=client" in words:
    if words[0] == "kustomize":
        sys.exit(subprocess.run(["{kubectl}", *words]).returncode)
    import yaml
    said = json.dumps(dict(items=list(yaml.safe_load_all(sys.stdin.read()))))
elif words[:2] == ["config", "current-context"]:
    said = "a-cluster"
elif words[0] == "diff":
    sys.stdin.read()
    said, code = "+++ /tmp/LIVE-1/apps.v1.Deployment.night-bus", 1
elif words[0] == "apply":
    known["applied"].append(sys.stdin.read())
elif "status" in words and known.get("stuck"):
    code = 1
    print("error: timed out waiting for the condition", file=sys.stderr)
elif "exec" in words or "logs" in words:
    said = known["says"]
elif "undo" in words and known.get("first"):
    code = 1
    print("error: no rollout history found", file=sys.stderr)
state.write_text(json.dumps(known))
print(said)
sys.exit(code)
'''


@pytest.fixture
def deploy(level3, tmp_path):
    """Runs `make deploy` with a simulated kubectl; returns the process and the calls of kubectl."""

    def run(deployment, *words, level="3", **says):
        tracking = "remote" if level == "4" else "local"
        project, state = level3(deployment, tracking, level), tmp_path / "cluster.json"
        state.write_text(json.dumps({"calls": [], "applied": [], **says}))
        script = tmp_path / "kubectl"
        python = project.path / ".venv" / "bin" / "python"
        script.write_text(
            textwrap.dedent(CLUSTER).strip().format(python=python, state=state, kubectl=shutil.which("kubectl"))
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        path = f"{tmp_path}:{project.environment()['PATH']}"
        done = project.make("deploy", "ENV=staging", *IMAGES, *words, PATH=path)
        return done, json.loads(state.read_text())

    return run


def test_a_deployment_is_told_done_and_waited_for(deploy):
    done, cluster = deploy("web", "VERSION=3", says='{"name": "night-bus", "model_version": "3"}')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"staging: namespace night-bus-staging of a-cluster, model version 3, image registry.example.org/night-bus@{DIGEST}",
        "changes: apps.v1.Deployment.night-bus",
        "staging answers with model version 3",
    ]
    assert f"image: registry.example.org/night-bus@{DIGEST}" in cluster["applied"][0]


@pytest.mark.parametrize(
    ("deployment", "says"),
    [("web", {"stuck": True, "says": ""}), ("streaming", {"stuck": True, "says": ""})],
)
def test_what_does_not_come_up_is_taken_back(deploy, deployment, says):
    done, cluster = deploy(deployment, "VERSION=3", **says)
    assert done.returncode != 0
    assert "the previous version was" in done.stderr
    assert any("rollout undo" in call for call in cluster["calls"])


def test_a_worker_says_its_version_among_its_metrics(deploy):
    done, _ = deploy("streaming", "VERSION=3", says='# HELP model_info x\nmodel_info{run_id="a",version="3"} 1.0')
    assert done.stdout.endswith("staging answers with model version 3\n"), done.stderr


def test_where_nothing_was_before_that_is_said(deploy):
    done, _ = deploy("web", "VERSION=3", stuck=True, first=True, says="")
    assert "was not restored" in done.stderr
    assert "describe pods" in done.stderr


@pytest.mark.parametrize("level", ["3", "4"])
def test_a_job_s_model_is_loaded_in_its_image_before_anything_changes(deploy, level):
    done, cluster = deploy("batch", "VERSION=3", level=level, says="model_version=3")
    assert done.stdout.endswith("staging scores with model version 3\n"), done.stderr
    tried, applied = cluster["applied"]
    assert "served_model" in tried
    assert json.loads(tried)["items"][-1]["metadata"]["name"].startswith("night-bus-try-")
    assert "CronJob" in applied
    done, cluster = deploy("batch", "VERSION=4", level=level, says="model_version=3")
    assert "the image has model version 3, not 4; nothing was changed" in done.stderr
    assert "CronJob" not in "".join(cluster["applied"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("ENV=moon",), "ENV='moon' is none of production and staging: make deploy ENV=staging"),
        (("ENV=staging", "IMAGE=night-bus:latest"), "names no image by its digest"),
        (("ENV=staging", IMAGES[0]), "which model is to answer? add VERSION=3"),
    ],
)
def test_what_is_missing_is_asked_for_in_one_line(level3, words, told):
    done = level3("web").make("deploy", *words)
    assert done.returncode != 0
    assert told in done.stderr
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize("deployment", CHOICES["deployment"])
def test_cloudformation_s_linter_finds_nothing(level3, deployment):
    project = level3(deployment)
    for name in ("foundation.yaml", "workload.yaml"):
        done = subprocess.run(
            [f"{ROOT}/.venv/bin/cfn-lint", project.path / "deploy" / "aws" / name], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("deployment", CHOICES["deployment"])
def test_what_moto_knows_of_aws_is_made_as_it_is_meant(level3, s3, deployment):
    """Buckets, repositories, roles, clusters and tasks, of the templates as they are."""
    project, made = level3(deployment), boto3.client("cloudformation")
    wanted = {"StackName": "foundation", "TemplateBody": project.text("deploy/aws/foundation.yaml")}
    made.create_stack(**wanted, Capabilities=["CAPABILITY_IAM"])
    (stack,) = made.describe_stacks(StackName="foundation")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    bucket = next(each["OutputValue"] for each in stack["Outputs"] if each["OutputKey"] == "Bucket")
    rule = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    (repository,) = boto3.client("ecr").describe_repositories()["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    roles = boto3.client("iam")
    for role in roles.list_roles()["Roles"]:
        for policy in roles.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]:
            document = roles.get_role_policy(RoleName=role["RoleName"], PolicyName=policy)["PolicyDocument"]
            document = yaml.safe_load(document) if isinstance(document, str) else document  # moto keeps them as strings
            for statement in document["Statement"]:
                assert "*" not in str(statement["Action"])
                assert statement["Resource"] != "*" or statement["Action"] == "ecr:GetAuthorizationToken"
    if deployment == "web":
        return  # moto does not support Elastic Beanstalk's environments
    own = {
        "ModelVersion": "3",
        "Image": f"registry.example.org/night-bus@{DIGEST}",
        "Bucket": bucket,
        "Brokers": "kafka:9092",
    }
    network = boto3.client("ec2")
    (vpc,) = network.describe_vpcs()["Vpcs"]
    one, other, *_ = [each["SubnetId"] for each in network.describe_subnets()["Subnets"]]
    (group,) = [each["GroupId"] for each in network.describe_security_groups()["SecurityGroups"]]
    own |= {"Vpc": vpc["VpcId"], "SubnetA": one, "SubnetB": other, "SecurityGroup": group}
    own |= {"Subnets": f"{one},{other}", "SecurityGroups": group}
    text = project.text("deploy/aws/workload.yaml")
    known = [{"ParameterKey": name, "ParameterValue": value} for name, value in own.items() if f"\n  {name}:" in text]
    made.create_stack(StackName="workload", TemplateBody=text, Parameters=known, Capabilities=["CAPABILITY_IAM"])
    (task,) = boto3.client("ecs").list_task_definitions()["taskDefinitionArns"]
    described = boto3.client("ecs").describe_task_definition(taskDefinition=task)["taskDefinition"]
    (container,) = described["containerDefinitions"]
    assert container["image"].endswith(DIGEST)
