"""The learner for decoders: toys are learnt whole, by what inference reads, and what is saved is what was trained."""

from __future__ import annotations

import json

import pytest
import torch
from tiny import byte_tokenizer, decoder, encoder_decoder

from pyterrier_llmrank import HFModel, ListPrompt, PairPrompt, Prompted, SetPrompt, YesNo
from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.core import Question as Asked
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import Graded, OneMessage
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.learners import DecoderLearner, Lesson, Lora
from pyterrier_llmrank.training.learners.showing import prompts, show
from pyterrier_llmrank.training.loop import train
from pyterrier_llmrank.training.losses import binary_cross_entropy, kl_divergence, rank_net
from pyterrier_llmrank.training.settings import Training

PLAIN = ["Ye", "Yes", "No", "ĠYes", "ĠNo"]
TEXTS = ("nnnn", "ssss", "eeee", "wwww")
LAYOUT = OneMessage("{query}{passages}", document="[{label}]{text}", between="", raw=True)
OPENED = OneMessage("{query}{passages}", document="[{label}]{text}", between="", raw=True, answer="[")
YES = YesNo("{query}{text}", raw=True)
PAIR = PairPrompt(template="{query}A{first}B{second}", raw=True)
SET = SetPrompt(layout=LAYOUT)
LETTERS = ListPrompt("letters", layout=OPENED)
NUMBERS = ListPrompt(layout=LAYOUT)
QUICK = Training(steps=50, batch_size=4, learning_rate=0.02, warmup=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("tiny"), byte_tokenizer(words=PLAIN), initializer_range=0.1)


@pytest.fixture(scope="module")
def merging(tmp_path_factory):
    """A bracket and the letter behind it are one token."""
    words = [*PLAIN, "[A", "[B", "[C"]
    return decoder(tmp_path_factory.mktemp("merging"), byte_tokenizer(words=words), initializer_range=0.1)


def toy(n=4, docs=3, scale=1.0):
    """Lists whose targets are told by the documents alone."""
    shown = []
    for i in range(n):
        places = [(i + k) % 4 for k in range(docs)]
        texts = tuple(Doc(str(p), TEXTS[p]) for p in places)
        shown.append(TrainingList(str(i), "?", texts, tuple(scale * (3 - p) / 3 for p in places)))
    return shown


def ranked(learner, prompt):
    """Whether every list is in the ideal order by its labels."""
    with torch.no_grad():
        shown = show(Lesson(prompt, learns="labels"), toy(), learner.side)
        scores = learner.scores(Lesson(prompt, learns="labels"), shown)
    return [s.argsort(descending=True).tolist() == one.order for s, one in zip(scores, shown, strict=True)]


def read(folder, prompt, lists):
    """Scores as inference reads them from a saved checkpoint."""
    scorer = Prompted(prompt, HFModel(str(folder), device="cpu"))
    if prompt.max_docs == 1:
        return [[scorer([Asked(one.query, (doc,))])[0].scores[0] for doc in one.docs] for one in lists]
    return [answer.scores.tolist() for answer in scorer([Asked(one.query, one.docs) for one in lists])]


# --- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "docs"),
    [
        (Lesson(YES, binary_cross_entropy), 3),
        (Lesson(YES), 3),
        (Lesson(YES, kl_divergence), 3),
        (Lesson(SET, shuffled=0.5), 3),
        (Lesson(LETTERS), 3),
        (Lesson(LETTERS, learns="both"), 3),
    ],
    ids=["sft", "permutation", "divergence", "set", "letters", "first"],
)
def test_a_toy_is_in_the_ideal_order_after_fifty_steps(folder, tmp_path, question, docs):
    learner = DecoderLearner(folder, question)
    assert not all(ranked(learner, question.prompt))
    found = train(learner, toy(docs=docs), tmp_path, QUICK)
    assert all(ranked(learner, question.prompt)) and found.history[-1]["loss"] < found.history[0]["loss"]


@pytest.mark.parametrize("early", [False, True])
def test_orders_are_learnt_as_texts_and_written_whole(folder, tmp_path, early):
    training = Training(steps=90, batch_size=4, learning_rate=0.02, warmup=0.0)
    train(DecoderLearner(folder, Lesson(NUMBERS, early=early)), toy(), tmp_path, training)
    for one in toy():
        written = HFModel(str(tmp_path), device="cpu").generate(
            [NUMBERS.render(one.query, [doc.text for doc in one.docs])], max_tokens=24
        )[0]
        order = sorted(range(3), key=lambda place: -one.targets[place])
        assert written.text == " > ".join(f"[{place + 1}]" for place in order) and written.finish == "stop"


@pytest.mark.parametrize("lesson", [Lesson(YES), Lesson(LETTERS), Lesson(NUMBERS), Lesson(LETTERS, learns="both")])
def test_batches_by_length_change_no_loss_and_no_gradient(folder, lesson):
    def of(batch_tokens):
        learner = DecoderLearner(folder, lesson, batch_tokens=batch_tokens)
        loss = learner.loss([one for docs in (1, 3, 2) for one in toy(docs=docs)])
        loss.backward()
        return loss.detach(), [weight.grad for weight in learner.network.parameters()]

    (whole, expected), (parts, found) = of(4_096), of(1)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


# --- the same prompts as at inference --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*of its probability on the answers")  # random weights
@pytest.mark.parametrize("prompt", [YesNo(), PairPrompt(), SetPrompt(), ListPrompt("letters"), YES, LETTERS], ids=repr)
def test_scores_are_those_that_inference_reads(folder, prompt):
    lists = toy(2, docs=2)
    learner = DecoderLearner(folder, Lesson(prompt))
    with torch.no_grad():
        ours = learner.scores(learner.lessons[0], show(Lesson(prompt), lists, learner.side))
    theirs = torch.tensor(read(folder, prompt, lists), dtype=torch.float32)
    if isinstance(prompt, PairPrompt | SetPrompt):
        ours = ours.softmax(dim=1)
    ours, theirs = (scores - scores.mean(dim=1, keepdim=True) for scores in (ours, theirs))
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*of its probability on the answers")
@pytest.mark.parametrize("prompt", [YES, PAIR, LETTERS], ids=["yes-no", "pair", "letters"])
def test_documents_that_exceed_the_context_are_cut_as_at_inference(folder, prompt):
    lists = [TrainingList("1", "?", tuple(Doc(text, text * 200) for text in TEXTS[:2]), (1.0, 0.0))]
    learner = DecoderLearner(folder, Lesson(prompt))
    with torch.no_grad():
        ours = learner.scores(learner.lessons[0], show(Lesson(prompt), lists, learner.side))
    ours = ours.softmax(dim=1) if prompt is PAIR else ours - ours.mean()
    theirs = torch.tensor(read(folder, prompt, lists), dtype=torch.float32)
    assert torch.allclose(ours, theirs if prompt is PAIR else theirs - theirs.mean(), atol=1e-4)


def test_an_order_that_is_written_has_room_behind_long_documents(folder):
    learner, context = DecoderLearner(folder, Lesson(NUMBERS)), 512
    [one] = show(
        Lesson(NUMBERS), [TrainingList("1", "?", (Doc("1", "n" * 999), Doc("2", "s")), (1.0, 0.0))], learner.side
    )
    [asked] = prompts(Lesson(NUMBERS), [(one.query, one.texts)], learner.live.reader, ["[1] > [2]"])
    [ids] = learner.side.prompts([learner.side.render(asked)])
    assert context - 40 < len(ids) + len("[1] > [2]") + 1 <= context


def test_labels_take_the_whole_probability_where_their_mass_is_learnt(folder, tmp_path):
    learner, model = (
        DecoderLearner(folder, Lesson(YES, binary_cross_entropy, mass=1.0)),
        HFModel(str(tmp_path), device="cpu"),
    )
    with torch.no_grad():
        plain = DecoderLearner(folder, Lesson(YES, binary_cross_entropy)).loss(toy(1))
        logits = learner.loss(toy(1))
    prompts = [YES.render("?", [doc.text]) for doc in toy(1)[0].docs]
    before = HFModel(str(folder), device="cpu").choices(prompts, [("Yes", "No")] * 3)
    silent = -sum(torch.logsumexp(torch.tensor(one.logprobs), 0).item() for one in before) / 3
    assert (logits - plain).item() == pytest.approx(silent, abs=1e-4)
    train(learner, toy(), tmp_path, QUICK)
    assert all(torch.tensor(one.logprobs).exp().sum() > 0.9 for one in model.choices(prompts, [("Yes", "No")] * 3))


@pytest.mark.parametrize("tokenizer", ["folder", "merging"])
def test_first_reads_its_ranking_where_the_letters_begin_and_its_text_from_there(tokenizer, request, monkeypatch):
    seen, folder = {}, request.getfixturevalue(tokenizer)

    def noted(logits, labels, tokens, targets, mask, *, positions):
        seen.update(logits=logits, labels=labels, tokens=tokens, positions=positions)
        return logits.sum() * 0

    monkeypatch.setattr("pyterrier_llmrank.training.learners.decoder.first_joint", noted)
    learner = DecoderLearner(folder, Lesson(LETTERS, learns="both"))
    lists = [*toy(1, docs=3), *toy(1, docs=2)]
    with torch.no_grad():
        learner.loss(lists)
        for row, one in enumerate(lists):
            shown = show(Lesson(LETTERS), [one], learner.side)
            alone = learner.scores(Lesson(LETTERS), shown)[0]
            place, tokens = seen["positions"][row], seen["tokens"][row][: len(one.docs)]
            assert torch.allclose(seen["logits"][row, place, tokens], alone, atol=1e-4)
            told = seen["labels"][row][seen["labels"][row] >= 0].tolist()
            letters = "ABC"
            order = " > ".join(f"[{letters[at]}]" for at in shown[0].order)
            assert order.endswith(learner.tokenizer.decode(told[1:-1])) and told[-1] == learner.tokenizer.eos_token_id


def test_the_first_identifiers_weigh_more(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "pyterrier_llmrank.training.learners.decoder.importance_weighted",
        lambda logits, labels, ranks: seen.append((labels, ranks)) or logits.sum() * 0,
    )
    learner = DecoderLearner(folder, Lesson(NUMBERS, early=True))
    with torch.no_grad():
        learner.loss(toy(1))
    (labels, ranks), *_ = seen
    pieces = [learner.tokenizer.decode([token]) for token in labels[0][labels[0] >= 0]]
    told = ranks[0][labels[0] >= 0].tolist()
    assert [rank for piece, rank in zip(pieces, told, strict=True) if piece in "123"] == [1, 2, 3]
    assert all(rank == 0 for piece, rank in zip(pieces, told, strict=True) if ">" in piece)


# --- which documents are shown ---------------------------------------------------------------------------------------


def test_documents_are_drawn_shuffled_and_cut(folder):
    side, lists = DecoderLearner(folder, Lesson(YES)).side, toy(8, docs=4)
    torch.manual_seed(0)
    some = show(Lesson(SET, docs=(2, 3), share=0.5), lists, side)
    assert len(some) == 4 and {len(one.texts) for one in some} == {2, 3}
    kept = [[TEXTS.index(text) for text in one.texts] for one in show(Lesson(SET, docs=(4, 4)), lists, side)]
    assert kept == [[(i + k) % 4 for k in range(4)] for i in range(8)]
    mixed = [one.texts for one in show(Lesson(SET, shuffled=1.0), lists, side)]
    assert mixed != [one.texts for one in show(Lesson(SET), lists, side)]
    assert all(
        round(3 - 3 * float(t)) == TEXTS.index(x) for one in some for x, t in zip(one.texts, one.targets, strict=True)
    )
    learner = DecoderLearner(folder, Lesson(YES, max_doc_tokens=1))
    with torch.no_grad():
        short = learner.scores(learner.lessons[0], show(Lesson(YES), lists[:1], side))
        same = learner.scores(
            Lesson(YES),
            [one._replace(texts=[t[:1] for t in one.texts]) for one in show(Lesson(YES), lists[:1], side)],
        )
    assert torch.allclose(short, same, atol=1e-5)


def test_what_is_drawn_has_something_to_be_told_apart(folder):
    """Of many documents a few are relevant: without one of them an order is taught that is none."""
    side, docs = DecoderLearner(folder, Lesson(YES)).side, tuple(Doc(str(i), str(i)) for i in range(40))
    lists = [TrainingList("1", "?", docs, tuple(float(i in (7, 8)) for i in range(40)))] * 60
    torch.manual_seed(0)
    for shuffled in (1.0, 0.0):
        drawn = show(Lesson(SET, docs=(4, 4), shuffled=shuffled), lists, side)
        assert all(len({*one.texts}) == 4 and 1 <= one.targets.sum() <= 2 for one in drawn)
        assert {int(one.targets.argmax()) for one in drawn} == {0, 1, 2, 3} or not shuffled  # at no place of its own
        assert {one.texts[int(one.targets.argmax())] for one in drawn} == {"7", "8"}
    same = show(Lesson(SET, docs=(4, 4)), [TrainingList("1", "?", docs, (1.0,) * 40)], side)
    assert len(same[0].texts) == 4
    alone = show(Lesson(YES, binary_cross_entropy, docs=(4, 4)), lists, side)
    assert any(not one.targets.any() for one in alone)  # as often relevant as in the list


def test_control_tokens_in_documents_are_plain_text(folder):
    side = DecoderLearner(folder, Lesson(YES)).side
    (one,) = show(Lesson(YES), [TrainingList("1", "<|end|>", (Doc("1", "a <|end|>"),), (1.0,))], side)
    assert side.tokenizer.eos_token_id not in side.encode([one.texts[0], one.query], special=False)[0]


# --- what is trained and saved ---------------------------------------------------------------------------------------


def test_only_the_named_tokens_are_trained(folder, tmp_path):
    learner = DecoderLearner(folder, Lesson(YES), tokens=[5, 6])
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    train(learner, toy(), tmp_path, Training(steps=3, batch_size=4, learning_rate=0.01, weight_decay=0.1))
    after = learner.network.get_input_embeddings().weight
    kept = torch.ones(len(after), dtype=torch.bool)
    kept[[5, 6]] = False
    assert torch.equal(after[kept], before["model.embed_tokens.weight"][kept])
    assert not torch.equal(
        learner.network.state_dict()["model.layers.0.mlp.up_proj.weight"], before["model.layers.0.mlp.up_proj.weight"]
    )
    assert not DecoderLearner(folder, Lesson(YES), tokens="none").network.get_input_embeddings().weight.requires_grad


def test_a_merged_adapter_and_one_beside_its_base_say_the_same(folder, tmp_path):
    pytest.importorskip("peft")
    lists, scores = toy(2), []
    for merged in (True, False):
        torch.manual_seed(0)  # of the adapter's first weights
        learner = DecoderLearner(folder, Lesson(YES), lora=Lora(4, 8, merged=merged))
        before = learner.network.base_model.model.model.layers[0].mlp.up_proj.base_layer.weight.clone()
        train(learner, toy(), tmp_path / str(merged), Training(steps=10, batch_size=4, learning_rate=0.01))
        assert torch.equal(learner.network.base_model.model.model.layers[0].mlp.up_proj.base_layer.weight, before)
        with torch.no_grad():
            live = learner.scores(Lesson(YES), show(Lesson(YES), lists, learner.side))
        scores += [live, torch.tensor(read(tmp_path / str(merged), YES, lists))]
    for one in scores[1:]:
        assert torch.allclose(one.float(), scores[0].float(), atol=1e-4)
    assert (tmp_path / "False" / "adapter_config.json").exists() and not (
        tmp_path / "False" / "model.safetensors"
    ).exists()
    assert not (tmp_path / "True" / "adapter_config.json").exists()
    assert torch.tensor(read(folder, YES, lists)).sub(scores[0]).abs().max() > 1e-3  # it learnt something


class Stopped(Exception):
    """What a user's interrupt is."""


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(folder, tmp_path):
    questions = (Lesson(YES, docs=(2, 3)), Lesson(SET, shuffled=0.5, share=0.5))
    training = Training(steps=8, batch_size=3, learning_rate=0.01, checkpoint_every=2)
    whole = DecoderLearner(folder, questions)
    train(whole, toy(6), tmp_path / "whole", training)
    learner, calls = DecoderLearner(folder, questions), []
    ours = learner.loss

    def stopping(lists):
        calls.append(1)
        if len(calls) == 6:
            raise Stopped
        return ours(lists)

    learner.loss = stopping
    with pytest.raises(Stopped):
        train(learner, toy(6), tmp_path / "cut", training)
    again = DecoderLearner(folder, questions)
    train(again, toy(6), tmp_path / "cut", training)
    for name, value in whole.network.state_dict().items():
        assert torch.allclose(value, again.network.state_dict()[name], atol=1e-7), name
    rows = [json.loads(line)["loss"] for line in (tmp_path / "cut" / "history.jsonl").read_text().splitlines()]
    assert len(rows) == 8


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"docs": (0, 2)}, "docs goes from at least 1"),
        ({"max_doc_tokens": (9, 2)}, "max_doc_tokens goes from"),
        ({"shuffled": 2.0}, "shuffled is 0 to 1"),
        ({"share": 0.0}, "share above 0 to 1"),
        ({"weight": 0.0}, "weight above 0"),
        ({"mass": -1.0}, "mass is at least 0"),
        ({"prompt": ListPrompt(), "mass": 1.0}, "mass is at least 0, and of labels"),
        ({"learns": "nothing"}, "learns must be"),
        ({"learns": "text"}, "only an order is learnt as a text"),
        ({"prompt": Graded()}, "has no label a document, nor yes and no"),
        ({"prompt": ListPrompt(), "learns": "labels"}, "has no label a document"),
    ],
)
def test_a_question_that_cannot_be_learnt_is_refused(options, said):
    with pytest.raises(ConfigurationError, match=said):
        Lesson(**{"prompt": YES, **options})


def test_a_learner_that_cannot_be_is_refused(folder, tmp_path):
    with pytest.raises(ConfigurationError, match="at least one Lesson"):
        DecoderLearner(folder, [])
    with pytest.raises(ConfigurationError, match=r"tokens are 0 to \d+ here, got 99999"):
        DecoderLearner(folder, Lesson(YES), tokens=[99999])
    with pytest.raises(ConfigurationError, match="is an encoder-decoder"):
        DecoderLearner(encoder_decoder(tmp_path), Lesson(YES))
    with pytest.raises(ConfigurationError, match="batch_tokens must be at least 1 token, got 0"):
        DecoderLearner("anything", Lesson(YES), batch_tokens=0)
    with pytest.raises(ConfigurationError, match="Lora needs a rank of at least 1"):
        Lora(0)
    pytest.importorskip("peft")
    with pytest.raises(ConfigurationError, match="LlamaForCausalLM cannot have Lora"):
        DecoderLearner(folder, Lesson(YES), lora=Lora(modules=("nowhere",)))


def test_rank_net_is_the_loss_unless_another_is_said():
    assert Lesson(YES).loss is rank_net and repr(Lesson(YES, kl_divergence)).endswith("loss=kl_divergence)")
