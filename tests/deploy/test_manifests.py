"""The manifests are valid by the schemas of several Kubernetes versions.

If there is a `kubectl`, the tests also validate what it builds, as `roll` does.
"""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.test_kubernetes import (
    BASE,
    ENVIRONMENT,
    EXAMPLE,
    MOUNTS,
    POD,
    ROOT,
    STATEFUL_SET,
    WORKER,
    Rolled,
    read,
)

VERSIONS = ("1.30", "1.32", "1.34")
FILES = ("statefulset.yaml", "service.yaml", "networkpolicy.yaml")
OVERLAYS = [BASE, EXAMPLE]
KUSTOMIZE_FIELDS = {
    *("apiVersion", "kind", "namespace", "resources", "images", "replicas", "configMapGenerator"),
}
"""Fields that the kustomizations use. Any other field may be a typing error."""


def check(manifest: dict[str, Any], version: str) -> None:
    """Validate a manifest against the schema of its kind, which defines every field."""
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", FILES)
def test_each_manifest_matches_its_schema(file, version):
    check(read(BASE / file), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_gather_job_matches_its_schema(version, tmp_path):
    check(read(Rolled(tmp_path, VOLUMES="0 1").job), version)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "replicas"), "two"),
        (("spec", "template", "spec", "containers", 0, "livenessProb"), {}),
        (("spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"), None),
    ],
    ids=["a text for a number", "a misspelt field", "a missing number"],
)
def test_the_validation_finds_a_typing_error(path, value):
    manifest: Any = copy.deepcopy(STATEFUL_SET)
    *parents, last = path
    node = manifest
    for key in parents:
        node = node[key]
    node[last] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        check(manifest, VERSIONS[0])


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_the_output_of_kustomize_matches_the_schemas(folder):
    built = subprocess.run(
        ["kubectl", "kustomize", folder], check=True, capture_output=True, text=True
    )
    manifests = list(yaml.safe_load_all(built.stdout))
    kinds = sorted(manifest["kind"] for manifest in manifests)
    assert kinds == ["ConfigMap", "ConfigMap", "NetworkPolicy", "Service", "StatefulSet"]
    for manifest in manifests:
        check(manifest, VERSIONS[-1])


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_a_kustomization_has_only_known_fields(folder):
    assert read(folder / "kustomization.yaml").keys() <= KUSTOMIZE_FIELDS


def test_every_manifest_is_built():
    named = read(BASE / "kustomization.yaml")["resources"]
    assert sorted(named) == sorted(FILES)
    existing = {path.name for path in BASE.iterdir()}
    assert existing == {*FILES, "kustomization.yaml", "hosts", "settings.env"}


# --- references between manifests


def ports_by_name() -> Iterator[str]:
    for probe in ("startup", "liveness", "readiness"):
        yield WORKER[f"{probe}Probe"]["httpGet"]["port"]


def test_the_probes_use_a_port_that_the_container_names():
    assert set(ports_by_name()) <= {port["name"] for port in WORKER["ports"]}


def test_every_volume_is_mounted_and_every_mount_has_its_volume():
    claims = {claim["metadata"]["name"] for claim in STATEFUL_SET["spec"]["volumeClaimTemplates"]}
    volumes = {volume["name"] for volume in POD["volumes"]}
    assert not claims & volumes
    assert set(MOUNTS) == claims | volumes
    writable = {m["name"] for m in WORKER["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"recovery", "tmp"}, "the root file system is read-only"


def test_every_config_map_that_is_named_is_generated():
    generated = {entry["name"] for entry in read(BASE / "kustomization.yaml")["configMapGenerator"]}
    named = {source["configMapRef"]["name"] for source in WORKER["envFrom"]}
    named |= {v["configMap"]["name"] for v in POD["volumes"] if "configMap" in v}
    assert named == generated
    changed = {
        entry["name"] for entry in read(EXAMPLE / "kustomization.yaml")["configMapGenerator"]
    }
    assert changed <= generated


@pytest.mark.parametrize(
    "text",
    [
        (BASE / "statefulset.yaml").read_text(),
        (EXAMPLE / "kustomization.yaml").read_text(),
        (ROOT / "docs/scaling.md").read_text(),
    ],
    ids=["statefulset.yaml", "overlay", "docs"],
)
def test_the_instructions_create_the_secret_that_is_mounted(text):
    (secret,) = (volume["secret"]["secretName"] for volume in POD["volumes"] if "secret" in volume)
    files = {Path(value).name for name, value in ENVIRONMENT.items() if name.endswith("_FILE")}
    created = re.findall(r"create secret generic (\S+) --from-file=(\S+)=FILE", text)
    assert created == [(secret, name) for name in sorted(files)]


def test_a_pod_has_at_least_as_long_to_stop_as_the_program():
    assert POD["terminationGracePeriodSeconds"] >= 30
