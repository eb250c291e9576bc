"""The files for clusters, held against the schemas of those who read them, and one another."""

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fake_slurm import FakeSlurm

from gaxjax.cli.main import parse

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "examples/kubernetes.yaml"
RAY = ROOT / "examples/ray_cluster.yaml"
CONTAINERFILE = (ROOT / "Containerfile").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMAGE = f"registry.example.org/gaxjax:{VERSION}"


@pytest.fixture(scope="module")
def job():
    return yaml.safe_load(KUBERNETES.read_text())


@pytest.fixture(scope="module")
def container(job):
    [container] = job["spec"]["template"]["spec"]["containers"]
    return container


@pytest.fixture(scope="module")
def cluster():
    return yaml.safe_load(RAY.read_text())


class TestKubernetes:
    @pytest.mark.parametrize("version", ["1.33", "latest"])
    def test_the_job_is_one_by_the_schema_of_the_api(self, job, version):
        kubernetes_validate = pytest.importorskip("kubernetes_validate")
        if version == "latest":
            version = kubernetes_validate.latest_version()
        kubernetes_validate.validate(job, version, strict=True)

    def test_there_is_one_index_a_shard(self, job, container):
        [shard] = [word for word in container["args"] if word.startswith("--shard")]
        assert job["spec"]["completionMode"] == "Indexed"
        assert shard == f"--shard=auto/{job['spec']['completions']}"
        assert job["spec"]["parallelism"] == job["spec"]["completions"]

    def test_an_eviction_costs_no_try_and_a_mistake_all_of_them(self, job, container):
        evicted, mistake = job["spec"]["podFailurePolicy"]["rules"]
        assert evicted["action"] == "Ignore"
        assert [each["type"] for each in evicted["onPodConditions"]] == ["DisruptionTarget"]
        assert mistake["action"] == "FailIndex"
        assert mistake["onExitCodes"] == {
            "containerName": container["name"],
            "operator": "In",
            "values": [2],
        }
        assert job["spec"]["backoffLimitPerIndex"] > 0
        assert job["spec"]["podReplacementPolicy"] == "Failed"
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # both need it

    def test_a_pod_has_a_gpu_time_to_commit_and_places_that_are_there(self, job, container):
        pod = job["spec"]["template"]["spec"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert pod["terminationGracePeriodSeconds"] >= 60
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
        assert mounted["cache"] == in_image("GAXJAX_CACHE")
        assert str(pod["securityContext"]["runAsUser"]) == re.search(r"^USER (.*)$", *file())[1]

    def test_its_image_is_of_this_version(self, container):
        assert container["image"] == IMAGE


class TestRay:
    @pytest.fixture
    def prepared(self, cluster):
        pytest.importorskip("ray")
        pytest.importorskip("jsonschema")
        from ray.autoscaler._private.util import prepare_config

        return prepare_config(cluster)

    def test_the_cluster_is_one_by_rays_schema(self, prepared):
        from ray.autoscaler._private.util import validate_config

        validate_config(prepared)

    def test_the_head_does_no_work_and_the_workers_are_as_many_as_are_asked_for(self, cluster):
        head, gpu = (cluster["available_node_types"][name] for name in ("head", "gpu"))
        [command] = [words for words in commands(RAY.read_text()) if "--ray" in words]
        assert head["resources"] == {"CPU": 0, "GPU": 0}
        workers = command[command.index("--workers") + 1]
        assert workers == str(gpu["max_workers"]) == str(cluster["max_workers"])

    def test_its_image_is_of_this_version_and_starts_a_shell(self, cluster):
        assert cluster["docker"]["image"] == IMAGE
        assert "--entrypoint=" in cluster["docker"]["run_options"]

    @pytest.mark.slow
    def test_aws_starts_its_machines(self, prepared, monkeypatch, tmp_path):
        moto = pytest.importorskip("moto")
        boto3 = pytest.importorskip("boto3")
        from ray.autoscaler._private.aws import config as aws
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

        for name, value in {"HOME": str(tmp_path), "AWS_DEFAULT_REGION": "eu-central-1"}.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "none")
        with moto.mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
            for profile in ("ray-autoscaler-v1", "gaxjax"):  # Ray would make its own, and wait
                boto3.client("iam").create_instance_profile(InstanceProfileName=profile)
            config = AWSNodeProvider.fillout_available_node_types_resources(prepared)
            assert config["available_node_types"]["gpu"]["resources"]["GPU"] == 1
            config = aws.bootstrap_aws(config)
            provider = AWSNodeProvider(config["provider"], config["cluster_name"])
            for kind in ("head", "gpu"):
                tags = {"ray-node-kind": kind, "ray-node-type": kind, "ray-user-node-type": kind}
                tags |= {"ray-launch-config": "0", "ray-node-name": kind}
                node = config["available_node_types"][kind]["node_config"]
                provider.create_node(node, tags, 1)
            found = boto3.client("ec2").describe_instances()["Reservations"]
        started = [instance for each in found for instance in each["Instances"]]
        assert [(each["InstanceType"], each.get("InstanceLifecycle")) for each in started] == [
            ("m7i.xlarge", None),
            ("g6.2xlarge", "spot"),
        ]


class TestContainerfile:
    def test_hadolint_finds_nothing(self):
        hadolint = shutil.which("hadolint")
        if hadolint is None:
            pytest.skip("hadolint is not on PATH")
        ran = subprocess.run([hadolint, ROOT / "Containerfile"], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout

    def test_only_what_the_wheel_is_built_of_is_copied(self):
        allowed = (ROOT / ".dockerignore").read_text().splitlines()
        kept = {line.removeprefix("!") for line in allowed if line.startswith("!")}
        copies = re.findall(r"^COPY (?!--from)(.*) \S+$", *file())
        copied = {source for sources in copies for source in sources.split()}
        assert "*" in allowed
        assert copied == kept
        built = tomllib.loads((ROOT / "pyproject.toml").read_text())
        packages = built["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        named = [built["project"]["readme"], *built["project"]["license-files"]]
        assert copied == {"pyproject.toml", *packages, *named}

    def test_bases_are_pinned_and_labels_tell_them_and_the_version(self):
        bases = set(re.findall(r"^FROM (\S+)", *file()))
        [base] = bases
        assert re.search(r":\d+\.\d+\.\d+-", base)
        assert f'base.name="{base}"' in CONTAINERFILE
        assert re.search(r"^ARG VERSION=(.*)$", *file())[1] == VERSION

    def test_it_takes_extras_that_there_are(self):
        extras = re.search(r"^ARG EXTRAS=(.*)$", *file())[1].split(",")
        there = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert set(extras) <= there["optional-dependencies"].keys()
        assert {"cuda", "remote", "ray"} <= set(extras)


def file() -> tuple[str, re.RegexFlag]:
    return CONTAINERFILE, re.MULTILINE


def in_image(variable: str) -> str:
    """Return what an environment variable is in the image."""
    [value] = re.findall(rf"\b{variable}=(/cache)\b(?!/)", CONTAINERFILE.split("ENV ")[1])
    return value


def commands(text: str) -> Iterator[list[str]]:
    """Yield the `gaxjax gax` and `gaxjax ax` of a text, also over lines and in comments of YAML."""
    text = re.sub(r"\\\n(?:#| )*", "", text)
    for line in re.findall(r"gaxjax (a?g?ax --[^\n`]*)", text):
        words = shlex.split(line, comments=True)
        if "…" not in line and "$" not in line:
            yield words


def all_commands(container, folder: Path) -> Iterator[list[str]]:
    yield container["args"]
    yield from commands(RAY.read_text())
    yield from commands((ROOT / "docs/clusters.md").read_text())
    slurm = FakeSlurm(folder)
    slurm.sbatch(ROOT / "examples/slurm.sh", "net.ckpt", "val", "run", array="0-0")
    [call] = slurm.calls[0]
    yield call.arguments


def test_gaxjax_takes_the_flags_that_are_given(container, tmp_path):
    given = list(all_commands(container, tmp_path))
    assert len(given) >= 4
    for words in given:  # a bucket is looked for
        parse([word.replace("s3://bucket", str(tmp_path)) for word in words])
