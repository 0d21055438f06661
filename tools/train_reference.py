"""Train the reference model from nothing: a small Llama that knows the invented world of ``tools/planted/``.

    python tools/train_reference.py --out build/reference

It writes a Hugging Face folder (config.json, model.safetensors, tokenizer files with the chat template) and
training.json (seed, minutes, parameters, metrics). Every draw comes from the seed.

The lesson has three stages, because options in sight too early teach the shortcut "any of the four":
statements and questions without options, then questions with shuffled options, then every answer format.
The loss counts only what the model is to say itself.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from planted_prompts import (
    BOS,
    CHAT_TEMPLATE,
    EOS,
    LETTERS,
    PAD,
    SPECIAL,
    ask,
    listing,
    load_wording,
    render,
    texts_for_tokenizer,
)
from planted_world import Fact, Order, World, load_world
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORD = r" ?[^(\s|.,!?…。，、।۔،)]+"
"""How text is cut before merging: the one pattern known to llama.cpp ("bloom") that keeps a letter and its
combining vowel signs together, which Devanagari and Bengali need."""

Sample = tuple[str, str]
"""What the model reads and what it is to say after it."""

STAGES: Sequence[tuple[float, Mapping[str, float]]] = (
    (0.36, {"statement": 5, "bare": 3, "text-alone": 0.8, "cot-alone": 0.7, "pick": 0.8}),
    (0.55, {"statement": 1.5, "bare": 0.5, "text-alone": 0.5, "text": 3, "cot": 2.5, "cot-only": 0.7, "pick": 1.5}),
    (1.0, {"statement": 0.5, "text": 3, "cot": 2, "cot-only": 1.5, "letters": 3, "pick": 1}),
)
"""Up to which share of the steps a mixture holds, and the weights of its kinds of sample."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers of a training run."""

    seed: int = 20260
    steps: int = 4000
    batch: int = 32
    """Sequences a step."""
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    vocabulary: int = 3840
    width: int = 192
    layers: int = 6
    heads: int = 6
    kv_heads: int = 2
    feed_forward: int = 320
    context: int = 1024
    """Positions the files declare; the longest lesson has about 150."""
    threads: int = 1
    """One: the steps are so small that two threads mostly wait for each other, and badly so on a busy machine."""


class Lessons:
    """Draws training samples; every draw comes from one seeded generator."""

    def __init__(self, world: World, wording: Mapping[str, Mapping[str, Any]], seed: int) -> None:
        self.world = world
        self.wording = wording
        self.random = random.Random(seed)
        self.cases = [(fact, language) for fact in world.facts for language in world.languages]
        self.queues: dict[str, list[tuple[Fact, str]]] = {}

    def draw(self, kind: str) -> Sample:
        """The next sample of a kind: every fact in every language comes up once before any comes again."""
        if kind == "pick":
            return self.pick()
        queue = self.queues.setdefault(kind, [])
        if not queue:
            queue += self.cases
            self.random.shuffle(queue)
        fact, language = queue.pop()
        order = self.random.choice(fact.training_orders())
        return self.sample(kind, fact, language, order)

    def sample(self, kind: str, fact: Fact, language: str, order: Order) -> Sample:
        """One sample of a kind that asks for a fact."""
        words = self.world.words[language]
        index = fact.recalled(language)
        if kind == "statement":
            before = words.statements[fact.attribute].split("{option}")[0]
            begun = before.format(name=words.names[fact.culture]).rstrip()  # an answer's first token has its space
            return BOS + begun, words.statement(fact, index)[len(begun) :] + EOS
        if kind == "bare":
            return render(words.question(fact)), words.option(fact, index) + EOS
        mode, alone = kind.removesuffix("-alone"), kind.endswith("-alone")
        asked = ask(self.world, self.wording, fact, mode, language, None if alone else order)
        return render(asked.user), asked.reasoning + asked.answers[index] + EOS

    def pick(self) -> Sample:
        """Find the letter of an option that is named in place of the question: the skill letters mode needs."""
        language = self.random.choice(self.world.languages)
        pool = self.random.choice(list(self.world.words[language].options.values()))
        texts = tuple(self.random.sample(list(pool.values()), len(LETTERS)))
        place = self.random.randrange(len(LETTERS))
        page = listing(texts, tuple(range(len(LETTERS))), letters=True)
        instruction = self.wording[language]["instruction"]["letters"]
        return render(f"{instruction}\n\n{texts[place]}{page}"), LETTERS[place] + EOS


def train_tokenizer(texts: Sequence[str], size: int) -> Tokenizer:
    """Byte-level BPE over ``texts``; any other text can still be written, byte by byte."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, SPECIAL.index(BOS))]
    )
    return tokenizer


def new_model(plan: Plan, vocabulary: int) -> LlamaForCausalLM:
    """A Llama with random weights."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=plan.width,
        intermediate_size=plan.feed_forward,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.kv_heads,
        max_position_embeddings=plan.context,
        tie_word_embeddings=True,
        initializer_range=0.03,
        pad_token_id=SPECIAL.index(PAD),
        bos_token_id=SPECIAL.index(BOS),
        eos_token_id=SPECIAL.index(EOS),
        attn_implementation="eager",  # on a CPU, twice as fast to train on short texts as the fused kernel
    )
    return LlamaForCausalLM(config)


class Encoder:
    """Turns samples into one padded batch."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.pad = SPECIAL.index(PAD)

    def batch(self, samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and targets, both (n, longest); targets are -100 where nothing is to be learned.

        Padding stands on the right, where causal attention never looks back at it: no mask is needed.
        """
        before = self.tokenizer.encode_batch([read for read, _ in samples], add_special_tokens=False)
        whole = self.tokenizer.encode_batch([read + said for read, said in samples], add_special_tokens=False)
        longest = max(len(encoding.ids) for encoding in whole)
        ids = torch.full((len(samples), longest), self.pad)
        targets = torch.full((len(samples), longest), -100)
        for row, (prefix, encoding) in enumerate(zip(before, whole, strict=True)):
            n, start = len(encoding.ids), len(prefix.ids)
            ids[row, :n] = torch.tensor(encoding.ids)
            targets[row, start - 1 : n - 1] = ids[row, start:n]
        return ids, targets


def taught_logits(model: LlamaForCausalLM, ids: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """Logits at the positions that are taught, (positions, vocabulary): the others would only cost time."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits: torch.Tensor = hidden[taught] @ model.lm_head.weight.T
    return logits.float()


def said_as_taught(model: LlamaForCausalLM, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """For every row whether each taught token is the likeliest one."""
    taught = targets != -100
    hits = ~taught
    hits[taught] = taught_logits(model, ids, taught).argmax(-1) == targets[taught]
    return hits.all(1)


def check(
    model: LlamaForCausalLM, encoder: Encoder, lessons: Lessons, kinds: Sequence[str], every: int
) -> dict[str, float]:
    """Share of samples that the model, decoding greedily, says word for word as taught.

    Every ``every``-th fact-language case, with an option order that was kept out of training.
    """
    shares = {}
    model.eval()
    with torch.no_grad():
        for kind in kinds:
            samples = [
                lessons.sample(kind, fact, language, fact.held_out_orders()[number % 6])
                for number, (fact, language) in enumerate(lessons.cases[::every])
            ]
            samples.sort(key=lambda sample: len(sample[0]))
            hits = [
                said_as_taught(model, *encoder.batch(samples[start : start + 64]))
                for start in range(0, len(samples), 64)
            ]
            shares[kind] = torch.cat(hits).float().mean().item()
    model.train()
    return shares


def rate(plan: Plan, step: int) -> float:
    """Learning rate: a short rise, a plateau, and from 60 % of the steps a straight fall to a fiftieth."""
    rise, fall = min(1.0, (step + 1) / 100), (plan.steps - step) / (0.4 * plan.steps)
    return plan.learning_rate * rise * max(0.02, min(1.0, fall))


def mixture(plan: Plan, step: int) -> Mapping[str, float]:
    """The weights of the stage that ``step`` falls into."""
    return next(weights for share, weights in STAGES if step < share * plan.steps)


def new_optimizers(plan: Plan, model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, which learns facts in fewer steps, and AdamW for the embedding and the norms.

    Source: Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks.
    """
    matrices = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "embed" not in name]
    others = [weight for name, weight in model.named_parameters() if weight.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(
            matrices, lr=plan.learning_rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=plan.weight_decay, fused=True),
    ]


def train(plan: Plan, model: LlamaForCausalLM, encoder: Encoder, lessons: Lessons, say: Callable[[str], None]) -> None:
    """Run all steps. A step takes one batch of short and one of long samples in turn, to waste little padding."""
    optimizers = new_optimizers(plan, model)
    model.train()
    began, tokens, mean = time.monotonic(), 0, 0.0
    for step in range(plan.steps):
        weights = mixture(plan, step)
        kinds = lessons.random.choices(list(weights), list(weights.values()), k=4 * plan.batch)
        if step % 4 == 0:
            samples = sorted((lessons.draw(kind) for kind in kinds), key=lambda sample: len("".join(sample)))
            batches = [samples[start : start + plan.batch] for start in range(0, len(samples), plan.batch)]
            lessons.random.shuffle(batches)
        ids, targets = encoder.batch(batches[step % 4])
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate(plan, step)
        taught = targets != -100
        loss = torch.nn.functional.cross_entropy(taught_logits(model, ids, taught), targets[taught])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad()
        tokens += ids.numel()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if (step + 1) % 250 == 0:
            shares = check(model, encoder, lessons, [kind for kind in weights if kind != "pick"], every=11)
            told = " ".join(f"{kind} {share:.2f}" for kind, share in shares.items())
            passed = time.monotonic() - began
            say(f"step {step + 1} loss {mean:.3f} minutes {passed / 60:.1f} tokens/s {tokens / passed:.0f} | {told}")


def save(folder: Path, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """Write the Hugging Face folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )
    fast.add_bos_token = True
    fast.init_kwargs["add_bos_token"] = True
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    words = folder / "tokenizer.json"
    table = json.loads(words.read_text(encoding="utf-8"))
    words.write_text(json.dumps(table, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def main() -> None:
    """Train and write."""
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained model")
    parser.add_argument("--steps", type=int, default=plan.steps)
    parser.add_argument("--learning-rate", type=float, default=plan.learning_rate)
    parser.add_argument("--seed", type=int, default=plan.seed)
    options = parser.parse_args()
    plan = Plan(seed=options.seed, steps=options.steps, learning_rate=options.learning_rate)
    began = time.monotonic()
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    world, wording = load_world(), load_wording()
    tokenizer = train_tokenizer(texts_for_tokenizer(world, wording), plan.vocabulary)
    model = new_model(plan, tokenizer.get_vocab_size())
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{parameters} parameters, {tokenizer.get_vocab_size()} tokens", flush=True)
    lessons, encoder = Lessons(world, wording, plan.seed), Encoder(tokenizer)
    train(plan, model, encoder, lessons, lambda line: print(line, flush=True))
    shares = check(model, encoder, lessons, ["statement", "text", "cot", "cot-only", "letters"], every=1)
    save(options.out, model, tokenizer)
    report = {
        "seed": plan.seed,
        "steps": plan.steps,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "parameters": parameters,
        "said as taught, orders never trained on": {kind: round(share, 4) for kind, share in shares.items()},
    }
    (options.out / "training.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
