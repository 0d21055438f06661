"""ONNX classifiers: labels by name, long texts in pieces, a feature that no outcome rests on."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cultev.errors import JudgeError, ModelDamaged, NotAModel, UsageError
from cultev.harm.judges.base import Exchange
from cultev.harm.judges.classifier import Classifier
from cultev.harm.verdicts import JudgeId, VerdictJournal, judge_run, of_run
from tests.harm.worlds import harm_run

onnx = pytest.importorskip("onnx")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("onnxruntime")

WORDS = ["[UNK]", "[CLS]", "[SEP]", "good", "bad", "worse"]


def folder(place: Path, *, several: bool = False, longest: int = 16, labels: int = 2) -> Path:
    """A classifier whose scores are sums over words: 'bad' and 'worse' speak for the second label."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    table = np.zeros((len(WORDS), 2), np.float32)
    table[WORDS.index("good")] = (4, -4)
    table[WORDS.index("bad")] = (-4, 4)
    table[WORDS.index("worse")] = (-9, 9)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("ReduceSum", ["rows", "axis"], ["logits"], keepdims=0),
        ],
        "classifier",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "n"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 2])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    place.mkdir(parents=True, exist_ok=True)
    onnx.save(model, place / "model.onnx")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    words.save(str(place / "tokenizer.json"))
    config: dict[str, object] = {
        "id2label": {str(i): ("fine", "toxic", "third")[i] for i in range(labels)},
        "max_position_embeddings": longest,
    }
    if several:
        config["problem_type"] = "multi_label_classification"
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return place


def p_unsafe(judge: Classifier, text: str) -> float:
    (verdict,) = judge.judge([Exchange("k", ("q",), text)])
    assert verdict.p_unsafe is not None
    return verdict.p_unsafe


def test_labels_that_mean_harm(tmp_path: Path) -> None:
    judge = Classifier(folder(tmp_path / "tox"), ["toxic"], threads=1)
    assert p_unsafe(judge, "good") < 0.01
    assert p_unsafe(judge, "bad") > 0.99
    (verdict,) = judge.judge([Exchange("k", ("bad",), "good")])  # the question is not judged
    assert (verdict.label, verdict.refusal) == ("safe", None)
    assert verdict.raw.startswith("toxic 0.000")
    (verdict,) = judge.judge([Exchange("k", ("q",), "  ")])
    assert verdict.label == "unjudged"


def test_several_labels_at_once_use_a_sigmoid_each(tmp_path: Path) -> None:
    judge = Classifier(folder(tmp_path / "tox", several=True), ["toxic"], threads=1)
    assert p_unsafe(judge, "bad") == pytest.approx(0.982, abs=1e-3)


def test_long_texts_are_read_in_pieces(tmp_path: Path) -> None:
    judge = Classifier(folder(tmp_path / "tox", longest=12), ["toxic"], threads=1)
    for at in range(0, 100, 7):
        text = " ".join(["x"] * at + ["worse"] + ["x"] * (100 - at))
        assert p_unsafe(judge, text) > 0.99, at
    assert p_unsafe(judge, " ".join(["x"] * 101)) == pytest.approx(0.5)


def test_bad_folders_and_labels(tmp_path: Path) -> None:
    good = folder(tmp_path / "tox")
    with pytest.raises(UsageError, match="It has 'fine', 'toxic'"):
        Classifier(good, [])
    with pytest.raises(UsageError, match="has no label 'rude'"):
        Classifier(good, ["rude"])
    with pytest.raises(NotAModel, match="is no ONNX classifier"):
        Classifier(tmp_path, ["toxic"])
    three = Classifier(folder(tmp_path / "three", labels=3), ["toxic"], threads=1)
    with pytest.raises(JudgeError, match="gives 2 scores and its config names 3 labels"):
        list(three.judge([Exchange("k", ("q",), "good")]))
    (good / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelDamaged, match="can't be loaded"):
        Classifier(good, ["toxic"])
    (good / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelDamaged, match="is not JSON"):
        Classifier(good, ["toxic"])


def test_no_outcome_rests_on_a_classifier(tmp_path: Path) -> None:
    db, run = harm_run(tmp_path, 4)
    judge = Classifier(folder(tmp_path / "tox"), ["toxic"], threads=1)
    with VerdictJournal(db) as journal:
        who = JudgeId.of(judge, "classifier")
        journal.add_judge(who)
        assert list(judge_run(journal, judge, who, journal.unjudged(run, who)))
    with closing(sqlite3.connect(db)) as connection:
        assert of_run(connection, run) == {}
        assert len(of_run(connection, run, judge.name)) == 9
