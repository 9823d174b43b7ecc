"""deploy/kubernetes matches the program's settings, ports and paths, and its script works."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataflow.config.settings import SECRETS, Settings
from dataflow.startup.launch import parse_launch

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
BASE, EXAMPLE = KUBERNETES / "base", KUBERNETES / "overlays/example"
BYTEWAX_VARIABLES = {"BYTEWAX_POD_NAME", "BYTEWAX_STATEFULSET_NAME", "BYTEWAX_HOSTFILE_PATH"}


def read(path: Path) -> dict[str, Any]:
    manifest = yaml.safe_load(path.read_text())
    assert isinstance(manifest, dict)
    return manifest


STATEFUL_SET = read(BASE / "statefulset.yaml")
POD: dict[str, Any] = STATEFUL_SET["spec"]["template"]["spec"]
(WORKER,) = POD["containers"]
ENVIRONMENT = {entry["name"]: entry.get("value", "") for entry in WORKER["env"]}
SERVICE = read(BASE / "service.yaml")
POLICY = read(BASE / "networkpolicy.yaml")
PORTS = {port["name"]: port["containerPort"] for port in WORKER["ports"]}
MOUNTS = {mount["name"]: mount["mountPath"] for mount in WORKER["volumeMounts"]}


def settings_of(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def merged() -> dict[str, str]:
    """The settings of the example overlay, merged with those of the base."""
    generators = read(EXAMPLE / "kustomization.yaml")["configMapGenerator"]
    (literals,) = (entry["literals"] for entry in generators if "literals" in entry)
    return settings_of((BASE / "settings.env").read_text()) | settings_of("\n".join(literals))


def hosts(folder: Path) -> list[str]:
    return (folder / "hosts").read_text().splitlines()


# --- settings


def test_every_variable_is_a_setting():
    secrets = {f"{name.upper()}_FILE" for name in SECRETS}
    assert set(ENVIRONMENT) <= {*Settings.names(), *secrets, *BYTEWAX_VARIABLES}
    assert set(merged()) <= set(Settings.names())


@pytest.mark.parametrize("base", [settings_of((BASE / "settings.env").read_text()), merged()])
def test_the_settings_are_valid_together(monkeypatch, tmp_path, base):
    monkeypatch.chdir(tmp_path)  # without a .env
    for name in (*Settings.names(), *(f"{name.upper()}_FILE" for name in SECRETS)):
        monkeypatch.delenv(name, raising=False)
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    files = {name: str(secret) for name in ENVIRONMENT if name.endswith("_FILE")}
    variables = {n: v for n, v in ENVIRONMENT.items() if n not in BYTEWAX_VARIABLES}
    for name, value in (base | variables | files).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.stargate_password is not None
    assert Path(settings.recovery_dir).parent == Path(MOUNTS["recovery"])


def test_secrets_are_files_of_the_mounted_secret():
    for name, value in ENVIRONMENT.items():
        if name.endswith("_FILE"):
            assert value.startswith(MOUNTS["secrets"] + "/")
    assert not {name.upper() for name in SECRETS} & {*ENVIRONMENT, *merged()}


def test_kubernetes_sets_no_variables_for_services():
    assert POD["enableServiceLinks"] is False


# --- the processes of the cluster


@pytest.mark.parametrize("folder", [BASE, EXAMPLE])
def test_each_pod_finds_its_number_and_the_others(tmp_path, folder):
    names = hosts(folder)
    assert ENVIRONMENT["BYTEWAX_HOSTFILE_PATH"] == f"{MOUNTS['hosts']}/hosts"
    for number, name in enumerate(names):
        pod = name.partition(".")[0]
        environment = ENVIRONMENT | {
            "BYTEWAX_POD_NAME": pod,
            "BYTEWAX_HOSTFILE_PATH": str(folder / "hosts"),
        }
        started = parse_launch(["bytewax/run.py", "dataflow.main"], environment)
        assert started.process_id == number
        assert started.addresses == tuple(names)
        assert started.status_port_offset == 0, "each pod is a host of its own"


@pytest.mark.parametrize("folder", [BASE, EXAMPLE])
def test_the_hosts_are_the_pods_by_the_names_that_the_service_gives_them(folder):
    name, service = STATEFUL_SET["metadata"]["name"], STATEFUL_SET["spec"]["serviceName"]
    assert service == SERVICE["metadata"]["name"]
    expected = [f"{name}-{n}.{service}:{PORTS['cluster']}" for n in range(len(hosts(folder)))]
    assert hosts(folder) == expected


def test_there_are_as_many_replicas_as_hosts():
    assert STATEFUL_SET["spec"]["replicas"] == len(hosts(BASE))
    (replicas,) = read(EXAMPLE / "kustomization.yaml")["replicas"]
    assert replicas == {"name": STATEFUL_SET["metadata"]["name"], "count": len(hosts(EXAMPLE))}


def test_processes_start_together_and_resolve_each_other_before_they_are_ready():
    assert STATEFUL_SET["spec"]["podManagementPolicy"] == "Parallel"
    assert STATEFUL_SET["spec"]["updateStrategy"] == {"type": "OnDelete"}
    assert SERVICE["spec"]["publishNotReadyAddresses"] is True
    assert SERVICE["spec"]["clusterIP"] == "None"


# --- ports, probes, rights


def test_the_ports_are_those_of_the_program():
    assert ENVIRONMENT["STATUS_PORT"] == str(PORTS["status"])
    assert PORTS["status"] == Settings.model_fields["status_port"].default
    assert {p["name"]: p["port"] for p in SERVICE["spec"]["ports"]} == PORTS
    paths = {WORKER[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness")}
    assert paths == {"/healthz"}
    assert WORKER["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "status"}


def test_only_the_processes_reach_the_port_that_accepts_pickles():
    labels = STATEFUL_SET["spec"]["template"]["metadata"]["labels"]
    assert POLICY["spec"]["podSelector"]["matchLabels"] == labels
    allowed = {
        port["port"]: rule["from"] for rule in POLICY["spec"]["ingress"] for port in rule["ports"]
    }
    assert set(allowed) == set(PORTS.values())
    assert allowed[PORTS["cluster"]] == [{"podSelector": {"matchLabels": labels}}]


def test_a_pod_has_time_to_stop_and_no_privileges():
    assert POD["terminationGracePeriodSeconds"] == 30
    assert POD["automountServiceAccountToken"] is False
    context = WORKER["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    user = re.search(r"(?m)^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text())
    assert user is not None
    assert (POD["securityContext"]["runAsUser"], POD["securityContext"]["fsGroup"]) == tuple(
        int(number) for number in user.groups()
    )
    assert POD["securityContext"]["runAsNonRoot"] is True


def test_each_pod_has_its_own_volume_that_outlives_it():
    (claim,) = STATEFUL_SET["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "recovery"
    kept = STATEFUL_SET["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert set(kept.values()) == {"Retain"}


def test_the_image_is_the_version_of_the_project():
    (version,) = re.findall(r'(?m)^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text())
    for folder in (BASE, EXAMPLE):
        (image,) = read(folder / "kustomization.yaml")["images"]
        assert (image["name"], str(image["newTag"])) == (WORKER["image"], version)


def test_every_file_that_a_kustomization_names_exists():
    for folder in (BASE, EXAMPLE):
        kustomization = read(folder / "kustomization.yaml")
        names = list(kustomization["resources"])
        for generator in kustomization["configMapGenerator"]:
            names += [*generator.get("files", ()), *generator.get("envs", ())]
        assert [name for name in names if not (folder / name).exists()] == []


# --- the script `roll`

KUBECTL = """#!/usr/bin/env bash
# A fake kubectl: records its arguments and responds like a cluster.
printf '%s\\n' "$*" >>"$CALLS"
case "$*" in
    "kustomize "*) cat "$MANIFESTS" ;;
    *" get pvc "*) for n in $VOLUMES; do echo "persistentvolumeclaim/recovery-gibsey-embedder-$n"; done
        echo persistentvolumeclaim/data-kafka-0 ;;
    *" apply --filename -") cat >"$JOB" ;;
    *" get job "*succeeded*) [ -n "$REFUSED" ] || echo 1 ;;
    *" get job "*failed*) [ -z "$REFUSED" ] || echo 1 ;;
esac
"""
MANIFESTS = """apiVersion: v1
data:
  hosts: |
    gibsey-embedder-0.gibsey-embedder:2101
    gibsey-embedder-1.gibsey-embedder:2101
    gibsey-embedder-2.gibsey-embedder:2101
kind: ConfigMap
metadata:
  name: gibsey-embedder-hosts-84h8mbgc72
  namespace: gibsey
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: gibsey-embedder
  namespace: gibsey
spec:
  replicas: 3
  template:
    spec:
      containers:
      - args:
        - run
        image: registry.example.com/gibsey-embedder:0.2.0
"""


class Rolled:
    """A run of `roll` with a fake kubectl that records its calls."""

    def __init__(self, folder: Path, manifests: str = MANIFESTS, **environment: str) -> None:
        program = folder / "kubectl"
        program.write_text(KUBECTL)
        program.chmod(0o755)
        (folder / "manifests").write_text(manifests)
        (folder / "calls").touch()
        variables = {"VOLUMES": "", "REFUSED": "", **environment}
        variables |= {name: str(folder / name.lower()) for name in ("CALLS", "MANIFESTS", "JOB")}
        self.done = subprocess.run(
            [KUBERNETES / "roll", "my/overlay"],
            env={"PATH": f"{folder}:{os.environ['PATH']}", **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.calls = (folder / "calls").read_text().splitlines()
        self.job = folder / "job"

    def at(self, *parts: str) -> int:
        """The index of the first call that contains all parts; -1 if there is none."""
        matches = [n for n, call in enumerate(self.calls) if all(part in call for part in parts)]
        return matches[0] if matches else -1


def test_roll_stops_all_gathers_and_starts_all(tmp_path):
    rolled = Rolled(tmp_path, VOLUMES="10 0 1")
    assert rolled.done.returncode == 0, rolled.done.stderr
    steps = [
        rolled.at("scale statefulset gibsey-embedder --replicas 0"),
        rolled.at("wait --for delete pod"),
        rolled.at("apply --filename -"),
        rolled.at("get job", "succeeded"),
        rolled.at("apply --kustomize my/overlay"),
        rolled.at("wait", "readyReplicas}=3"),
    ]
    assert steps == sorted(steps)
    assert -1 not in steps
    assert all(
        "--namespace gibsey" in call for call in rolled.calls[1:] if "--kustomize" not in call
    )


def test_the_gather_job_mounts_every_volume_with_process_0_first(tmp_path):
    pod = read(Rolled(tmp_path, VOLUMES="10 0 1").job)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    directory = ENVIRONMENT["RECOVERY_DIR"].removeprefix(MOUNTS["recovery"])
    volumes = [f"/volumes/{n}{directory}" for n in (0, 1, 10)]
    assert container["args"] == ["gather", "--allow-missing", *volumes]
    assert container["image"] == "registry.example.com/gibsey-embedder:0.2.0"
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {f"recovery-{n}": f"/volumes/{n}" for n in (0, 1, 10)}
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"]}
    assert claims == {f"recovery-{n}": f"recovery-gibsey-embedder-{n}" for n in (0, 1, 10)}
    assert pod["securityContext"] == POD["securityContext"]
    assert container["securityContext"] == WORKER["securityContext"]


def test_nothing_starts_if_the_store_cannot_be_gathered(tmp_path):
    rolled = Rolled(tmp_path, VOLUMES="0 1", REFUSED="yes")
    assert rolled.done.returncode == 1
    assert "nothing runs" in rolled.done.stderr
    assert rolled.at("apply --kustomize") == -1


def test_roll_reports_a_missing_volume_of_process_0_and_creates_no_new_store(tmp_path):
    rolled = Rolled(tmp_path, VOLUMES="1 2")
    assert rolled.done.returncode == 1
    assert "recovery-gibsey-embedder-0 is gone" in rolled.done.stderr
    assert rolled.at("apply") == -1


def test_roll_rejects_unequal_numbers_of_hosts_and_replicas_before_it_stops_anything(tmp_path):
    manifests = MANIFESTS.replace("replicas: 3", "replicas: 4")
    rolled = Rolled(tmp_path, manifests)
    assert rolled.done.returncode == 1
    assert "4 replicas and 3 lines in hosts" in rolled.done.stderr
    assert rolled.at("scale") == -1


def test_the_first_deployment_has_nothing_to_gather(tmp_path):
    rolled = Rolled(tmp_path)
    assert rolled.done.returncode == 0
    assert rolled.at("apply --filename -") == -1
    assert rolled.at("apply --kustomize my/overlay") > 0
