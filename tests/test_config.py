"""The configuration: defaults, a file, words; the last one wins, and a mistake is one sentence."""

from pathlib import Path
from typing import Any

import pytest

from facebatch import config
from facebatch.errors import UsageError


def test_words_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "conf.yaml"
    file.write_text("run: {layout: split, batch: 8}\ndetect: {score: 0.6}\n")
    loaded = config.load(str(file), ["run.batch=16"])
    assert (loaded.run.layout, loaded.run.batch, loaded.detect.score) == ("split", 16, 0.6)
    assert loaded.embed == config.Embed()


def test_what_the_command_line_gives_wins_over_all(tmp_path: Path) -> None:
    loaded = config.load(None, ["output=here"], output="there", inputs=("a", "b"))
    assert (loaded.output, loaded.inputs) == ("there", ("a", "b"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("run.layot=split", "there is no setting run.layot; the nearest is run.layout"),
        ("layout=split", "there is no setting layout; the nearest is run.layout"),
        ("xyzzy=1", "there is no setting xyzzy; the settings are: inputs, include, exclude, base_uri, output"),
        ("detect.score=7", "detect.score: input should be less than or equal to 1, got 7"),
        ("run.threads=two", "run.threads: input should be a valid integer"),
        ("decode.truncated=maybe", "decode.truncated: input should be 'fail' or 'accept', got 'maybe'"),
        ("run.layout", "is not of the form key=value"),
        ("run.layout.x=1", "run.layout"),
    ],
)
def test_a_mistake_is_named(word: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        config.load(None, [word])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"), [("- a\n- b\n", "expected a mapping"), ("a: [", "no valid YAML"), (None, "cannot be read")]
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "conf.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match=message) as error:
        config.load(str(file))
    assert str(file) in str(error.value)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "conf.yaml"
    file.write_text("# nothing\n")
    assert config.load(str(file)) == config.Config()


SHIPPED = [f for f in sorted((Path(__file__).parents[1] / "conf").glob("*.yaml")) if "\nkind: " not in f.read_text()]
"""Without the manifests of Kubernetes, which `tests.test_manifests` is about."""


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.name)
def test_every_shipped_configuration_loads(file: Path) -> None:
    config.load(str(file))


def test_the_local_configuration_shows_every_setting_with_its_default() -> None:
    file = Path(__file__).parents[1] / "conf" / "local.yaml"
    assert config.load(str(file), inputs=(), output="") == config.Config(inputs=(), output="")
    text = file.read_text()
    for key in config.as_dict(config.Config()):
        assert f"{key}:" in text


def test_settings_of_an_earlier_run_lie_below_the_file_and_the_words(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("detect: {score: 0.5}\nrun: {threads: 3}\n")
    recorded = {"detect": {"score": 0.4, "close_up": False}, "run": {"threads": 2, "actors": 7}}
    settings = config.load(str(file), ["run.threads=4"], recorded)
    assert (settings.detect.score, settings.detect.close_up) == (0.5, False)
    assert (settings.run.threads, settings.run.actors) == (4, 7)
    assert recorded["run"] == {"threads": 2, "actors": 7}, "what was given stays as it is"


def test_settings_can_be_said_again_on_a_command_line() -> None:
    given: dict[str, Any] = {
        "inputs": ("photos/", "a b.tar"),
        "exclude": ("thumbs/**",),
        "base_uri": "s3://archive",
        "output": "out",
    }
    settings = config.load(
        None, ["run.layout=split", "rows.extra=[year, city]", "detect.score=0.6", "embed.batch=32"], **given
    )
    words = config.words(config.as_dict(settings))
    assert words == [
        *("--input", "photos/", "--input", "a b.tar", "--exclude", "thumbs/**", "--base-uri", "s3://archive"),
        *("--output", "out", "detect.score=0.6", 'rows.extra=["year", "city"]', "run.layout=split"),
    ]
    assert config.load(None, [word for word in words if "=" in word], **given) == settings
    assert config.words(config.as_dict(config.load())) == []
