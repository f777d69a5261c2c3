"""The tokenizer: a part of MiniLM's wordpieces, labels, and the project's own instructions as one token each."""

from __future__ import annotations

import json
from string import Formatter, ascii_uppercase

import numpy as np

SIZE = 18_000
SPECIAL = ["<|pad|>", "<|unknown|>", "<|start|>", "<|end|>", "<|answer|>", "<|query|>"]
LETTERS = [*ascii_uppercase]
OPENED = [f"[{letter}" for letter in LETTERS]
NUMBERS = [f"[{number}]" for number in range(1, 27)]
CONTEXT = 4096
TEMPLATE = (  # the query is said again at the end, so that its words can look for themselves in the passages
    "<|start|>{% set ask = namespace(query='') %}{% for m in messages %}"
    "{% if m.role == 'user' and 'Query: ' in m.content %}"
    "{% set ask.query = m.content.split('Query: ')[1].split('\\n\\n')[0] %}{% endif %}{{ m.content }}\n\n{% endfor %}"
    "<|query|> {{ ask.query }}\n{% if add_generation_prompt %}<|answer|>{% endif %}"
)


def phrases():
    """What the default prompts say around queries and passages."""
    from pyterrier_llmrank.prompts import listwise, pairwise, pointwise, setwise

    templates = [
        pointwise.YES_NO.replace("{yes}", "Yes").replace("{no}", "No"),
        pairwise.PAIR.replace("{a}", "A").replace("{b}", "B"),
        setwise.LABEL_ALONE.template,
        listwise.TASK,
        listwise.SYSTEM,
    ]
    pieces = [
        piece for template in templates for text, *_ in Formatter().parse(template) for piece in text.split("\n\n")
    ]
    kept = [piece.strip() for piece in pieces]
    return list(dict.fromkeys(piece for piece in kept if len(piece) > 6 or piece.endswith(":")))


def kept_pieces(names, counts):
    """Ids of the wordpieces that stay: all characters, and the rest by BERT's order and the counts."""
    known = [i for i, name in enumerate(names) if not name.startswith("[unused") and i > 103]
    single = [i for i in known if len(names[i].removeprefix("##")) == 1 and (names[i].isascii() or counts[i] > 0)]
    rest = [i for i in sorted(set(known) - set(single)) if names[i].isascii()]
    rest.sort(key=lambda i: i / (1 + np.log1p(counts[i])))
    others = len(SPECIAL) + len(phrases()) + 2 + len(LETTERS) + len(OPENED) + len(NUMBERS) + 1
    return single + rest[: SIZE - len(single) - others]


def write(options):
    """Writes the tokenizer, and which of MiniLM's wordpieces its words are."""
    from candidates import minilm
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    base, _ = minilm(weights=False)
    names = base.convert_ids_to_tokens(range(len(base)))
    kept = kept_pieces(names, np.load(options.work / "counts.npy"))
    vocabulary = {piece: i for i, piece in enumerate([*SPECIAL, *(names[i] for i in kept)])}
    own = Tokenizer(models.WordPiece(vocabulary, unk_token="<|unknown|>", max_input_chars_per_word=100))
    own.normalizer = normalizers.BertNormalizer(lowercase=True)
    own.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    own.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    own.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    whole = [(name, True) for name in ["Yes", "No", *LETTERS, *OPENED]]
    whole += [(name, False) for name in [*NUMBERS, *phrases()]]
    own.add_tokens([AddedToken(name, normalized=False, single_word=alone) for name, alone in whole])
    start = [("<|start|>", vocabulary["<|start|>"])]
    own.post_processor = processors.TemplateProcessing(
        single="<|start|> $A", pair="<|start|> $A $B", special_tokens=start
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=own,
        unk_token="<|unknown|>",
        bos_token="<|start|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(options.work / "first")
    (options.work / "kept.json").write_text(json.dumps([int(i) for i in kept]), encoding="utf-8")
    print(len(tokenizer), "tokens")
