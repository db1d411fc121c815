"""Serves a Python reward function, unchanged, to vision-ekipl; needs nothing but the standard library.

    python3 reward_server.py rewards.py:count_reward                # TRL: f(prompts=, completions=, <columns>=, ...)
    python3 reward_server.py trl.rewards:think_format_reward        # from an installed package
    python3 reward_server.py judge.py:compute_score --style verl    # f(data_source, solution_str, ground_truth, extra_info)
    python3 reward_server.py judge.py:compute_score --style easyr1  # f([{"response", "response_length", "ground_truth"}])

Each line on standard input is a request, a JSON object of TRL's reward arguments; each is answered by one line, a JSON
list with a number or null per completion. What the function prints goes to standard error. Pictures come once per prompt
(`prompt_pictures`) and reach a TRL function as the columns `image` or `images`, in the form of the rows: objects of Pillow,
or paths with `pictures: paths` in the entry of `reward_funcs` and where Pillow is not installed.
"""

import argparse
import asyncio
import base64
import importlib.util
import inspect
import io
import json
import os
import sys
import tempfile
import types


def load(place):
    """The function `package.module:name` or `file.py:name`."""
    module, _, name = place.rpartition(":")
    if not module:
        sys.exit(f"{place}: expected package.module:function or file.py:function")
    if module.endswith(".py"):
        sys.path.insert(0, os.path.dirname(os.path.abspath(module)))
        spec = importlib.util.spec_from_file_location(os.path.basename(module)[:-3], module)
        loaded = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    else:
        sys.path.insert(0, os.getcwd())
        loaded = importlib.import_module(module)
    return getattr(loaded, name)


def pillow():
    """The modules of Pillow that open a picture, or None; said once."""
    if not hasattr(pillow, "found"):
        try:
            from PIL import Image, ImageOps

            pillow.found = Image, ImageOps
        except ImportError:
            pillow.found = None
            print("Pillow is not installed, so pictures reach the reward function as paths", file=sys.stderr)
    return pillow.found


def as_pil(cell):
    """As datasets decodes a picture: opened, and turned where its EXIF data say so."""
    modules, orientation = pillow(), 0x0112
    image = modules[0].open(cell["path"] if "path" in cell else io.BytesIO(base64.b64decode(cell["bytes"])))
    return modules[1].exif_transpose(image) if image.getexif().get(orientation) is not None else image


def as_path(cell, folder):
    if "path" in cell:
        return cell["path"]
    data = base64.b64decode(cell["bytes"])
    kind = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}
    suffix = next((suffix for mark, suffix in kind.items() if data.startswith(mark)), "")
    handle, path = tempfile.mkstemp(suffix, dir=folder)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    return path


def spread_pictures(request, folder):
    """The picture columns, one cell per completion; completions of one prompt share its objects."""
    pictures = request.pop("prompt_pictures", None)
    if pictures is None:
        return
    wants_pil = pictures["as"] == "pil" and pillow() is not None

    def picture(cell):
        return as_pil(cell) if wants_pil else as_path(cell, folder)

    def column(cells):
        return [picture(cell) for cell in cells] if isinstance(cells, list) else picture(cells)

    prompts = [{name: column(cells) for name, cells in columns.items()} for columns in pictures["prompts"]]
    for name in {name for columns in prompts for name in columns}:
        request[name] = [prompts[prompt].get(name) for prompt in pictures["of"]]


def text_of(completion):
    """Plain text for plain prompts, else the content of the one turn."""
    return completion if isinstance(completion, str) else completion[0]["content"]


def trl(function, request):
    request["trainer_state"] = types.SimpleNamespace(**request["trainer_state"])
    request.update(log_extra=lambda column, values: None, log_metric=lambda name, value: print(f"{name}: {value}"))
    result = function(**request)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def answers(request):
    """Text and gold answer of each completion; verl's rows keep the latter in `reward_model`."""
    models = request.get("reward_model") or [None] * len(request["solution"])
    for completion, model, solution in zip(request["completions"], models, request["solution"]):
        truth = model.get("ground_truth", solution) if isinstance(model, dict) else solution
        yield text_of(completion), truth


def verl(function, request):
    nothing = [None] * len(request["completions"])
    columns = request.get("data_source", nothing), request.get("extra_info", nothing)
    for (text, truth), source, extra in zip(answers(request), *columns):
        score = function(data_source=source, solution_str=text, ground_truth=truth, extra_info=extra)
        yield score["score"] if isinstance(score, dict) else score


def easyr1(function, request):
    pairs = zip(answers(request), request["completion_ids"])
    rows = [{"response": text, "response_length": len(ids), "ground_truth": truth} for (text, truth), ids in pairs]
    one_by_one = getattr(sys.modules[function.__module__], "REWARD_TYPE", "batch") == "sequential"
    scores = map(function, rows) if one_by_one else function(rows)
    return [score["overall"] for score in scores]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("function", help="package.module:function or file.py:function")
    parser.add_argument("--style", choices=("trl", "verl", "easyr1"), default="trl")
    arguments = parser.parse_args()
    # The two streams are ours alone: whatever the function prints or reads, in C too, must not get between the lines.
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    score = {"trl": trl, "verl": verl, "easyr1": easyr1}[arguments.style]
    function = load(arguments.function)
    for line in requests:
        request = json.loads(line)
        del request["request_number"]
        with tempfile.TemporaryDirectory() as folder:
            spread_pictures(request, folder)
            # A generator has to run while the pictures are there.
            rewards = list(score(function, request))
        print(json.dumps([None if reward is None else float(reward) for reward in rewards]), file=replies, flush=True)


if __name__ == "__main__":
    main()
