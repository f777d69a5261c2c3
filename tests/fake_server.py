"""Servers in this process: one that answers as it is told and breaks as it is told, and models behind it."""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np


class Server:
    """Answers requests with ``answer(path, body) -> (status, JSON)``; a context manager.

    ``fault(path, body, times)`` may say how one goes wrong instead, ``times`` being how often it was asked before: a
    status, (status, headers), "stall", "drop" (of the connection), "half" (an answer) or "html" (with a status of 200).
    """

    def __init__(self, answer, fault=lambda path, body, times: None):
        self.answer, self.fault = answer, fault
        self.asked, self.answered, self.headers, self.times = [], Counter(), [], []
        self.underway = self.most = 0
        self._loop = asyncio.new_event_loop()

    async def _handle(self, request):
        from aiohttp import web

        text = await request.text()
        body = json.loads(text) if text else None
        key = f"{request.path} {text}"
        times = sum(one == key for one in self.asked)
        self.asked.append(key)
        self.headers.append(dict(request.headers))
        self.times.append(self._loop.time())
        self.underway += 1
        self.most = max(self.most, self.underway)
        try:
            match self.fault(request.path, body, times):
                case None:
                    status, said = self.answer(request.path, body)
                    if asyncio.iscoroutine(said):
                        said = await said
                    self.answered[key] += status == 200
                    return web.json_response(said, status=status)
                case "stall":
                    await asyncio.sleep(60)
                case "drop":
                    request.transport.abort()
                case "half":
                    answer = web.StreamResponse(headers={"Content-Length": "100", "Content-Type": "application/json"})
                    await answer.prepare(request)
                    await answer.write(b'{"choices": [')
                    request.transport.abort()
                    return answer
                case "html":
                    return web.Response(text="<html>busy</html>", content_type="text/html")
                case (status, headers):
                    return web.json_response({"error": {"message": "go away"}}, status=status, headers=headers)
                case status:
                    return web.json_response({"error": {"message": "go away"}}, status=status)
            return web.Response(status=500)
        finally:
            self.underway -= 1

    async def _start(self):
        from aiohttp import web

        app = web.Application(client_max_size=2**28)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return self._runner.addresses[0][1]

    def __enter__(self):
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"
        return self

    async def _end(self):
        await self._runner.cleanup()
        stalled = asyncio.all_tasks() - {asyncio.current_task()}
        for task in stalled:
            task.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def count(self, path):
        return sum(one.startswith(f"{path} ") for one in self.asked)


def chat_answer(text, finish="stop", logprobs=None, **usage):
    """An answer to a chat."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 2} | usage
    return 200, {"object": "chat.completion", "choices": [choice | {"logprobs": logprobs}], "usage": usage}


def chatty(write, context=None):
    """The ``answer`` of a server that can only chat: ``write(text of the last turn)``."""

    def answer(path, body):
        if path == "/v1/models":
            return 200, {"data": [{"id": "tiny", "max_model_len": context}]}
        if path == "/v1/chat/completions":
            return chat_answer(write(body["messages"][-1]["content"]))
        return 404, {"error": {"message": "Not Found"}}

    return answer


@dataclass
class Random:
    """A language model whose next token depends on all of the tokens before it, by a hash."""

    tokenizer: object
    vocabulary: int = field(init=False)

    def __post_init__(self):
        self.vocabulary = len(self.tokenizer)
        told = [self.tokenizer.decode([i]) for i in range(self.vocabulary)]
        back = self.tokenizer(told, add_special_tokens=False)["input_ids"]
        self.odd = np.array([ids != [i] for i, ids in enumerate(back)])  # parts of characters

    def logprobs(self, ids):
        logits = np.random.default_rng(zlib.crc32(np.array(ids, dtype=np.int32).tobytes())).normal(
            0, 2, self.vocabulary
        )
        logits[self.odd] -= 10
        return logits - np.log(np.exp(logits).sum())

    def ids(self, text, special=True):
        return self.tokenizer(text, add_special_tokens=special)["input_ids"]

    def chat(self, turns):
        return self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    def token(self, i):
        return self.tokenizer.decode([i])


@dataclass
class Network(Random):
    """The decoder of a checkpoint in a folder."""

    folder: str

    def __post_init__(self):
        import torch
        from transformers import AutoModelForCausalLM

        self.torch = torch
        self.network = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()

    def logprobs(self, ids):
        with self.torch.no_grad():
            return self.network(input_ids=self.torch.tensor([ids])).logits[0, -1].double().log_softmax(-1).numpy()


@dataclass
class Engine:
    """What real servers have in common; each kind of server below tells log-probabilities in its own way."""

    model: Random
    top: int = 20
    echo_shift: int = 0  # of a server whose echo is off by so many places
    refuse: object = lambda ids: None  # a status for some prompts

    def __call__(self, path, body):
        name = path.removeprefix("/v1").strip("/").replace("/", "_").replace("-", "_")
        handler = getattr(self, f"on_{name}", None)
        if handler is None:
            return 404, {"error": {"message": "Not Found", "code": 404}}
        if body and body.get("model", "tiny") != "tiny" and self.knows_names:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist.", "type": "NotFoundError"}}
        return handler(body)

    knows_names = True

    def on_models(self, body):
        return 200, {"data": [{"id": "tiny", "max_model_len": 1024}]}

    def on_chat_completions(self, body):
        ids = self.model.ids(self.model.chat(body["messages"]), special=False)
        if body.get("top_logprobs", 0) > self.top:
            return 400, {"error": {"message": f"top_logprobs must be at most {self.top}"}}
        entry = self.entry(0, ids, body, chat=True)
        return 200, {"choices": [entry], "usage": {"prompt_tokens": len(ids), "completion_tokens": 1}}

    def on_completions(self, body):
        prompts = body["prompt"]
        if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
            prompts = [prompts]
        rows = [self.model.ids(one) if isinstance(one, str) else one for one in prompts]
        if (body.get("logprobs") or 0) > self.top:
            return 400, {"error": {"message": f"logprobs must be at most {self.top}"}}
        if status := next(filter(None, map(self.refuse, rows)), None):
            return status, {"error": {"message": "will not answer that"}}
        usage = {"prompt_tokens": sum(map(len, rows)), "completion_tokens": len(rows)}
        entries = [self.entry(place, ids, body, chat=False) for place, ids in enumerate(rows)]
        return 200, {"choices": entries[::-1], "usage": usage}  # servers need not keep to the order

    def entry(self, place, ids, body, chat):
        told = self.model.logprobs(ids)
        best = np.argsort(-told)
        text = self.model.token(best[0])
        entry = {"index": place, "finish_reason": "length"}
        entry |= {"message": {"content": text}} if chat else {"text": text}
        return entry | {"logprobs": self.told(ids, told, best, body, chat)}

    def told(self, ids, told, best, body, chat):
        return None


@dataclass
class VLLM(Engine):
    """Token ids in and out."""

    def told(self, ids, told, best, body, chat):
        if chat and not body.get("logprobs"):
            return None
        width = body.get("top_logprobs") if chat else body.get("logprobs")
        if width is None:
            return None
        shown = list(dict.fromkeys([best[0], *(body.get("logprob_token_ids") or best[:width])]))
        spell = self.spell if not body.get("return_tokens_as_token_ids") else lambda i: f"token_id:{i}"
        if chat:
            alternatives = [{"token": spell(i), "logprob": told[i], "bytes": None} for i in shown]
            return {"content": [alternatives[0] | {"top_logprobs": alternatives}]}
        tokens, values, tops = [spell(best[0])], [told[best[0]]], [{spell(i): told[i] for i in shown}]
        if body.get("echo"):
            before = [None] + [
                self.model.logprobs(ids[: place + self.echo_shift])[ids[place]] for place in range(1, len(ids))
            ]
            tokens, values = [spell(i) for i in ids] + tokens, before + values
            tops = [{spell(i): value} for i, value in zip(ids, before, strict=True)] + tops
        return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops}

    def spell(self, i):
        return self.model.token(i)

    def on_tokenize(self, body):
        if "messages" in body:
            return 200, {"tokens": self.model.ids(self.model.chat(body["messages"]), special=False)}
        return 200, {"tokens": self.model.ids(body["prompt"], special=body["add_special_tokens"])}

    def on_detokenize(self, body):
        return 200, {"prompt": self.model.tokenizer.decode(body["tokens"])}


@dataclass
class Writing(VLLM):
    """Writes as many tokens as it is asked for, by likelihood or by a seed."""

    context: int = 512
    ends: frozenset = frozenset()
    penalty: float = 1.0  # of tokens that were there before, unless a request says otherwise
    penalised: str = "repetition_penalty"

    def on_models(self, body):
        return 200, {"data": [{"id": "tiny", "max_model_len": self.context}]}

    def on_completions(self, body):
        status, said = super().on_completions(body)
        if status == 200:
            said["usage"]["completion_tokens"] = sum(entry["tokens"] for entry in said["choices"])
        return status, said

    def entry(self, place, ids, body, chat):
        new, draws = [], np.random.default_rng(body.get("seed"))
        while len(new) < body["max_tokens"] and not self.ends.intersection(new):
            told = self.model.logprobs([*ids, *new]).copy()
            told[[*ids, *new]] *= body.get(self.penalised, self.penalty)
            new.append(self.following(told, body, draws))
        text = self.model.tokenizer.decode(new, skip_special_tokens=True)
        finish = "stop" if self.ends.intersection(new) else "length"
        return super().entry(place, ids, body, chat) | {"text": text, "finish_reason": finish, "tokens": len(new)}

    def following(self, logprobs, body, draws):
        best = np.argsort(-logprobs)
        if not body.get("temperature"):
            return int(best[0])
        shares = np.exp(logprobs[best] / body["temperature"])
        shares /= shares.sum()
        kept = np.cumsum(shares) - shares < body.get("top_p", 1)
        kept[body.get("top_k") or len(kept) :] = False
        return int(draws.choice(best[kept], p=shares[kept] / shares[kept].sum()))


@dataclass
class LlamaServer(Engine):
    """Chat-shaped log-probabilities with ids everywhere, as many as asked for; takes any model's name.

    They are those of the network, whatever bias decides what is written.
    """

    top: int = 10**6
    halves: frozenset = frozenset()  # of characters, behind which it waits for the rest and tells nothing
    knows_names = False

    def on_models(self, body):
        return 200, {"data": [{"id": "tiny", "meta": {"n_vocab": self.model.vocabulary, "n_ctx": 512}}]}

    def on_completions(self, body):
        status, said = super().on_completions(body)
        if status == 200 and isinstance(body["prompt"][0], list):
            said["usage"] = {"prompt_tokens": len(body["prompt"][0]), "completion_tokens": 1}  # of the first one only
        return status, said

    def told(self, ids, told, best, body, chat):
        width = body.get("top_logprobs") if chat else body.get("logprobs")
        if not width:
            return None
        bias = {int(token): value for token, value in body.get("logit_bias", {}).items()}
        if max(best, key=lambda i: told[i] + bias.get(int(i), 0.0)) in self.halves:
            return None
        tops = [{"id": int(i), "token": self.model.token(i), "bytes": [], "logprob": told[i]} for i in best[:width]]
        return {"content": [tops[0] | {"top_logprobs": tops}]}

    def on_tokenize(self, body):
        return 200, {"tokens": self.model.ids(body["content"], special=False) if "content" in body else []}

    def on_detokenize(self, body):
        return 200, {"content": self.model.tokenizer.decode(body["tokens"])}

    def on_apply_template(self, body):
        return 200, {"prompt": self.model.chat(body["messages"])}


@dataclass
class SGLang(VLLM):
    """A scoring endpoint; neither its completions nor its tokenizer know what only vLLM knows."""

    def told(self, ids, told, best, body, chat):
        return super().told(ids, told, best, {**body, "logprob_token_ids": None, "return_tokens_as_token_ids": 0}, chat)

    def on_score(self, body):
        rows = [np.exp(self.model.logprobs(body["query"] + item))[body["label_token_ids"]] for item in body["items"]]
        return 200, {"scores": [row.tolist() for row in rows]}

    on_tokenize = on_detokenize = None


@dataclass
class Guided(VLLM):
    """Writes one of several texts, likeliest token first; knows nothing of log-probabilities by id."""

    field: str = "structured_outputs"

    def told(self, ids, told, best, body, chat):
        return super().told(ids, told, best, {**body, "logprob_token_ids": None}, chat)

    def entry(self, place, ids, body, chat):
        guide = body.get(self.field)
        if not guide:
            return super().entry(place, ids, body, chat)
        end = self.model.tokenizer.eos_token_id
        choices = guide["choice"] if self.field == "structured_outputs" else guide
        left, new = [[*self.model.ids(text, special=False), end] for text in choices], []
        while not new or new[-1] != end:
            told = self.model.logprobs([*ids, *new])
            new.append(max(sorted({one[len(new)] for one in left}), key=told.__getitem__))
            left = [one for one in left if one[: len(new)] == new]
        assert len(new) <= body["max_tokens"]
        return {"index": place, "finish_reason": "stop", "text": self.model.tokenizer.decode(new[:-1])}


@dataclass
class Hosted(VLLM):
    """Chats only, with a few likeliest tokens by text; refuses what it does not know."""

    known = frozenset("model messages max_tokens temperature logprobs top_logprobs stop seed top_p".split())

    def on_chat_completions(self, body):
        if unknown := body.keys() - self.known:
            return 400, {"error": {"message": f"Unknown parameter: {min(unknown)}"}}
        return super().on_chat_completions(body)

    on_completions = on_tokenize = on_detokenize = None


@dataclass
class Mute(Hosted):
    """Answers with 200 and ignores that log-probabilities were asked for."""

    known = Hosted.known | {"chat_template_kwargs"}

    def told(self, ids, told, best, body, chat):
        return None
