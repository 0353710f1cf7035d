"""Settings are read once, and every mistake in them is named at once."""

from __future__ import annotations

import warnings
from dataclasses import fields
from pathlib import Path

import pytest

from d3.domain.errors import SettingsInvalid
from d3.settings import Settings
from tests.prototype import ENVIRONMENT


def read(**environ: str) -> Settings:
    return Settings.from_environment(environ, dotenv=None)


def test_nothing_set_is_all_defaults() -> None:
    assert read() == Settings()


def test_an_empty_variable_does_not_hide_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("D3_BATCH_SIZE=7\n")
    settings = Settings.from_environment({"D3_BATCH_SIZE": ""}, tmp_path / ".env")
    assert settings.batch_size == 7


def test_an_empty_value_counts_as_unset() -> None:
    assert read(**{one.metadata["variable"]: "  " for one in fields(Settings)}) == Settings()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"D3_PANEL": "a,,b"}, "names is empty"),
        ({"D3_PANEL": "a,a"}, "1 to 8 different models"),
        ({"D3_PANEL": ","}, "1 to 8 different models"),
        ({"D3_PANEL": "-a,b"}, "cannot be a model's name"),
        ({"D3_MODEL": "-a"}, "cannot be a model's name"),
    ],
)
def test_names_that_make_no_sense_are_refused_in_whole_sentences(
    variables: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SettingsInvalid, match=sentence) as refused:
        read(**variables)
    assert ".." not in str(refused.value)
    assert read(D3_PANEL=" a, b ").panel == ("a", "b")


def test_another_process_reads_the_same_settings_from_the_variables(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path / "a b",
        cuda_device=1,
        warm_up=False,
        minio_endpoint="store:9000",
        minio_access_key="key",
        minio_secret_key="secret, with a comma",
        fetch_allow=("10.0.0.0/8", "192.0.2.1/32"),
        workers="auto",
    )
    assert Settings.from_environment(settings.environment(), dotenv=None) == settings
    assert Settings.from_environment(Settings().environment(), dotenv=None) == Settings()


def test_the_env_file_of_the_prototype_starts_d3(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(ENVIRONMENT)
    settings = Settings.from_environment({}, dotenv=tmp_path / ".env")
    assert settings.cuda_device == 1


def test_other_programs_variables_are_ignored_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(PATH="/bin", CUDA_VISIBLE_DEVICES="0", SOMETHING_D3_="x") == Settings()


def test_a_misspelt_variable_is_warned_of_with_a_guess() -> None:
    with pytest.warns(RuntimeWarning, match="D3_BATCHSIZE.*did you mean D3_BATCH_SIZE"):
        read(D3_BATCHSIZE="3")


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read(
            CUDA_DEVICE="first",
            D3_PRECISION="int8",
            USE_FP16="perhaps",
            D3_BATCH_SIZE="0",
            D3_MAX_IMAGE_BYTES="1.5",
            D3_MODEL="../etc",
            D3_MAX_IMAGE_SIDE="100",
        )
    sentence = str(caught.value)
    for name in (
        "CUDA_DEVICE",
        "D3_PRECISION",
        "USE_FP16",
        "D3_BATCH_SIZE",
        "D3_MAX_IMAGE_BYTES",
        "D3_MODEL",
    ):
        assert f"{name}=" in sentence
    assert "D3_MAX_IMAGE_SIDE" not in sentence


@pytest.mark.parametrize(
    ("text", "device"),
    [("0", 0), ("3", 3), ("cuda:1", 1), ("cpu", "cpu"), ("CPU", "cpu"), (" 2 ", 2), ("", None)],
)
def test_a_device_is_a_number_or_cpu(text: str, device: object) -> None:
    assert read(CUDA_DEVICE=text).cuda_device == device


@pytest.mark.parametrize("text", ["-1", "1.5", "gpu", "cuda", "cuda:", "0,1", "cuda:cpu", "null"])
def test_any_other_device_is_refused(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="CUDA_DEVICE"):
        read(CUDA_DEVICE=text)


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "on", "True"])
def test_half_precision_is_asked_for_by_any_usual_word(text: str) -> None:
    settings = read(USE_FP16=text)
    assert settings.use_fp16
    assert settings.effective_precision == "fp16"


def test_d3_precision_beats_use_fp16() -> None:
    assert read(USE_FP16="true", D3_PRECISION="bf16").effective_precision == "bf16"
    assert read(USE_FP16="false").effective_precision == "auto"


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("D3_BATCH_SIZE=3\nD3_MODEL=mine\n")
    settings = Settings.from_environment({"D3_BATCH_SIZE": "5"}, dotenv=tmp_path / ".env")
    assert (settings.batch_size, settings.model) == (5, "mine")


@pytest.mark.parametrize("start", ["\ufeff", "export ", "\n\n# a comment\n"])
def test_a_file_may_be_written_as_people_do(start: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f'{start}D3_MODEL="mine"\r\n', encoding="utf-8")
    assert Settings.from_environment({}, dotenv=tmp_path / ".env").model == "mine"


def test_a_missing_file_is_no_mistake_and_an_unreadable_one_is(tmp_path: Path) -> None:
    assert Settings.from_environment({}, dotenv=tmp_path / ".env") == Settings()
    (tmp_path / ".env").write_bytes(b"D3_MODEL=\xff\xfe\n")
    with pytest.raises(SettingsInvalid, match="UTF-8"):
        Settings.from_environment({}, dotenv=tmp_path / ".env")


def test_a_home_may_begin_with_a_tilde() -> None:
    assert read(D3_HOME="~/d3").home == Path.home() / "d3"
    with pytest.raises(SettingsInvalid, match="D3_HOME"):
        read(D3_HOME="~nobody-of-this-name/d3")


def test_models_lie_under_home(tmp_path: Path) -> None:
    assert read(D3_HOME=str(tmp_path)).models_folder == tmp_path / "models"


def test_the_example_file_names_every_variable() -> None:
    example = (Path(__file__).parents[2] / ".env.example").read_text()
    for one in fields(Settings):
        assert f"{one.metadata['variable']}=" in example


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://App.example/", "https://app.example"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://app.example:443", "https://app.example"),
        ("*", "*"),
    ],
)
def test_an_origin_is_what_browsers_send(given: str, used: str) -> None:
    settings = Settings.from_environment({"D3_CORS_ORIGINS": given}, dotenv=None)
    assert settings.cors_origins == (used,)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("D3_CORS_ORIGINS", "app.example"),
        ("D3_CORS_ORIGINS", "https://*.example.net"),
        ("D3_CORS_ORIGINS", "https://app.example/page"),
        ("D3_ALLOWED_HOSTS", "https://d3.example.net"),
        ("D3_ALLOWED_HOSTS", "d3.*.net"),
        ("D3_ALLOWED_HOSTS", "d3.example.net/"),
    ],
)
def test_what_would_never_match_is_refused_at_the_start(variable: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=variable):
        Settings.from_environment({variable: value}, dotenv=None)


def test_names_the_service_goes_by() -> None:
    names = "*.Example.net, d3.example.net:5000, [::1]"
    settings = Settings.from_environment({"D3_ALLOWED_HOSTS": names}, dotenv=None)
    assert settings.allowed_hosts == ("*.example.net", "d3.example.net", "[::1]")


@pytest.mark.parametrize(("text", "workers"), [("1", 1), ("12", 12), ("auto", "auto"), ("", 1)])
def test_workers_are_a_number_or_auto(text: str, workers: object) -> None:
    assert read(D3_WORKERS=text).workers == workers


@pytest.mark.parametrize("text", ["0", "257", "many", "1.5", "-1"])
def test_other_workers_are_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="expected a whole number, 1 to 256 or auto"):
        read(D3_WORKERS=text)
