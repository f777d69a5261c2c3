"""Checkpoints are put together as the arithmetic says, tensor by tensor, and load as any other."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import transformers
from dense_checkpoints import bert
from safetensors.torch import load_file, save_file

from pyterrier_llmrank.errors import ConfigurationError, ModelNotFound
from pyterrier_llmrank.models.hf.sentence import settings_of
from pyterrier_llmrank.scorers import BiEncoder
from pyterrier_llmrank.training.merging import add_task_vector, average_checkpoints, slerp, slerp_checkpoints


def checkpoint(path, **tensors):
    path.mkdir()
    save_file(
        {name.replace("_", "."): torch.as_tensor(value) for name, value in tensors.items()}, path / "model.safetensors"
    )
    (path / "config.json").write_text(json.dumps({"of": path.name}))
    return path


@pytest.fixture
def two(tmp_path):
    return (
        checkpoint(tmp_path / "a", x=[1.0, 0.0], y_z=[[2.0]], n=[3]),
        checkpoint(tmp_path / "b", x=[0.0, 3.0], y_z=[[6.0]], n=[3]),
    )


def weights(folder):
    return {name: tensor.tolist() for name, tensor in load_file(folder / "model.safetensors").items()}


def test_a_mean_is_taken_tensor_by_tensor(two, tmp_path):
    out = average_checkpoints(two, tmp_path / "mean")
    assert weights(out) == {"x": [0.5, 1.5], "y.z": [[4.0]], "n": [3]}
    assert json.loads((out / "config.json").read_text()) == {"of": "a"}
    weighed = average_checkpoints([*two, two[0]], tmp_path / "mean", weights=(1, 2, 1))
    assert weights(weighed)["x"] == [0.5, 1.5]
    assert weights(average_checkpoints(two, tmp_path / "mean", weights=(3, 1)))["y.z"] == [[3.0]]


def test_slerp_goes_along_the_arc_and_straight_where_there_is_none(two, tmp_path):
    half = math.sin(math.pi / 4)  # a right angle between [1, 0] and [0, 3]
    out = weights(slerp_checkpoints(*two, tmp_path / "slerp"))
    np.testing.assert_allclose(out["x"], [half, 3 * half], rtol=1e-6)
    assert out["y.z"] == [[4.0]]  # parallel
    assert weights(slerp_checkpoints(*two, tmp_path / "slerp", share=0.0))["x"] == [1.0, 0.0]
    torch.testing.assert_close(
        slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 1 / 3).norm(), torch.tensor(1.0)
    )
    assert slerp(torch.zeros(2), torch.ones(2), 0.5).tolist() == [0.5, 0.5]


def test_what_training_added_is_added_to_a_base_that_read_more(two, tmp_path):
    names = {"bert_x": [2.0, 2.0], "bert_y_z": [[1.0]], "bert_n": [3], "head": [9.0]}
    adapted = checkpoint(tmp_path / "adapted", **names)
    base, tuned = two
    out = add_task_vector(base, tuned, adapted, tmp_path / "out", scale=0.5)
    assert weights(out) == {"x": [1.5, 3.5], "y.z": [[3.0]], "n": [3]}
    assert json.loads((out / "config.json").read_text()) == {"of": "b"}


def test_the_precision_of_the_first_is_kept(tmp_path):
    halves = [checkpoint(tmp_path / name, x=torch.ones(2, dtype=torch.bfloat16)) for name in "ab"]
    out = average_checkpoints(halves, tmp_path / "out")
    assert load_file(out / "model.safetensors")["x"].dtype == torch.bfloat16


def test_real_checkpoints_also_in_shards_load_with_their_settings(tmp_path):
    first, second = (bert(tmp_path / name, seed=seed) for name, seed in (("one", 1), ("two", 2)))
    transformers.AutoModel.from_pretrained(second).save_pretrained(second, max_shard_size="20KB")
    (tmp_path / "two" / "model.safetensors").unlink(missing_ok=True)
    assert (tmp_path / "two" / "model.safetensors.index.json").is_file()
    out = average_checkpoints([first, second], tmp_path / "mean")
    assert settings_of(out) == settings_of(first)
    assert BiEncoder(str(out), device="cpu").encode(["the cat"])[0].shape == (1, 32)
    mean = sum(transformers.AutoModel.from_pretrained(one).pooler.dense.weight for one in (first, second)) / 2
    torch.testing.assert_close(transformers.AutoModel.from_pretrained(out).pooler.dense.weight, mean)


def test_checkpoints_that_do_not_fit_are_refused(two, tmp_path):
    wide = checkpoint(tmp_path / "wide", x=[1.0, 0.0, 0.0], y_z=[[2.0]], n=[3])
    with pytest.raises(ConfigurationError, match=r"'x' has the shape \(2,\) in .*a, and \(3,\) in .*wide"):
        average_checkpoints([two[0], wide], tmp_path / "out")
    less = checkpoint(tmp_path / "less", x=[1.0, 0.0])
    with pytest.raises(ConfigurationError, match="2 are in one of them only, such as 'n'"):
        slerp_checkpoints(two[0], less, tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"less lacks 2 of the 3 tensors of .*, such as 'n'"):
        add_task_vector(less, *two, tmp_path / "out")
    other = checkpoint(tmp_path / "other", x=[1.0, 0.0], y_z=[[2.0]], n=[4])
    with pytest.raises(ConfigurationError, match="'n' holds whole numbers that differ"):
        average_checkpoints([two[0], other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_arguments_that_make_no_sense_are_refused(two, tmp_path):
    for folders, shares in (([], None), (two, (1,)), (two, (0, 0)), (two, (2, -1))):
        with pytest.raises(ConfigurationError, match="a mean needs folders, and for each a weight"):
            average_checkpoints(folders, tmp_path / "out", weights=shares)
    with pytest.raises(ConfigurationError, match="share goes from 0"):
        slerp_checkpoints(*two, tmp_path / "out", share=1.5)
    with pytest.raises(ConfigurationError, match="a is one of the checkpoints that are put together"):
        average_checkpoints(two, two[0])
    with pytest.raises(ModelNotFound, match=r"holds no model\.safetensors"):
        average_checkpoints([tmp_path], tmp_path / "out")
