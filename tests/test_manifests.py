"""What runs facebatch on Kubernetes: the RayJob is one that KubeRay takes, and that says what is meant.

The API server drops fields that it does not know, without a word. Here they are errors.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from facebatch import cli, config, packs
from facebatch.cli.base import indexing
from facebatch.errors import UsageError
from facebatch.pipeline import cluster
from facebatch.pipeline.machine import Machine, Node
from facebatch.pipeline.pools import Work, lay_out
from facebatch.session import CPU, CUDA
from tests.conftest import SHARED

ROOT = Path(__file__).parents[1]
RAYJOB = ROOT / "conf" / "rayjob.yaml"
CONTAINERFILE = ROOT / "conf" / "Containerfile"
CONSTRAINTS = (ROOT / "conf" / "constraints.txt").read_text(encoding="utf-8")
RAY = re.findall(r"^ray==(.+)$", CONSTRAINTS, re.MULTILINE)[0]
Tree = dict[str, Any]

_BOUNDS = {"int32": 31, "int64": 63}
_METADATA: Tree = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47},
        **{key: {"type": "object", "additionalProperties": {"type": "string"}} for key in ("labels", "annotations")},
        "namespace": {"type": "string"},
    },
    "required": ["name"],
    "additionalProperties": False,
}
"""CRDs leave metadata to the API server. What of it a manifest needs; KubeRay puts more behind a name, hence 47."""


def strict(schema: Tree) -> Tree:
    """A structural schema of Kubernetes as a JSON schema that refuses what the API server would drop or refuse.

    Not evaluated are `x-kubernetes-validations`: of a RayJob they concern deletionStrategy, managedBy and
    gcsFaultToleranceOptions, none of which the manifest has (below); nor that keys of list maps are unique, but for the
    names of what the manifest lists (below).
    """
    made = {key: value for key, value in schema.items() if not key.startswith("x-") and key != "nullable"}
    if "properties" in schema:
        made["properties"] = {name: strict(inner) for name, inner in schema["properties"].items()}
        made["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            made[key] = strict(schema[key])
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    elif schema.get("format") in _BOUNDS:
        bound = 1 << _BOUNDS[schema["format"]]
        made |= {"minimum": max(-bound, schema.get("minimum", -bound)), "maximum": bound - 1}
    if schema.get("nullable"):
        made["type"] = [schema["type"], "null"]
    return made


@pytest.fixture(scope="module")
def schema() -> Tree:
    """Of ray.io/v1, as KubeRay publishes it."""
    file = SHARED / "schemas" / "ray.io_rayjobs.yaml"
    if not file.is_file():
        pytest.skip("needs KubeRay's CRD of RayJobs as ../shared/schemas/ray.io_rayjobs.yaml, which is not in here")
    crd = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    assert version["served"]
    made = strict(version["schema"]["openAPIV3Schema"])
    made["properties"]["apiVersion"]["const"] = f"{crd['spec']['group']}/v1"
    made["properties"]["kind"]["const"] = crd["spec"]["names"]["kind"]
    made["properties"]["metadata"] = _METADATA
    made["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return made


@pytest.fixture
def rayjob() -> Tree:
    (found,) = yaml.safe_load_all(RAYJOB.read_text(encoding="utf-8"))
    made: Tree = json.loads(json.dumps(found))  # as kubectl sends it: what shares an anchor is apart then
    return made


def mistakes(rayjob: Tree, schema: Tree) -> list[str]:
    """What the schema has against it, each with its place."""
    found = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).iter_errors(rayjob)
    return [f"{error.json_path}: {error.message}" for error in found]


def groups(rayjob: Tree) -> dict[str, Tree]:
    """The head and the groups of workers, by name."""
    spec = rayjob["spec"]["rayClusterSpec"]
    return {"head": spec["headGroupSpec"]} | {group["groupName"]: group for group in spec["workerGroupSpecs"]}


def containers(rayjob: Tree) -> dict[str, Tree]:
    """Of each group its only container."""
    found = {name: group["template"]["spec"]["containers"] for name, group in groups(rayjob).items()}
    assert all(len(each) == 1 for each in found.values())
    return {name: each[0] for name, each in found.items()}


def gpus(container: Tree) -> int:
    return int(container["resources"]["limits"].get("nvidia.com/gpu", 0))


def size(quantity: str) -> int:
    """Bytes of a quantity of Kubernetes such as 16Gi."""
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi|Ti)?", quantity)
    assert found, f"{quantity!r} is no number of bytes as in 16Gi"
    return int(found[1]) << {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, None: 0}[found[2]]


def environment(container: Tree) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container.get("env", [])}


def test_kuberay_takes_the_manifest(rayjob: Tree, schema: Tree) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert mistakes(rayjob, schema) == []


def _misspelt(job: Tree) -> None:
    job["spec"]["backOffLimit"] = job["spec"].pop("backoffLimit")


def _misspelt_deep_down(job: Tree) -> None:
    containers(job)["gpu"]["resource"] = {}


def _words_for_a_number(job: Tree) -> None:
    job["spec"]["ttlSecondsAfterFinished"] = "120"


def _a_number_for_words(job: Tree) -> None:
    groups(job)["head"]["rayStartParams"]["num-cpus"] = 0


def _too_large(job: Tree) -> None:
    job["spec"]["activeDeadlineSeconds"] = 1 << 31


def _too_small(job: Tree) -> None:
    job["spec"]["preRunningDeadlineSeconds"] = 0


def _missing(job: Tree) -> None:
    del groups(job)["decode"]["groupName"]


def _no_name(job: Tree) -> None:
    del job["metadata"]["name"]


def _neither_number_nor_words(job: Tree) -> None:
    containers(job)["head"]["resources"]["limits"]["cpu"] = 0.5


def _no_such_quantity(job: Tree) -> None:
    containers(job)["head"]["resources"]["limits"]["memory"] = "16 GB"


def _not_one_of_these(job: Tree) -> None:
    job["spec"]["rayClusterSpec"]["authOptions"]["mode"] = "tokens"


def _another_kind(job: Tree) -> None:
    job["kind"] = "RayCluster"


def _null(job: Tree) -> None:
    job["spec"]["entrypoint"] = None


@pytest.mark.parametrize(
    ("mutate", "said"),
    [
        (_misspelt, r"\$\.spec: .*'backOffLimit' was unexpected"),
        (_misspelt_deep_down, r"containers\[0\]: .*'resource' was unexpected"),
        (_words_for_a_number, r"ttlSecondsAfterFinished: '120' is not of type 'integer'"),
        (_a_number_for_words, r"num-cpus'?\]?: 0 is not of type 'string'"),
        (_too_large, "activeDeadlineSeconds: 2147483648 is greater than"),
        (_too_small, "preRunningDeadlineSeconds: 0 is less than"),
        (_missing, "'groupName' is a required property"),
        (_no_name, "'name' is a required property"),
        (_neither_number_nor_words, "0.5 is not"),
        (_no_such_quantity, "'16 GB' does not match"),
        (_not_one_of_these, "'tokens' is not one of"),
        (_another_kind, "'RayJob' was expected"),
        (_null, "None is not of type 'string'"),
    ],
)
def test_a_mistake_in_the_manifest_is_found(
    mutate: Callable[[Tree], None], said: str, rayjob: Tree, schema: Tree
) -> None:
    mutate(rayjob)
    found = mistakes(rayjob, schema)
    assert found
    assert any(re.search(said, mistake) for mistake in found), found


def test_the_job_is_submitted_beside_the_head_and_tried_again(rayjob: Tree) -> None:
    spec = rayjob["spec"]
    assert spec["submissionMode"] == "SidecarMode"
    # What KubeRay refuses together with it.
    assert not {"submitterPodTemplate", "submitterConfig", "clusterSelector"} & spec.keys()
    assert groups(rayjob)["head"]["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    # Those that the schema has rules of its own for, which are not evaluated here.
    assert not {"deletionStrategy", "managedBy"} & spec.keys()
    assert not {"gcsFaultToleranceOptions", "managedBy"} & spec["rayClusterSpec"].keys()


def parsed(entrypoint: str) -> config.Config:
    """The configuration that these words give, by facebatch's own command line. Raises UsageError."""
    program, *words = shlex.split(entrypoint)
    assert program == "facebatch", f"{program} is no command of the image"
    return indexing(cli._parsed(cli._parser(), words))


def test_the_entrypoint_is_a_command_that_facebatch_takes(rayjob: Tree) -> None:
    settings = parsed(rayjob["spec"]["entrypoint"])
    assert settings.run.provider == "cuda"
    assert settings.output.startswith("s3://")
    assert all(uri.startswith("s3://") for uri in settings.inputs)
    assert settings.run.address is None, "Ray tells the job where it is"


@pytest.mark.parametrize("word", ["run.provider=cuda", "--input"])
def test_a_mistake_in_the_entrypoint_is_found(word: str, rayjob: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    entrypoint = rayjob["spec"]["entrypoint"]
    assert word in entrypoint
    with pytest.raises((UsageError, SystemExit)):
        parsed(entrypoint.replace(word, word.replace("r", "rr").replace("--", "--no-")))


def test_two_shells_leave_the_entrypoint_as_it_is(rayjob: Tree) -> None:
    """KubeRay's submitter hands it to one, Ray's job supervisor to another."""
    entrypoint = rayjob["spec"]["entrypoint"]
    assert re.fullmatch(r"[\w ./:=,-]+", entrypoint), entrypoint


@pytest.mark.parametrize("kind", ["detect", "embed"])
def test_the_packs_of_the_entrypoint_exist_and_have_a_place(kind: str, rayjob: Tree) -> None:
    settings = parsed(rayjob["spec"]["entrypoint"])
    pack = packs.packs()[getattr(settings, kind).pack]
    head = containers(rayjob)["head"]
    place = environment(head)["FACEBATCH_MODELS"]
    assert not pack.weights.built_in, "then FACEBATCH_MODELS and its volume are not needed"
    assert place in [mount["mountPath"] for mount in head["volumeMounts"]]


def test_the_run_waits_for_all_workers(rayjob: Tree) -> None:
    workers = [group for name, group in groups(rayjob).items() if name != "head"]
    for group in workers:
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    run = parsed(rayjob["spec"]["entrypoint"]).run
    limits = [(group["replicas"], containers(rayjob)[group["groupName"]]) for group in workers]
    assert run.min_gpus == sum(n * gpus(container) for n, container in limits)
    assert run.min_cpus == sum(n * int(container["resources"]["limits"]["cpu"]) for n, container in limits)


def test_the_planner_uses_all_of_such_a_cluster(rayjob: Tree) -> None:
    nodes = [
        Node(float(limits["cpu"]), float(gpus(containers(rayjob)[name])), float(group["rayStartParams"]["memory"]))
        for name, group in groups(rayjob).items()
        if name != "head"
        for limits in [containers(rayjob)[name]["resources"]["limits"]] * group["replicas"]
    ]
    machine, run = Machine(tuple(nodes)), parsed(rayjob["spec"]["entrypoint"]).run
    layout = lay_out(machine, run, Work(10_000_000, 30 << 40, 20_000, 1 << 20), [CUDA, CPU])
    assert layout.name == "split"
    assert sum(pool.actors * pool.gpus for pool in layout.pools) == machine.gpus
    assert layout.decode_cpus == 1, "memory is for as many photos as there are cores"
    assert layout.memory < machine.memory


def test_the_head_does_no_work(rayjob: Tree) -> None:
    assert groups(rayjob)["head"]["rayStartParams"]["num-cpus"] == "0"
    assert gpus(containers(rayjob)["head"]) == 0
    assert size(containers(rayjob)["head"]["resources"]["limits"]["memory"]) >= 8 << 30


def test_one_group_has_gpus_and_one_has_none(rayjob: Tree) -> None:
    workers = {name: gpus(container) for name, container in containers(rayjob).items() if name != "head"}
    assert sorted(workers) == ["decode", "gpu"]
    assert workers["gpu"] > 0
    assert workers["decode"] == 0
    for name in workers:
        assert "num-cpus" not in groups(rayjob)[name]["rayStartParams"], "KubeRay takes the limit"


def test_versions_are_those_that_ci_tests_with(rayjob: Tree) -> None:
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == RAY
    images = {container["image"] for container in containers(rayjob).values()}
    assert len(images) == 1
    (image,) = images
    assert image.endswith(f":ray{RAY}")
    assert f"-t {image} " in CONTAINERFILE.read_text(encoding="utf-8"), "what is built is what runs"


def test_requests_equal_limits(rayjob: Tree) -> None:
    for container in containers(rayjob).values():
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert {"cpu", "memory"} <= resources["limits"].keys()


def test_what_a_node_promises_to_ray_is_in_the_limit_of_its_container(rayjob: Tree) -> None:
    for name, group in groups(rayjob).items():
        container, volumes = containers(rayjob)[name], group["template"]["spec"]["volumes"]
        store = int(group["rayStartParams"]["object-store-memory"])
        limit = size(container["resources"]["limits"]["memory"])
        (shm,) = [v for v in volumes if v["name"] in _mounted(container, "/dev/shm")]
        assert shm["emptyDir"]["medium"] == "Memory"
        assert store < size(shm["emptyDir"]["sizeLimit"]) < limit / 2, name
        if name != "head":
            workers = int(group["rayStartParams"]["memory"])
            assert workers + size(shm["emptyDir"]["sizeLimit"]) + (1 << 30) <= limit, name


def _mounted(container: Tree, path: str) -> list[str]:
    return [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == path]


def test_mounts_have_volumes_and_names_are_unique(rayjob: Tree) -> None:
    for name, container in containers(rayjob).items():
        volumes = groups(rayjob)[name]["template"]["spec"]["volumes"]
        mounts = container["volumeMounts"]
        assert {mount["name"] for mount in mounts} == {volume["name"] for volume in volumes}
        for listed, key in (
            (volumes, "name"),
            (mounts, "mountPath"),
            (container.get("env", []), "name"),
            (container["ports"], "name"),
            (container["ports"], "containerPort"),
        ):
            found = [each[key] for each in listed]
            assert len(set(found)) == len(found), found
    assert len(groups(rayjob)) == 1 + len(rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"])


def test_metrics_can_be_scraped_from_every_pod(rayjob: Tree) -> None:
    for container in containers(rayjob).values():
        assert {"name": "metrics", "containerPort": 8080} in container["ports"]


def test_workers_keep_memory_and_processes_as_those_of_our_own_ray_do(rayjob: Tree) -> None:
    kept = "idle_worker_killing_time_threshold_ms"
    wanted = cluster._MALLOC | {f"RAY_{kept}": str(cluster._OURS[kept])}
    for name in ("gpu", "decode"):
        assert environment(containers(rayjob)[name]) == wanted


def test_nobody_is_root_and_credentials_come_from_a_secret(rayjob: Tree) -> None:
    user = re.findall(r"^USER (\d+):", CONTAINERFILE.read_text(encoding="utf-8"), re.MULTILINE)[-1]
    for name, container in containers(rayjob).items():
        context = groups(rayjob)[name]["template"]["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == int(user) != 0
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert not [n for n in environment(container) if re.search("SECRET|TOKEN|PASSWORD|_KEY", n)]
    assert containers(rayjob)["head"]["envFrom"] == [{"secretRef": {"name": "facebatch-storage"}}]
    assert rayjob["spec"]["rayClusterSpec"]["authOptions"]["mode"] == "token"


def test_there_is_time_to_write_what_is_being_written(rayjob: Tree) -> None:
    for group in groups(rayjob).values():
        grace = group["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace >= math.ceil(1.5 * config.Storage().timeout)


@pytest.mark.parametrize("file", [RAYJOB, CONTAINERFILE], ids=lambda file: file.name)
def test_a_manifest_begins_with_ten_lines_that_explain_it(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    head = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    assert 5 <= head <= 15
    assert all(len(line) <= 120 for line in lines)
