"""Random networks of real models' shapes with a word-level tokenizer, and passages of known length."""

from __future__ import annotations

import json
import os
import platform
import random
import re
import resource
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

VOCABULARY = 32_000


SHAPES = {  # of Qwen3's released decoders
    "0.6b": {"hidden": 1024, "layers": 28, "heads": 16, "kv_heads": 8, "head": 128, "inner": 3072},
    "4b": {"hidden": 2560, "layers": 36, "heads": 32, "kv_heads": 8, "head": 128, "inner": 9728},
}


def save_decoder(
    folder,
    *,
    hidden=768,
    layers=12,
    heads=12,
    kv_heads=4,
    head=None,
    inner=None,
    vocabulary=VOCABULARY,
    dtype="float32",
):
    """Writes a random Qwen3-style checkpoint (83 M parameters, and 25 M of embeddings) and its tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=inner or 3 * hidden,
        head_dim=head or hidden // heads,
        vocab_size=vocabulary,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    network = Qwen3ForCausalLM(config)
    with torch.no_grad():  # sharper attention than random weights have, so that differences would show
        for layer in network.model.layers:
            layer.self_attn.q_proj.weight.mul_(4)
            layer.self_attn.k_proj.weight.mul_(4)
    network.to(getattr(torch, dtype)).save_pretrained(folder)
    save_tokenizer(folder, vocabulary)


def save_encoder(folder, *, hidden=768, layers=12, vocabulary=VOCABULARY):
    """Writes a random cross-encoder of BERT's shape, of which a bi-encoder reads the body."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        vocab_size=vocabulary,
        num_labels=1,
        initializer_range=0.05,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    save_tokenizer(folder, vocabulary, pair="<cls> $A <end> $B:1 <end>:1", single="<cls> $A <end>")


def save_encoder_decoder(folder, *, hidden=768, layers=12, vocabulary=VOCABULARY):
    """Writes a random T5 of the shape of its base size."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        d_model=hidden,
        d_kv=64,
        d_ff=4 * hidden,
        num_layers=layers,
        num_heads=hidden // 64,
        vocab_size=vocabulary,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    save_tokenizer(folder, vocabulary, single="$A <end>")


def save_tokenizer(folder, vocabulary, *, single=None, pair=None):
    """Writes a tokenizer to which every word is a token; ``single`` and ``pair`` say what is put around texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<end>", "yes", "no", "[UNK]", "<cls>", *(f"w{i}" for i in range(vocabulary - 6))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if single:
        special = [("<end>", 1), ("<cls>", 5)]
        tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="[UNK]", model_max_length=32_768
    ).save_pretrained(folder)


def words(n, rng):
    """A text of ``n`` tokens."""
    return " ".join(f"w{rng.randrange(VOCABULARY - 6)}" for _ in range(n))


def workload(queries, docs, *, instruction=40, query=15, passage=115, spread=45, suffix=20, seed=0):
    """(start, passages) per query: prompts of about 190 tokens, of which a query's documents share the first 55."""
    rng = random.Random(seed)
    head, tail = words(instruction, rng), words(suffix, rng)
    lengths = [[int(min(250, max(30, rng.gauss(passage, spread)))) for _ in range(docs)] for _ in range(queries)]
    return [(f"{head} {words(query, rng)}", [f"{words(n, rng)} {tail}" for n in of_query]) for of_query in lengths]


@contextmanager
def clock(into):
    """Adds wall and CPU seconds (user and system, all threads) of a block to ``into``."""
    before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    yield
    after = resource.getrusage(resource.RUSAGE_SELF)
    into["wall_s"] = time.perf_counter() - wall
    into["cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def processor():
    """The processor's name, its cores as this process may use them, and the memory of the machine in GiB."""
    named = platform.processor() or platform.machine()
    told = Path("/proc/cpuinfo")
    if told.exists():  # Linux, where platform knows the architecture alone
        found = re.search(r"^model name\s*: (.+)$", told.read_text(encoding="utf-8"), re.MULTILINE)
        named = found[1].strip() if found else named
    elif platform.system() == "Darwin":
        named = output("sysctl", "-n", "machdep.cpu.brand_string") or named
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = None
    if hasattr(os, "sysconf") and {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= os.sysconf_names.keys():
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return {"processor": f"{named} ({platform.machine()})", "cores": cores, "memory_gib": memory}


def commit():
    """The commit of the checkout that this is in, with a "+" where files that it knows were changed; None elsewhere."""
    found = output("git", "rev-parse", "--short=12", "HEAD")
    changed = output("git", "status", "--porcelain", "--untracked-files=no", "--", ":!tests/benchmarks/results")
    return found and found + "+" * bool(changed)


def output(*command):
    """What a command says, run in this folder; None where it fails or is not there."""
    try:
        told = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()


def save_results(name, results):
    """Keeps figures beside the benchmark, with what they were measured on."""
    import torch
    import transformers

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        **processor(),
        "commit": commit(),
    }
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n", encoding="utf-8")
    print(f"kept in {path}")
