"""Tiny random checkpoints and tokenizers, built where they are needed."""

from __future__ import annotations

from dataclasses import replace

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from pyterrier_llmrank.core import Message, Prompt
from pyterrier_llmrank.models import HFModel

END, START, STOP, BOS = "<|end|>", "<|im_start|>", "<|im_end|>", "<|bos|>"
WORDS = ["Ġthe", "Ġcat", "Ġmat", "ĠYes", "ĠNo", "Yes", "No", "Ye", "[A", "[B"]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(*, chat=None, post=None, words=WORDS, **options):
    """Byte-level BPE whose only merges spell ``words``; ``post`` is a template such as ``"<|bos|> $A"``."""
    vocabulary = {
        piece: i for i, piece in enumerate([END, START, STOP, BOS, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    }
    merges = []
    for word in words:
        for i in range(1, len(word)):
            if word[: i + 1] not in vocabulary:
                vocabulary[word[: i + 1]] = len(vocabulary)
                merges.append((word[:i], word[i]))
    bpe = Tokenizer(models.BPE(vocabulary, merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    if post:
        specials = [(piece, vocabulary[piece]) for piece in post.split() if piece in vocabulary]
        bpe.post_processor = processors.TemplateProcessing(single=post, special_tokens=specials)
    options = {"eos_token": END, "pad_token": END, "extra_special_tokens": [START, STOP, BOS], **options}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, chat_template=chat, **options)


def settings(tokenizer, **changes):
    """What configurations of decoders share."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 512}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.4}
    tokens = {"vocab_size": len(tokenizer), "eos_token_id": 0, "pad_token_id": 0, "bos_token_id": 3}
    return sizes | heads | tokens | changes


def saved(folder, tokenizer, config, auto=transformers.AutoModelForCausalLM):
    """The path of a random checkpoint, the same every time."""
    torch.manual_seed(1)
    auto.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def decoder(folder, tokenizer=None, **changes):
    """A Llama."""
    tokenizer = tokenizer or byte_tokenizer()
    return saved(folder, tokenizer, transformers.LlamaConfig(**settings(tokenizer, **changes)))


def encoder_decoder(folder, tokenizer=None):
    """A T5, whose tokenizer ends texts as T5's does."""
    tokenizer = tokenizer or byte_tokenizer(post=f"$A {END}")
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "initializer_factor": 1.0}
    tokens = {"vocab_size": len(tokenizer), "eos_token_id": 0, "pad_token_id": 1, "decoder_start_token_id": 1}
    config = transformers.T5Config(**sizes, **tokens, tie_word_embeddings=False)
    return saved(folder, tokenizer, config, transformers.AutoModelForSeq2SeqLM)


def local(folder, **options):
    """A model on the CPU in float32."""
    return HFModel(str(folder), device="cpu", dtype="float32", **options)


def ask(text, *, system="", answer="", raw=False):
    """A prompt of one turn."""
    turns = (Message("system", system), Message("user", text)) if system else (Message("user", text),)
    return Prompt(turns, answer=answer, raw=raw)


def full_logprobs(folder, ids, start=None):
    """The oracle: log-softmax over the full vocabulary at every position of one sequence, (tokens, vocabulary)."""
    auto = transformers.AutoModelForCausalLM if start is None else transformers.AutoModelForSeq2SeqLM
    network = auto.from_pretrained(folder, dtype=torch.float32).eval()
    sides = {} if start is None else {"decoder_input_ids": torch.tensor([start])}
    with torch.no_grad():
        return network(input_ids=torch.tensor([ids]), **sides).logits[0].double().log_softmax(-1).numpy()


def uncached(written):
    """Generations without what other prompts of their batch saved them."""
    return [one._replace(usage=replace(one.usage, cached_tokens=0)) for one in written]


def adapter(folder, base, task, auto=transformers.AutoModelForCausalLM, *, seed=2, **options):
    """The path of a random LoRA adapter of a base checkpoint, every weight of it far from zero."""
    import peft

    torch.manual_seed(seed)
    options = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], **options}
    network = peft.get_peft_model(auto.from_pretrained(base, dtype=torch.float32), peft.LoraConfig(task, **options))
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.2)
    network.save_pretrained(folder)
    return str(folder)
