"""The manifests are what Kubernetes takes, by the schemas of several of its versions.

`kubectl`, where there is one, builds them first, as `roll` does.
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
OF_KUSTOMIZE = {
    *("apiVersion", "kind", "namespace", "resources", "images", "replicas", "configMapGenerator"),
}
"""Fields of a Kustomization that these use; another one is perhaps a slip of the pen."""


def check(manifest: dict[str, Any], version: str) -> None:
    """Hold a manifest against the schema of its kind, which knows every field."""
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", FILES)
def test_each_manifest_fits_its_schema(file, version):
    check(read(BASE / file), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_job_that_gathers_the_store_fits_its_schema(version, tmp_path):
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
def test_a_slip_would_be_found(path, value):
    manifest: Any = copy.deepcopy(STATEFUL_SET)
    *way, last = path
    place = manifest
    for step in way:
        place = place[step]
    place[last] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        check(manifest, VERSIONS[0])


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds them")
def test_what_kustomize_builds_fits_too(folder):
    built = subprocess.run(
        ["kubectl", "kustomize", folder], check=True, capture_output=True, text=True
    )
    manifests = list(yaml.safe_load_all(built.stdout))
    kinds = sorted(manifest["kind"] for manifest in manifests)
    assert kinds == ["ConfigMap", "ConfigMap", "NetworkPolicy", "Service", "StatefulSet"]
    for manifest in manifests:
        check(manifest, VERSIONS[-1])


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_a_kustomization_has_the_fields_that_it_means(folder):
    assert read(folder / "kustomization.yaml").keys() <= OF_KUSTOMIZE


def test_every_manifest_is_built():
    named = read(BASE / "kustomization.yaml")["resources"]
    assert sorted(named) == sorted(FILES)
    there = {path.name for path in BASE.iterdir()}
    assert there == {*FILES, "kustomization.yaml", "hosts", "settings.env"}


# --- what names something else


def ports_by_name() -> Iterator[str]:
    for probe in ("startup", "liveness", "readiness"):
        yield WORKER[f"{probe}Probe"]["httpGet"]["port"]


def test_the_probes_ask_a_port_that_the_container_names():
    assert set(ports_by_name()) <= {port["name"] for port in WORKER["ports"]}


def test_every_volume_is_mounted_and_every_mount_has_its_volume():
    claims = {claim["metadata"]["name"] for claim in STATEFUL_SET["spec"]["volumeClaimTemplates"]}
    volumes = {volume["name"] for volume in POD["volumes"]}
    assert not claims & volumes
    assert set(MOUNTS) == claims | volumes
    writable = {m["name"] for m in WORKER["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"recovery", "tmp"}, "all that a read-only root file system leaves to write"


def test_config_maps_that_are_named_are_made():
    made = {entry["name"] for entry in read(BASE / "kustomization.yaml")["configMapGenerator"]}
    named = {source["configMapRef"]["name"] for source in WORKER["envFrom"]}
    named |= {v["configMap"]["name"] for v in POD["volumes"] if "configMap" in v}
    assert named == made
    changed = {
        entry["name"] for entry in read(EXAMPLE / "kustomization.yaml")["configMapGenerator"]
    }
    assert changed <= made


@pytest.mark.parametrize(
    "text",
    [
        (BASE / "statefulset.yaml").read_text(),
        (EXAMPLE / "kustomization.yaml").read_text(),
        (ROOT / "docs/scaling.md").read_text(),
    ],
    ids=["statefulset.yaml", "overlay", "docs"],
)
def test_the_secret_that_is_mounted_is_the_one_that_people_are_told_to_make(text):
    (secret,) = (volume["secret"]["secretName"] for volume in POD["volumes"] if "secret" in volume)
    files = {Path(value).name for name, value in ENVIRONMENT.items() if name.endswith("_FILE")}
    told = re.findall(r"create secret generic (\S+) --from-file=(\S+)=FILE", text)
    assert told == [(secret, name) for name in sorted(files)]


def test_a_pod_may_take_as_long_to_stop_as_the_program_does():
    assert POD["terminationGracePeriodSeconds"] >= 30
