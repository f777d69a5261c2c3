"""Windows of 20 passages through fusion in the decoder, against the way of the released code with the same weights.

    python tests/benchmarks/fusion.py [--windows 3] [--threads 2] [--device cpu] [--save NAME]

(a) every passage padded to 150 tokens, their states with padding behind each other, greedy generation by transformers,
as castorini/LiT5 does it; (b) the same answers without padding; (c) answers held to an order, where the decoder runs
only where there is a choice. A random T5 never ends an answer, so that (a) and (b) write as many tokens as a complete
order takes. Ratios are of CPU seconds (on a GPU: of seconds) in one run, each variant the best of ``--repeat`` runs,
taken in turns. Also asserts that (a) and (b) write the same, and prints one line of JSON.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads would count as CPU time
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import random
import tempfile
import warnings
from dataclasses import replace

import torch
from models import clock, save_encoder_decoder, save_results, words

from pyterrier_llmrank import Doc, HFModel, LLMRankWarning, Question
from pyterrier_llmrank.prompts.fused import LIT5
from pyterrier_llmrank.scorers import FusionInDecoder

WIDTH = 150  # tokens that the released code pads a passage to


def save(folder, hidden, layers):
    """A random T5 whose tokenizer spells identifiers as T5's does: bracket, number, bracket."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    save_encoder_decoder(folder, hidden=hidden, layers=layers)
    own = ["<pad>", "<end>", "[UNK]", "[", "]", ">", ":", *map(str, range(1, 101))]
    known = [*own, "Search", "Query", "Passage", "Relevance", "Ranking"]
    vocabulary = {word: i for i, word in enumerate([*known, *(f"w{i}" for i in range(32_000 - len(known)))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="[UNK]", model_max_length=512
    ).save_pretrained(folder)


def workload(windows, size, rng):
    lengths = [[int(min(125, max(20, rng.gauss(80, 30)))) for _ in range(size)] for _ in range(windows)]
    return [
        Question(words(8, rng), tuple(Doc(str(i), words(n, rng)) for i, n in enumerate(of_window)), str(number))
        for number, of_window in enumerate(lengths)
    ]


def released(scorer, question, tokens):
    """An answer as the released code gets it."""
    from transformers.modeling_outputs import BaseModelOutput

    loaded = scorer.model._loaded
    texts = [message.content for message in LIT5.render(question.query, [d.text for d in question.docs]).messages]
    batch = loaded.tokenizer(texts, padding="max_length", truncation=True, max_length=WIDTH, return_tensors="pt")
    ids, mask = (batch[name].to(loaded.device) for name in ("input_ids", "attention_mask"))
    with torch.inference_mode():
        states = loaded.network.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        out = loaded.network.generate(
            encoder_outputs=BaseModelOutput(states.reshape(1, -1, states.shape[-1])),
            attention_mask=mask.reshape(1, -1),
            max_new_tokens=tokens,
            do_sample=False,
        )
    return loaded.tokenizer.decode(out[0], skip_special_tokens=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--size", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", LLMRankWarning)  # a random network writes no order
    with tempfile.TemporaryDirectory() as folder:
        save(folder, options.hidden, options.layers)
        row = compared(folder, options)
    print(json.dumps(row))
    if options.save:
        save_results(options.save, [row])


def compared(folder, options):
    """A row of results."""
    tokens = 4 * options.size - 1  # of a complete order
    model = HFModel(folder, device=options.device, dtype="float32", max_length=WIDTH)
    free = FusionInDecoder(model, max_tokens=tokens)
    held = FusionInDecoder(model, prompt=replace(LIT5, decode="constrained"))
    questions = workload(options.windows, options.size, random.Random(0))
    prompts = [LIT5.render(one.query, [doc.text for doc in one.docs]) for one in questions]
    wanted = [released(free, one, tokens) for one in questions]
    assert [one.text for one in free.model.generate(prompts, max_tokens=tokens)] == wanted
    runs = {
        "released": lambda: [released(free, one, tokens) for one in questions],
        "free": lambda: free(questions),
        "held": lambda: held(questions),
    }
    seconds = {name: [] for name in runs}
    for _ in range(options.repeat):
        for name, run in runs.items():
            taken = {}
            with clock(taken):
                run()
                if options.device != "cpu":
                    torch.cuda.synchronize()
            seconds[name].append(taken["cpu_s" if options.device == "cpu" else "wall_s"])
    best = {name: min(values) for name, values in seconds.items()}
    read = sum(answer.usage.prompt_tokens for answer in held(questions))
    row = {"windows": options.windows, "documents": options.size, "hidden": options.hidden, "layers": options.layers}
    row |= {"tokens_a_passage": round(read / options.windows / options.size, 1)}
    row |= {f"{name}_s_a_window": round(value / options.windows, 3) for name, value in best.items()}
    return row | {f"{name}_times_faster": round(best["released"] / best[name], 2) for name in ("free", "held")}


if __name__ == "__main__":
    main()
