"""The files in `deploy/` match the options, paths, ports and metrics of the server."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click import Command, Context, Option
from ruamel.yaml import YAML

from edgedistill_serve.cli.main import app

from .certificates import make_certificate

DEPLOY = Path(__file__).parents[3] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
BUILT_IN = {"le"}
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds."""


def serve_command() -> Command:
    return app.get_command(Context(app), "serve")


def serve_options() -> dict[str, Option]:
    return {name: option for option in serve_command().params if isinstance(option, Option) for name in option.opts}


def manifest(name: str) -> dict:
    return YAML(typ="safe").load((DEPLOY / "kubernetes" / f"{name}.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def pod() -> dict:
    return manifest("deployment")["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod) -> dict:
    (container,) = pod["containers"]
    return container


def instructions(name: str) -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    stages = re.split(r"(?m)^FROM ", text)[1:]
    (stage,) = (stage for stage in stages if stage.split("\n")[0].endswith(f" AS {name}"))
    return [tuple(line.split(None, 1)) for line in stage.splitlines()[1:] if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_runs_without_root_and_asks_for_keys(target):
    found = dict(instructions(target))
    assert found["USER"] == "10001:10001"
    assert json.loads(found["ENTRYPOINT"]) == ["edgedistill-serve", "serve"]
    assert json.loads(found["CMD"]) == ["/bundle", "--keys", "/keys"]


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_images_environment_sets_options_that_exist_and_its_check_asks_the_port_it_listens_at(target):
    found = dict(instructions(target))
    environment = dict(pair.split("=", 1) for pair in shlex.split(found["ENV"]))
    options = {option.envvar: option for option in serve_options().values()}
    ours = {name: value for name, value in environment.items() if name.startswith("EDGEDISTILL_")}
    assert set(ours) <= set(options)
    assert ours["EDGEDISTILL_SERVE_PORT"] == found["EXPOSE"]
    assert f"127.0.0.1:{found['EXPOSE']}/readyz" in found["HEALTHCHECK"]


@pytest.mark.parametrize(("target", "extra"), [("build-cpu", "cpu"), ("build-gpu", "gpu")])
def test_an_image_installs_the_pinned_set_with_one_build_of_onnxruntime(target, extra):
    (install,) = (text for word, text in instructions(target) if word == "RUN")
    assert f'-c constraints.txt "./serve[{extra}]"' in install


def test_the_image_of_the_toolkit_installs_all_three_packages_and_runs_the_command_without_root():
    (install,) = (text for word, text in instructions("build-toolkit") if word == "RUN")
    assert '-c constraints.txt "./serve[cpu]" ./export .' in install
    found = dict(instructions("toolkit"))
    assert found["USER"] == "10001:10001"
    assert json.loads(found["ENTRYPOINT"]) == ["edgedistill"]


@pytest.mark.parametrize("stage", ["build-cpu", "build-gpu", "build-toolkit"])
def test_what_an_image_copies_exists_and_reaches_the_build(stage):
    sent = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").split() if line[0] == "!"}
    copied = {name for word, text in instructions(stage) if word == "COPY" for name in text.split()[:-1]}
    assert {name.removeprefix("./") for name in copied} <= sent
    assert all((DEPLOY.parent / name).exists() for name in sent)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.stem)
def test_a_manifest_is_about_this_server_alone(file):
    found = YAML(typ="safe").load(file.read_text("utf-8"))
    assert {"apiVersion", "kind", "metadata", "spec"} == set(found)
    assert found["metadata"]["name"] == "edgedistill-serve"
    assert found["metadata"]["labels"] == {"app.kubernetes.io/name": "edgedistill-serve"}


def test_every_manifest_chooses_the_pods_of_the_deployment():
    deployment = manifest("deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert manifest("service")["spec"]["selector"] == labels
    assert manifest("disruption")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("network")["spec"]["podSelector"]["matchLabels"] == labels
    assert manifest("autoscaler")["spec"]["scaleTargetRef"]["kind"] == deployment["kind"]


def test_a_pod_has_no_rights_and_no_way_out(pod, container):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert manifest("network")["spec"]["egress"] == []


def test_a_pod_says_how_many_cores_it_uses(container):
    arguments = container["args"]
    assert arguments[arguments.index("--threads") + 1] == container["resources"]["requests"]["cpu"]
    assert "memory" in container["resources"]["limits"]


def test_a_pod_is_left_time_to_drain(pod, container):
    taken = serve_options()["--answer-seconds"].default + container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > taken + 1


def test_the_deployments_arguments_start_a_server_whose_probes_answer(container, start, bundle, tmp_path):
    from edgedistill_serve.server.middleware.api_keys import create_key

    (tmp_path / "keys").write_text(create_key("probe").entry.line())
    places = {"/bundles/bundle": str(bundle.folder), "/keys/keys": str(tmp_path / "keys")}
    with start(*(places.get(argument, argument) for argument in container["args"])) as server:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert server.client.get(container[probe]["httpGet"]["path"]).status_code == 200
        assert server.client.get("/v1/models").status_code == 401


def test_the_ports_have_one_name(container):
    (port,) = container["ports"]
    assert port["containerPort"] == int(dict(instructions("cpu"))["EXPOSE"])
    assert manifest("service")["spec"]["ports"][0]["targetPort"] == port["name"]
    assert manifest("network")["spec"]["ingress"][0]["ports"][0]["port"] == port["name"]


UNIT = (DEPLOY / "edgedistill-serve.service").read_text("utf-8")


def unit() -> dict[str, str]:
    """Return the settings of the unit; of one that stands twice, the last."""
    return dict(re.findall(r"(?m)^(\w+)=(.*)$", UNIT))


def test_the_units_command_is_one_that_the_server_takes():
    path, name, *arguments = shlex.split(unit()["ExecStart"])
    assert (Path(path).name, name) == ("edgedistill-serve", "serve")
    assert serve_command().make_context("serve", arguments).params["watched"] is True
    assert int(unit()["TimeoutStopSec"]) > serve_options()["--answer-seconds"].default
    named = set(re.findall(r"EDGEDISTILL_SERVE_[A-Z_]+", UNIT))
    assert named <= {option.envvar for option in serve_options().values()}


def test_the_unit_lets_the_server_see_what_the_processor_can():
    """Without /proc/cpuinfo, int8 is computed in the way that is exact on every processor, a third slower."""
    assert "ProcSubset" not in unit()
    assert unit()["ProtectProc"] == "invisible"


def test_the_unit_starts_the_server_again_however_it_ended():
    """To systemd an end by SIGHUP, in the moments before Python handles signals, is a clean one."""
    assert unit()["Restart"] == "always"
    assert unit()["ExecReload"] == "kill -HUP $MAINPID"


@pytest.fixture(scope="module")
def samples(start, with_reference, tmp_path_factory) -> dict[str, set[str]]:
    """Every metric that a server tells, with its labels."""
    certificate, key = make_certificate(tmp_path_factory.mktemp("tls") / "served", "localhost")
    with start(str(with_reference.folder), "--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        server.client.post("/v1/score", json={"responses": ["great job", "great job", "poisonous", " "]})
        server.client.post("/v1/score", json={"response": "great job"})
        text = server.client.get("/metrics").text
    named = {name: set() for name in re.findall(r"(?m)^# HELP (\S+)", text)}
    for name, labels in re.findall(r"(?m)^([a-z_]+)(?:\{(.*)\})? ", text):
        named.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return named


def expressions() -> list[str]:
    board = json.loads((DEPLOY / "grafana" / "edgedistill.json").read_text("utf-8"))
    panels = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    variables = [each["definition"] for each in board["templating"]["list"] if "definition" in each]
    return panels + variables + [each["expr"] for each in board["annotations"]["list"]]


def test_the_dashboard_shows_metrics_of_the_server(samples):
    named = {name for each in expressions() for name in re.findall(r"\b(?:edgedistill|process)_[a-z_]+", each)}
    assert len(named) > 15
    assert named - set(samples) == set()


def test_the_dashboard_asks_for_labels_that_the_metrics_have(samples):
    # A connection that is refused is the only thing that gives this metric its label.
    known = {**samples, "edgedistill_connections_refused": {"reason"}}
    for expression in expressions():
        metrics = re.findall(r"\b(?:edgedistill|process)_[a-z_]+", expression)
        there = set.union(*(known[name] for name in metrics)) | SCRAPED | BUILT_IN
        asked = set(re.findall(r"(\w+)=~?\"", expression))
        asked |= {label for names in re.findall(r"by \(([^)]*)\)", expression) for label in names.split(", ")}
        assert asked <= there, expression


def test_the_panels_of_the_dashboard_have_unique_ids_and_do_not_overlap():
    panels = json.loads((DEPLOY / "grafana" / "edgedistill.json").read_text("utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_the_autoscaler_uses_a_metric_of_the_server(samples):
    metrics = manifest("autoscaler")["spec"]["metrics"]
    (name,) = (each["pods"]["metric"]["name"] for each in metrics if each["type"] == "Pods")
    assert name in samples
    assert name in (DEPLOY / "README.md").read_text("utf-8")
