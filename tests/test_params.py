import json

import pytest
import yaml
from pydantic import ValidationError

from mssync.errors import ParamsError
from mssync.models.critics import window_starts
from mssync.params import Params, TrainGenerator, digest, load, override, validate

SHIPPED = ["params.yaml", "params.test.yaml", "params.cluster.yaml"]


@pytest.fixture
def edited(root, tmp_path):
    """A parameter file with one value replaced."""

    def edit(section, field, value):
        content = yaml.safe_load((root / "params.yaml").read_text())
        content[section][field] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return edit


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_parameter_file_fits_the_schema(root, name):
    assert load(root / name).train_syncers.kernel == 7


def test_a_wrong_value_names_the_field_the_value_and_the_bound(edited):
    with pytest.raises(ParamsError) as error:
        load(edited("build_dataset", "val_ratio", 1.5))
    assert "build_dataset.val_ratio" in str(error.value)
    assert "less than or equal to 1" in str(error.value)
    assert "found 1.5" in str(error.value)


def test_an_unknown_field_is_refused(edited):
    with pytest.raises(ParamsError, match=r"extract_landmarks\.max_gap: Extra inputs"):
        load(edited("extract_landmarks", "max_gap", 3))


def test_a_number_that_yaml_reads_as_text_is_refused(root, tmp_path):
    text = (root / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("learning_rate: 0.001", "learning_rate: 3e-4"))
    with pytest.raises(ParamsError, match=r"train_syncers\.learning_rate.*'3e-4'"):
        load(path)


def test_a_word_is_no_truth_value(edited):
    with pytest.raises(ParamsError, match=r"train_syncers\.augment.*'no'"):
        load(edited("train_syncers", "augment", "no"))


def test_numbers_of_either_kind_are_taken_as_kubeflow_hands_them_on(root):
    """Kubeflow turns every number into a float."""
    loaded = load(root / "params.yaml")
    as_floats = json.loads(loaded.model_dump_json(), parse_int=float)
    assert as_floats["run"]["seed"] == 0.0
    received = validate(Params, as_floats, name="input")
    assert received == loaded
    assert isinstance(received.run.threads, int)
    assert digest(received) == digest(loaded)


def test_half_a_thread_is_refused(edited):
    with pytest.raises(ParamsError, match=r"run\.threads: .*found 1\.5"):
        load(edited("run", "threads", 1.5))


def test_an_even_kernel_is_refused(edited):
    with pytest.raises(ParamsError, match="kernel must be odd, found 6"):
        load(edited("train_syncers", "kernel", 6))


@pytest.mark.parametrize("points", [["no_lips"], ["all", "all"], ["all", "mouth"], []])
def test_evaluators_see_all_points_and_known_sets_once(edited, points):
    with pytest.raises(ParamsError, match=r"evaluator_points"):
        load(edited("train_syncers", "evaluator_points", points))


def test_a_temperature_below_a_hundredth_is_refused(edited):
    assert load(edited("train_syncers", "temperature", 0.01)).train_syncers.temperature == 0.01
    with pytest.raises(ParamsError, match=r"train_syncers\.temperature: .*0\.01, found 0\.009"):
        load(edited("train_syncers", "temperature", 0.009))


@pytest.fixture
def sequence_of(root):
    """The section of the generator with other lengths."""
    section = load(root / "params.yaml").train_generator.model_dump()

    def change(observed, predicted, windows):
        critics = section["critics"] | {"window_frames": windows}
        lengths = {"observed_frames": observed, "predicted_frames": predicted}
        return TrainGenerator.model_validate(section | lengths | {"critics": critics})

    return change


def test_sequences_shorter_than_a_window_are_refused(sequence_of):
    assert sequence_of(3, 2, [2])
    with pytest.raises(ValidationError, match=r"predicted_frames must be at least 5.*found 4"):
        sequence_of(3, 1, [2])


@pytest.mark.parametrize(("observed", "bound"), [(1, 7), (2, 8), (5, 8)])
def test_critics_without_a_window_that_fits_are_refused(sequence_of, observed, bound):
    assert window_starts(6, bound, context_frames=min(2, observed))
    assert not window_starts(6, bound + 1, context_frames=min(2, observed))

    assert sequence_of(observed, 6, [40, bound])
    message = rf"critics\.window_frames must be at most {bound} .*found \[40, {bound + 1}\]"
    with pytest.raises(ValidationError, match=message):
        sequence_of(observed, 6, [40, bound + 1])


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ParamsError, match=r"does not exist\. Run from the project's folder"):
        load(tmp_path / "params.yaml")


def test_a_file_that_is_not_yaml_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_text("run: [1, 2")
    with pytest.raises(ParamsError, match="cannot be read as YAML"):
        load(tmp_path / "params.yaml")


def test_the_digest_follows_values_not_layout(root, tmp_path, edited):
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((root / "params.yaml").read_text())))
    shipped = digest(load(root / "params.yaml"))
    assert digest(load(path)) == shipped
    assert digest(load(edited("run", "seed", 1))) != shipped


def test_values_are_overridden_by_key_with_or_without_the_section(root):
    section = load(root / "params.yaml").build_dataset
    changed = override(
        section, ["min_frames=80", "build_dataset.max_jump= 0.7"], name="build_dataset"
    )
    assert (changed.min_frames, changed.max_jump) == (80, 0.7)
    assert override(changed, [], name="build_dataset") == changed
    unchanged = {"min_frames", "max_jump"}
    assert changed.model_dump(exclude=unchanged) == section.model_dump(exclude=unchanged)
    with pytest.raises(ParamsError, match=r"build_dataset does not fit.*\n  max_yaw_deg: .*180"):
        override(section, ["max_yaw_deg=200"], name="build_dataset")
