"""compose.yaml matches the program's settings, ports and paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dataflow.config.settings import SECRETS, Settings
from tests.deploy.stack import STACK, example_settings

ROOT = Path(__file__).parents[2]
SERVICES = STACK.services
WORKERS = ("worker", "worker-0", "worker-1")
ONE_SHOT = ("topics", "schema", "model")
BYTEWAX_VARIABLES = {"BYTEWAX_PROCESS_ID", "BYTEWAX_ADDRESSES"}
NEEDED = {
    *("kafka", "topics", "cassandra", "schema", "stargate", "stargate-rest"),
    *("ollama", "model", "rag_service"),
}
"""The dependencies of a worker. Debezium is not one: events may come from elsewhere."""
# The ports of each service. Every URL in the stack must name one of them.
LISTENS = {
    "kafka": {9092},
    "ollama": {11434},
    "ollama-gpu": {11434},
    "stargate": {8081},
    "stargate-rest": {8082},
    "stargate-graphql": {8080},
    "rag_service": {8001},
}
environment = STACK.environment


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """There is no `.env`, and the environment has no settings."""
    monkeypatch.chdir(tmp_path)
    for name in (*Settings.names(), *(f"{name.upper()}_FILE" for name in SECRETS)):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def addresses() -> Iterator[tuple[str, int]]:
    for worker in WORKERS:
        for value in environment(worker).values():
            for host, port in re.findall(r"(?:^|//|;)([a-z_-][\w-]*):(\d+)", value):
                yield host, int(port)


@pytest.mark.parametrize("worker", WORKERS)
def test_every_variable_of_a_worker_is_a_setting(worker):
    known = {*Settings.names(), *(f"{name.upper()}_FILE" for name in SECRETS), *BYTEWAX_VARIABLES}
    assert set(environment(worker)) <= known


@pytest.mark.parametrize("worker", WORKERS)
def test_the_settings_of_a_worker_are_valid_together(worker, clean_environment):
    for name, value in environment(worker).items():
        clean_environment.setenv(name, value)
    settings = Settings()
    assert settings.stargate_url == "http://stargate-rest:8082"
    assert settings.stargate_auth_url.endswith("/v1/auth")


def test_every_variable_that_env_may_set_is_a_setting():
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    assert used - {"GIBSEY_TAG"} <= set(Settings.names())


def test_a_token_in_env_does_not_replace_the_login_of_the_stack(clean_environment):
    tokens = {"STARGATE_AUTH_TOKEN": "t", "STARGATE_PASSWORD_FILE": "/run/secrets/password"}
    tokens |= {"STARGATE_AUTH_TOKEN_FILE": "/run/secrets/stargate-token"}
    for name, value in environment("worker", tokens).items():
        clean_environment.setenv(name, value)
    settings = Settings()
    assert settings.stargate_auth_token is None
    assert settings.stargate_username == "cassandra"


@pytest.mark.parametrize("worker", WORKERS)
def test_a_setting_in_env_reaches_the_container_unless_the_head_of_the_file_names_it(worker):
    head, _, _ = (ROOT / "compose.yaml").read_text().partition("\nname:")
    listed = head[head.index("This stack fixes") : head.index("It creates topics")]
    fixed = {name for name in example_settings() if re.search(rf"\b{name}\b", listed)}
    fixed -= {"STARGATE_USERNAME", "STARGATE_PASSWORD"}  # the head states that .env may set them
    assert STACK.fixed(worker) - BYTEWAX_VARIABLES == fixed
    dotenv = {name: f"my {name}" for name in example_settings()}
    variables = environment(worker, dotenv)
    assert {name for name in dotenv if variables[name] != dotenv[name]} == fixed


def test_files_that_settings_name_are_mounted_and_stay_out_of_git():
    for worker in WORKERS:
        assert "./deploy/compose/secrets:/run/secrets:ro" in SERVICES[worker]["volumes"]
    ignored = (ROOT / "deploy/compose/secrets/.gitignore").read_text().splitlines()
    assert ignored[-2:] == ["*", "!.gitignore"]


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_starts_its_dependencies_and_nothing_else(worker):
    assert STACK.brought_up(worker) == {worker, *NEEDED}
    profiles = {name for name in NEEDED if SERVICES[name].get("profiles")}
    assert profiles == set(), "compose would not start them without their profile"


def test_the_whole_stack_includes_debezium_and_profiles_select_the_rest():
    without_profile = {name for name, service in SERVICES.items() if not service.get("profiles")}
    assert without_profile == {"worker", "debezium", *NEEDED}
    of_profiles = {
        profile: {name for name in SERVICES if profile in SERVICES[name].get("profiles", ())}
        for profile in ("monitoring", "gpu", "graphql", "cluster")
    }
    assert of_profiles == {
        "monitoring": {"prometheus", "alertmanager", "grafana"},
        "gpu": {"ollama-gpu"},
        "graphql": {"stargate-graphql"},
        "cluster": {"worker-0", "worker-1"},
    }


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_dependency_has_a_condition_that_can_hold(name):
    for needed, condition in STACK.needs(name).items():
        if needed in ONE_SHOT:
            assert condition == "service_completed_successfully", needed
            assert SERVICES[needed]["restart"] == "no", needed
        else:
            assert condition == "service_healthy", needed
            assert SERVICES[needed]["healthcheck"]["test"], needed


@pytest.mark.parametrize("name", ONE_SHOT)
def test_a_worker_depends_on_every_service_that_ends(name):
    # Otherwise `up --wait` reports the end as a failure: github.com/docker/compose/issues/10596
    assert name in STACK.needs("worker")


def test_a_service_of_the_stack_listens_on_every_address():
    seen = set(addresses())
    assert {host for host, _ in seen} >= {"kafka", "ollama", "stargate", "stargate-rest"}
    for host, port in seen - {("worker-0", 2101), ("worker-1", 2101)}:
        assert port in LISTENS[host], (host, port)
    assert set(LISTENS) <= set(SERVICES)


def test_the_two_workers_of_the_cluster_know_each_other_by_number():
    names = WORKERS[1:]
    lists = {environment(name)["BYTEWAX_ADDRESSES"] for name in names}
    assert len(lists) == 1
    hosts = [address.split(":")[0] for address in lists.pop().split(";")]
    assert [hosts[int(environment(name)["BYTEWAX_PROCESS_ID"])] for name in names] == list(names)
    assert {tuple(SERVICES[name]["volumes"]) for name in names} == {
        tuple(SERVICES["worker"]["volumes"])
    }


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_has_time_to_stop_and_restarts_even_after_a_clean_end(worker):
    assert SERVICES[worker]["stop_grace_period"] == "30s"
    assert SERVICES[worker]["restart"] == "unless-stopped"
    assert SERVICES[worker]["read_only"] is True
    assert SERVICES[worker]["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - set(ONE_SHOT)))
def test_every_service_that_stays_has_a_health_check(name):
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_are_published_on_this_machine_only(name):
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_from_elsewhere_are_pinned(name):
    image = SERVICES[name]["image"]
    assert image.startswith("gibsey-embedder:") or re.search(r":v?\d+\.\d+\.\d+", image)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_path_that_is_mounted_from_this_repository_exists(name):
    for volume in SERVICES[name].get("volumes", ()):
        source = volume.split(":")[0]
        assert source in STACK.volumes or (ROOT / source).exists(), volume


def test_debezium_writes_to_the_topic_that_the_worker_reads():
    text = (ROOT / "deploy/compose/debezium/debezium.properties").read_text()
    properties = dict(re.findall(r"(?m)^([\w.]+)=(.*)$", text))
    topic = Settings.model_fields["kafka_topic"].default
    assert properties["topic.replacement"] == topic
    assert properties["kafka.producer.bootstrap.servers"] == environment("worker")["KAFKA_BROKER"]
    assert f"--topic {topic} --partitions 3" in SERVICES["topics"]["command"][0]


def test_the_schema_has_the_tables_that_the_settings_name():
    schema = (ROOT / "deploy/compose/cassandra/schema.cql").read_text()
    fields = Settings.model_fields
    for table in ("stargate_table", "stargate_pages_table"):
        name = f"{fields['stargate_keyspace'].default}.{fields[table].default}"
        assert f"CREATE TABLE IF NOT EXISTS {name} (" in schema


def test_prometheus_finds_the_workers_and_has_the_rules_of_the_repository():
    config = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    of_repository = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert config["rule_files"] == of_repository["rule_files"]
    (job,), (other, *_) = config["scrape_configs"], of_repository["scrape_configs"]
    assert job["job_name"] == other["job_name"]
    (targets,) = job["dns_sd_configs"]
    assert set(targets["names"]) == set(WORKERS)
    assert {str(targets["port"])} == {environment(name)["STATUS_PORT"] for name in WORKERS}
    mounted = {volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in config["rule_files"]} <= mounted
