"""compose.yaml, the Kubernetes manifests and the cluster files: valid, closed to the outside, and with Ray's token."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from deploy_files import DOCKER, KUBERNETES, documents, said, tool

COMPOSE = DOCKER / "compose.yaml"
CLUSTERS = sorted((DOCKER / "clusters").iterdir())
NODES = ("head", "head-gpu", "worker")


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_compose_itself_takes_the_file(profile: str) -> None:
    compose: list[str | Path] = [tool("docker", "install Docker with its Compose plugin"), "compose"]
    if said([*compose, "version"]).returncode != 0:
        compose = [tool("docker-compose", "install Docker's Compose plugin, version 2")]
    done = said([*compose, "-f", COMPOSE, "--profile", profile, "config", "--quiet"])
    assert done.returncode == 0, done.stderr


def test_compose_publishes_ports_on_the_loopback_address_alone() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert len(published) >= 3
    assert all(str(port).startswith("127.0.0.1:") for port in published)


def test_compose_keeps_the_stores_on_a_network_without_a_way_out() -> None:
    assert yaml.safe_load(COMPOSE.read_text())["networks"]["records"]["internal"] is True
    assert services()["postgres"]["networks"] == ["records"]
    assert services()["artifacts"]["networks"] == ["records"]
    assert services()["worker"]["networks"] == ["nodes"]


def test_compose_names_secrets_by_file_and_gives_trials_nothing_but_rays_token() -> None:
    document = yaml.safe_load(COMPOSE.read_text())
    assert all(set(secret) == {"file"} for secret in document["secrets"].values())
    assert services()["worker"]["secrets"] == ["ray_token"]
    for name, service in services().items():
        assert "env_file" not in service
        secret = [key for key in service.get("environment", {}) if re.search("PASSWORD|SECRET|TOKEN|_KEY$", key)]
        for key in secret:
            assert str(service["environment"][key]).startswith("/run/secrets/"), f"{name}: {key}"
    # with-secrets would put the driver's passwords into the environment of Ray's processes, and so of the trials.
    assert all("with-secrets" not in str(services()[head]["entrypoint"]) for head in ("head", "head-gpu"))


@pytest.mark.parametrize("name", NODES)
def test_every_compose_node_needs_the_token_and_has_no_privilege(name: str) -> None:
    node = services()[name]
    assert node["environment"]["RAY_AUTH_MODE"] == "token"
    assert node["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
    assert node["cap_drop"] == ["ALL"]
    assert node["security_opt"] == ["no-new-privileges:true"]
    assert "healthcheck" in node


@pytest.mark.parametrize("path", CLUSTERS, ids=[path.name for path in CLUSTERS])
def test_every_cluster_file_turns_rays_token_on_and_keeps_the_dashboard_local(path: Path) -> None:
    text = path.read_text()
    starts = re.findall(r"ray start[^|]*?--head.*", text)
    assert starts
    assert re.search(r"RAY_AUTH_MODE[=:] ?token", text)
    assert text.count("--dashboard-host=127.0.0.1") == 1


def test_ray_takes_the_cluster_file() -> None:
    import ray.autoscaler

    schema = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((DOCKER / "clusters" / "ray-up.yaml").read_text()), schema)


def test_skypilot_takes_the_task() -> None:
    schemas = pytest.importorskip("sky.utils.schemas", reason="needs SkyPilot: pip install skypilot")
    jsonschema.validate(yaml.safe_load((DOCKER / "clusters" / "skypilot.yaml").read_text()), schemas.get_task_schema())


@pytest.mark.parametrize("path", KUBERNETES, ids=[path.name for path in KUBERNETES])
def test_manifests_keep_the_schemas_of_kubernetes(path: Path) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    native = [document for document in documents(path) if not document["apiVersion"].startswith("ray.io/")]
    for document in native:
        kubernetes_validate.validate(document, "1.32", strict=True)
    for spec in pod_specs(path):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}
        kubernetes_validate.validate(pod, "1.32", strict=True)


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_ray_manifests_keep_the_schema_of_kuberay(name: str) -> None:
    folder = os.environ.get("KUBERAY_CRDS")
    if folder is None:
        pytest.skip("needs KUBERAY_CRDS, the folder helm-chart/kuberay-operator/crds of KubeRay 1.7")
    (document,) = documents(DOCKER / "kubernetes" / name)
    (definition,) = documents(Path(folder) / f"ray.io_{document['kind'].lower()}s.yaml")
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == "v1"]
    _close(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(document, schema)


def _close(schema: Any) -> None:
    """Refuse unknown keys, which Kubernetes would drop in silence, and read its integer-or-text fields."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        if schema.pop("x-kubernetes-int-or-string", False):
            schema["type"] = ["integer", "string"]
        for value in list(schema.values()):
            _close(value)
    elif isinstance(schema, list):
        for value in schema:
            _close(value)


def pod_specs(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every pod's specification, wherever it stands in a manifest."""

    def walk(found: Any) -> Iterator[dict[str, Any]]:
        if isinstance(found, dict):
            if "containers" in found:
                yield found
            for value in found.values():
                yield from walk(value)
        elif isinstance(found, list):
            for value in found:
                yield from walk(value)

    for document in documents(path):
        yield from walk(document)


@pytest.mark.parametrize("path", KUBERNETES, ids=[path.name for path in KUBERNETES])
def test_no_pod_runs_as_root_or_may_become_it_or_speak_to_the_api_server(path: Path) -> None:
    for spec in pod_specs(path):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_manifests_hold_no_secret_and_every_claim_that_they_mount() -> None:
    every = [document for path in KUBERNETES for document in documents(path)]
    assert not [document for document in every if document["kind"] == "Secret"]
    claims = {document["metadata"]["name"] for document in every if document["kind"] == "PersistentVolumeClaim"}
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for path in KUBERNETES
        for spec in pod_specs(path)
        for volume in spec.get("volumes", [])
        if "persistentVolumeClaim" in volume
    }
    assert mounted == claims


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_kuberay_gives_every_node_the_token(name: str) -> None:
    (document,) = documents(DOCKER / "kubernetes" / name)
    spec = document["spec"]["rayClusterSpec"] if document["kind"] == "RayJob" else document["spec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    (head,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "trials would see the driver's passwords"
    assert "PGPASSWORD" not in {variable["name"] for variable in head["env"]}


def test_network_policies_name_labels_that_pods_carry() -> None:
    ours = {"app": {"postgres", "mlflow", "sweeper-submitter"}}
    for document in documents(DOCKER / "kubernetes" / "networkpolicy.yaml"):
        named = re.findall(r"'app': '([^']+)'", str(document))
        assert set(named) <= ours["app"]
    texts = "".join(path.read_text() for path in KUBERNETES if path.name != "networkpolicy.yaml")
    assert all(f"app: {label}" in texts for label in ours["app"])
