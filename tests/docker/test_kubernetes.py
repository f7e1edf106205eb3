"""kuberay.yaml is well formed, and its pods may do no more than they need."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from packaging.requirements import Requirement
from referencing import Registry, Resource

ROOT = Path(__file__).parents[2]
SCHEMAS = Path(__file__).parent / "schemas"
REGISTRY = Registry().with_resources(
    (name, Resource.from_contents(json.loads((SCHEMAS / name).read_text())))
    for name in ("kubernetes.json", "kuberay.json")
)
DOCUMENTS: dict[str, dict[str, Any]] = {
    each["kind"]: each for each in yaml.safe_load_all((ROOT / "docker/kuberay.yaml").read_text())
}
DEFINITIONS = {
    "PersistentVolumeClaim": "kubernetes.json#/$defs/io.k8s.api.core.v1.PersistentVolumeClaim",
    "NetworkPolicy": "kubernetes.json#/$defs/io.k8s.api.networking.v1.NetworkPolicy",
    "RayCluster": "kuberay.json#/$defs/RayCluster",
    "RayJob": "kuberay.json#/$defs/RayJob",
}
CLUSTER = DOCUMENTS["RayCluster"]["spec"]
JOB = DOCUMENTS["RayJob"]["spec"]
PODS: dict[str, dict[str, Any]] = {
    "head": CLUSTER["headGroupSpec"]["template"],
    **{group["groupName"]: group["template"] for group in CLUSTER["workerGroupSpecs"]},
    "submitter": JOB["submitterPodTemplate"],
}

every_pod = pytest.mark.parametrize("pod", PODS.values(), ids=PODS)


def problems(document: object, definition: str) -> list[str]:
    validator = Draft202012Validator({"$ref": definition}, registry=REGISTRY)
    return [f"{each.json_path}: {each.message}" for each in validator.iter_errors(document)]


def test_every_kind_has_a_schema() -> None:
    assert DOCUMENTS.keys() == DEFINITIONS.keys()


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_is_what_its_schema_says(kind: str) -> None:
    assert problems(DOCUMENTS[kind], DEFINITIONS[kind]) == []


def test_a_field_that_a_pod_does_not_have_is_noticed() -> None:
    container = {**PODS["head"]["spec"]["containers"][0], "securityContxt": {}}
    pod = {"spec": {"containers": [container]}}
    broken = {**CLUSTER, "headGroupSpec": {**CLUSTER["headGroupSpec"], "template": pod}}

    assert problems(broken, "kuberay.json#/$defs/RayClusterSpec") != []


@every_pod
def test_a_pod_is_not_root_and_has_no_rights(pod: dict[str, Any]) -> None:
    spec = pod["spec"]

    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec.keys().isdisjoint({"hostNetwork", "hostPID", "hostIPC"})
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@every_pod
def test_a_pod_has_what_a_read_only_root_lacks(pod: dict[str, Any]) -> None:
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    for container in pod["spec"]["containers"]:
        paths = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert "emptyDir" in paths["/tmp"]
        assert "emptyDir" in paths["/home/cpsc"]
    assert not any("hostPath" in volume for volume in volumes.values())


@every_pod
def test_a_pod_says_what_it_needs_at_least_and_at_most(pod: dict[str, Any]) -> None:
    for container in pod["spec"]["containers"]:
        for bound in ("requests", "limits"):
            assert container["resources"][bound].keys() >= {"cpu", "memory"}


@every_pod
def test_a_pod_is_covered_by_the_network_policy(pod: dict[str, Any]) -> None:
    policy = DOCUMENTS["NetworkPolicy"]["spec"]

    assert policy["policyTypes"] == ["Ingress"]
    assert pod["metadata"]["labels"].items() >= policy["podSelector"]["matchLabels"].items()


def test_the_cluster_asks_for_a_token_and_nothing_holds_one() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token"}
    assert not any("value" in entry for pod in PODS.values() for entry in environment(pod))


def environment(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for container in pod["spec"]["containers"] for entry in container.get("env", [])]


def test_nothing_is_reachable_from_outside_of_the_cluster() -> None:
    assert CLUSTER["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "enableIngress" not in CLUSTER["headGroupSpec"]


def test_the_job_runs_on_the_cluster_above() -> None:
    assert JOB["clusterSelector"] == {"ray.io/cluster": DOCUMENTS["RayCluster"]["metadata"]["name"]}


def test_the_operator_is_told_the_version_of_ray_that_the_image_has() -> None:
    locked = (ROOT / "constraints.txt").read_text().splitlines()
    (ray,) = (line for line in locked if line.startswith("ray=="))

    assert str(Requirement(ray).specifier) == f"=={CLUSTER['rayVersion']}"
