"""CPU time that a model behind a server takes on the client's side, per request and per prompt.

    python tests/benchmarks/http_client.py [--requests 600] [--save NAME]

The server is another process and answers at once, after 20 ms. Chats go one a request, 64 at a time; label scores go 64
prompts a request, as token ids, with and without the time that it takes to render and tokenise prompts of 190 words.
Targets: under 3 ms per request, and under 0.1 ms per prompt where a request takes many.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import tempfile

from models import clock, save_decoder, save_results, words

from pyterrier_llmrank.core import Message, Prompt
from pyterrier_llmrank.models import OpenAIModel
from pyterrier_llmrank.models.http.dialects import token_ids
from pyterrier_llmrank.models.http.wire import cut

CONCURRENCY, PER_REQUEST, WAIT = 64, 64, 0.02


def chat(body):
    """A short answer."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "[2] > [1]"}}
    return {"choices": [choice], "usage": {"prompt_tokens": 190, "completion_tokens": 8}}


def completion(body):
    """As vLLM answers; each token is as likely as its number says."""
    prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
    wanted = body.get("logprob_token_ids", [])
    choices = []
    for place, ids in enumerate(prompts):
        whole = [*ids, 7] if body.get("echo") else [7]
        told = {f"token_id:{token}": -1.0 - token / 1000 for token in (7, *wanted)}
        logprobs = {
            "tokens": [f"token_id:{token}" for token in whole],
            "token_logprobs": [-1.0 - token / 1000 for token in whole],
            "top_logprobs": [told],
        }
        choices.append({"index": place, "text": "x", "finish_reason": "length", "logprobs": logprobs})
    usage = {"prompt_tokens": sum(map(len, prompts)), "completion_tokens": len(prompts)}
    return {"choices": choices, "usage": usage}


def serve(port):
    """Runs the server; tells its port."""
    from aiohttp import web

    async def handle(request):
        body = await request.json() if request.can_read_body else None
        await asyncio.sleep(WAIT)
        if request.path.endswith("/models"):
            return web.json_response({"data": [{"id": "m", "max_model_len": 4096}]})
        return web.json_response(chat(body) if request.path.endswith("chat/completions") else completion(body))

    async def main():
        app = web.Application(client_max_size=2**28)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


def measured(work, n):
    """CPU milliseconds for each of ``n``, and how many are done in a second."""
    work()  # warm up: connections, and what is compiled or probed at first use
    clocked = {}
    with clock(clocked):
        work()
    return {"cpu_ms": 1000 * clocked["cpu_s"] / n, "per_s": n / clocked["wall_s"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    rng = random.Random(0)
    prompts = [Prompt((Message("user", words(190, rng)),)) for _ in range(options.requests)]
    many = prompts * max(1, 6400 // options.requests)
    rows = []

    chats = OpenAIModel("m", url, concurrency=CONCURRENCY, chat=True)
    figures = measured(lambda: chats.generate(prompts, max_tokens=100), len(prompts))
    rows.append({"what": "chat, one prompt a request", **figures})

    with tempfile.TemporaryDirectory() as folder:
        save_decoder(folder, hidden=24, layers=1)
        model = OpenAIModel("m", url, concurrency=CONCURRENCY, tokenizer=folder, chat=False)
        model.load()
        ids = model._facts.text.prompts([model._facts.text.render(prompt) for prompt in many])

        async def ask(chunk):
            return await token_ids(model._wire, "m", chunk, (2, 3))

        sent = measured(lambda: model._wire.each(ask, cut(ids, PER_REQUEST)), len(ids))
        rows.append({"what": f"labels, {PER_REQUEST} prompts a request", **sent})
        whole = measured(lambda: model.choices(many, [("yes", "no")] * len(many)), len(many))
        rows.append({"what": f"labels, {PER_REQUEST} prompts a request, rendered and tokenised", **whole})
    server.terminate()
    for row in rows:
        print(json.dumps(row))
    if options.save:
        save_results(options.save, rows)


if __name__ == "__main__":
    main()
