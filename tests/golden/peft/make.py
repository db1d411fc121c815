"""What PEFT and transformers compute with adapters on the tiny Qwen2-VL checkpoint of ../public.

python make.py            writes the adapters and golden.safetensors beside this file
python make.py FOLDER     loads an adapter that vision-ekipl wrote into PEFT, and prints how far its logits are from
                          golden.safetensors (FOLDER/golden names whose: its name must begin with that of an adapter here)

Made with Python 3.11.7, torch 2.15.0 (CPU, float32), transformers 5.23.0, peft 0.21.2, safetensors 0.8.0.
"""
import os, sys
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import Qwen2VLForConditionalGeneration
from peft import LoraConfig, PeftModel, get_peft_model

HERE = os.path.dirname(os.path.abspath(__file__))
PUBLIC = os.path.join(HERE, "..", "public")
BASE = os.path.join(PUBLIC, "qwen2vl-tiny")
PROMPTS = ["p0", "p2", "p4"]
ADAPTERS = {
    "all-linear": dict(r=4, lora_alpha=8, target_modules="all-linear"),
    "rslora-saved": dict(r=3, lora_alpha=5, use_rslora=True, target_modules=r"^(?!.*visual).*(gate_proj|o_proj)$",
                         modules_to_save=["lm_head", "merger"]),
    # One of two tied tables: the other stays the model's.
    "embedding-saved": dict(r=2, lora_alpha=4, target_modules=["q_proj", "attn.proj"], modules_to_save=["embed_tokens"]),
}


def base():
    return Qwen2VLForConditionalGeneration.from_pretrained(BASE, dtype=torch.float32, attn_implementation="eager").eval()


def inputs(file, prompt):
    get = lambda name: file.get_tensor(f"{prompt}.{name}")
    ids = get("input_ids").reshape(1, -1)
    given = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    given["mm_token_type_ids"] = (ids == IMAGE).long()
    if f"{prompt}.pixel_values" in file.keys():
        given["pixel_values"] = get("pixel_values")
        given["image_grid_thw"] = get("image_grid_thw").reshape(-1, 3)
    return given


def logits(model, file, prompt):
    with torch.no_grad():
        return model(**inputs(file, prompt)).logits[0, -4:].contiguous()


def make(file):
    found = {}
    for number, (name, options) in enumerate(ADAPTERS.items()):
        torch.manual_seed(number)
        # Without `init_lora_weights` both factors are drawn, so that the adapter changes something.
        config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, lora_dropout=0.05, **options)
        model = get_peft_model(base(), config).eval()
        with torch.no_grad():
            for key, value in model.named_parameters():
                if ".modules_to_save." in key:
                    value.add_(torch.randn_like(value) * 0.02)
        model.peft_config["default"].base_model_name_or_path = "tests/golden/public/qwen2vl-tiny"
        model.save_pretrained(os.path.join(HERE, name))
        os.remove(os.path.join(HERE, name, "README.md"))
        for prompt in PROMPTS:
            found[f"{name}.{prompt}.logits_last4"] = logits(model, file, prompt)
            with model.disable_adapter():
                plain = logits(model, file, prompt)
            change = (found[f"{name}.{prompt}.logits_last4"] - plain).abs().max()
            print(name, prompt, "the adapter changes the logits by", float(change))
        merged = model.merge_and_unload()
        for prompt in PROMPTS:
            noise = (logits(merged, file, prompt) - found[f"{name}.{prompt}.logits_last4"]).abs().max()
            print(name, prompt, "merged differs by", float(noise))
    save_file(found, os.path.join(HERE, "golden.safetensors"))


def check(file, folder):
    name = next(name for name in ADAPTERS if os.path.basename(os.path.normpath(folder)).startswith(name))
    model = PeftModel.from_pretrained(base(), folder).eval()
    golden = safe_open(os.path.join(HERE, "golden.safetensors"), "pt")
    for prompt in PROMPTS:
        expected = golden.get_tensor(f"{name}.{prompt}.logits_last4")
        print(folder, prompt, "differs by", float((logits(model, file, prompt) - expected).abs().max()))


if __name__ == "__main__":
    public = safe_open(os.path.join(PUBLIC, "golden-qwen2vl-tiny.safetensors"), "pt")
    import json
    IMAGE = json.load(open(os.path.join(BASE, "config.json")))["image_token_id"]
    check(public, sys.argv[1]) if len(sys.argv) > 1 else make(public)
