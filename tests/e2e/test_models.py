"""Models whose weights are published no more run through the job: a user who brings the file needs nothing else.

The published graphs get random weights here: what they find is noise, and that it arrives whole is the point.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facebatch import config, packs
from facebatch.decode import decode, probe
from facebatch.detect import Detector, Settings, views
from facebatch.importers import Given, ssdlite
from facebatch.importers.mxnet import shapes
from facebatch.packs import Pack
from facebatch.session import CPU, Session
from tests.e2e.conftest import command, table, vectors
from tests.importers import mxnet_writer, tensorflow_graph
from tests.importers.random_weights import RandomWeights


@pytest.fixture
def photos(tmp_path: Path, astronaut: bytes, hopper: bytes) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(astronaut)
    (folder / "b.jpg").write_bytes(hopper)
    return folder


def _mxnet(pack: Pack, folder: Path) -> list[str]:
    """The published symbol, and a .params file that fits it."""
    (symbol,) = (file for file in pack.weights.files if file.name.endswith(".json"))
    given = Given(symbol.name, (Path(os.environ["FACEBATCH_MODELS"]) / symbol.path).read_bytes())
    weights = mxnet_writer.weights(shapes(given, pack.weights.options["shape"]))
    for name in weights:
        if name.endswith(("conv1_1_weight", "_bn3_gamma", "_sc_gamma")) or "_pred_" in name or "_score_" in name:
            weights[name] *= np.float32(1 / 64 if "conv1_1" in name else 0.25)
    file = folder / "random.params"
    file.write_bytes(mxnet_writer.saved(weights))
    return [str(file)]


def _three_best(name: str, photo: bytes) -> float:
    """The score that three boxes of a picture reach: with random weights no threshold means anything."""
    model = packs.load(name, "detector")
    settings = Settings.of(config.Detect(score=0.0, nms=0.3), model.pack)
    picture = decode(photo, probe(photo, config.Decode()), config.Decode())
    detector = Detector(Session(model, CPU, threads=2), settings)
    (faces,) = detector([views(picture, settings)], [(picture.width, picture.height)])
    return float(faces.scores[2])


@pytest.mark.needs_models
def test_ssh_and_arcface_run_through_the_job_with_weights_that_a_user_brings(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: bytes
) -> None:
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path / "cache"))
    for name in ("ssh-mxnet", "face-recognition-resnet34-arcface"):
        given = _mxnet(packs.pack(name), tmp_path)
        refused = command("models", "import", name, "--from", *given)
        assert refused.returncode == 1
        assert "sha256" in refused.stderr
        done = command("models", "import", name, "--from", *given, "--trust")
        assert done.returncode == 0, done.stderr
    score = _three_best("ssh-mxnet", astronaut)
    words = ["detect.pack=ssh", "embed.pack=face-recognition-resnet34-arcface", f"detect.score={score}"]
    _indexed(photos, tmp_path / "out", words)
    assert set(table(tmp_path / "out", "faces")["detector"].to_pylist()) == {"ssh-mxnet"}


def test_ssdlite_runs_through_the_job_with_weights_that_a_user_brings(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: bytes
) -> None:
    monkeypatch.setenv("FACEBATCH_CACHE", str(tmp_path / "cache"))
    weights = RandomWeights(1.4, tensorflow=True)
    ssdlite.build(weights)
    file = tmp_path / "frozen_inference_graph.pb"
    file.write_bytes(tensorflow_graph.frozen(weights.arrays))
    refused = command("models", "import", "ssdlite_mobilenet_v2", "--from", str(file))
    assert refused.returncode == 1
    assert "no sha256 is known for frozen_inference_graph.pb" in refused.stderr
    done = command("models", "import", "ssdlite_mobilenet_v2", "--from", str(file), "--trust")
    assert done.returncode == 0, done.stderr
    score = _three_best("ssdlite_mobilenet_v2", astronaut)
    _indexed(photos, tmp_path / "out", ["detect.pack=ssdlite", f"detect.score={score}"])
    _indexed(photos, tmp_path / "gated", ["gate.model=ssdlite_mobilenet_v2", f"gate.score={score}"], faces=0)
    images = table(tmp_path / "gated", "images").sort_by("uri").to_pylist()
    assert images[0]["n_persons"] >= 3, "the astronaut, from whose three best boxes the threshold was taken"
    assert all((image["reason"] == "GATED") == (image["n_persons"] == 0) for image in images)


@pytest.mark.needs_models
@pytest.mark.parametrize("layout", ["fused", "split"])
def test_a_gate_spares_the_detector_and_a_landmark_network_stands_in_for_it(
    photos: Path, tmp_path: Path, layout: str
) -> None:
    """A detector that gives boxes only; before it one that is cheaper than it is made to be here."""
    Image.new("RGB", (320, 240), (90, 110, 130)).save(photos / "nobody.png")
    words = ["detect.pack=slim-320", "gate.model=yunet-s", f"run.layout={layout}", "embed.flip=true"]
    output = tmp_path / "out"
    done = command("index", "--input", str(photos), "--output", str(output), *words)
    assert done.returncode == 0, done.stderr
    assert "gate yunet-s from " in done.stderr
    assert "landmarks landmarks-regression-retail-0009 from " in done.stderr
    assert re.search(r"^gate +1 +of 3 images show nobody: \d+\.\d s of work (saved|lost)", done.stdout, re.MULTILINE)
    gated = {row["uri"].rpartition("/")[2]: row for row in table(output, "images").to_pylist()}["nobody.png"]
    assert (gated["status"], gated["reason"], gated["n_persons"]) == ("no_face", "GATED", None)
    faces = table(output, "faces")
    assert len(faces) == 2
    assert set(faces["landmark_source"].to_pylist()) == {"landmarks-regression-retail-0009"}
    assert set(faces["alignment"].to_pylist()) == {"landmarks"}
    proved = command("verify", "--deep", str(output))
    assert proved.returncode == 0, proved.stdout
    assert "3 of 3 drawn images" in proved.stdout
    refused = command("index", "--input", str(photos), "--output", str(output), *words, "landmarks=onet")
    assert refused.returncode == 2
    assert "landmarks.weights was" in refused.stderr


def _indexed(photos: Path, output: Path, words: list[str], faces: int = 3) -> None:
    done = command("index", "--input", str(photos), "--output", str(output), *words)
    assert done.returncode == 0, done.stderr
    assert command("verify", str(output)).returncode == 0
    assert len(table(output, "images")) == 2
    found = table(output, "faces")
    assert len(found) >= faces
    assert np.allclose(np.linalg.norm(vectors(found), axis=1), 1, atol=1e-4)
