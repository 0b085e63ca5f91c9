"""The corpus of the embedded assistant: what its generators promise."""

import json
import sys
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "model_repo" / "training"))

from corpus import mix
from corpus.chat import about, wordings
from corpus.closed import table
from corpus.passages import shapes
from corpus.rag import REFUSAL, Size, grounded, located
from corpus.sample import Sample, Split, is_held, letters, prompt_text

DRAWS = 400


def draw_many(seed: int, count: int = DRAWS) -> list[Sample]:
    rng = Random(seed)
    return [mix.draw(rng) for _ in range(count)]


def test_a_seed_is_a_data_set() -> None:
    assert draw_many(7) == draw_many(7)
    assert draw_many(7) != draw_many(8)


@pytest.mark.parametrize("task", mix.SCORED)
def test_held_out_sets_are_deterministic(task: str) -> None:
    assert mix.held_out(task, 20, 1) == mix.held_out(task, 20, 1)


def test_conversations_alternate_and_end_with_an_answer() -> None:
    for sample in draw_many(1):
        roles = [message.role for message in sample.messages if message.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(message.content.strip() for message in sample.messages)


@pytest.mark.parametrize("name", ["about.toml", "chat.toml"])
def test_every_topic_has_wordings_in_training_and_no_wording_is_in_both(name: str) -> None:
    trained, held = wordings(name, Split.TRAIN), wordings(name, Split.HELD)
    assert trained.keys() == held.keys()
    assert all(trained.values())
    for topic, texts in held.items():
        assert not {letters(t) for t in texts} & {letters(t) for t in trained[topic]}


def test_questions_lead_to_one_answer() -> None:
    seen: dict[str, str] = {}
    for topic, texts in wordings("about.toml", Split.TRAIN).items():
        for text in texts:
            assert seen.setdefault(letters(text), topic) == topic, text


def test_training_never_asks_a_held_out_wording() -> None:
    trained = {letters(s.question) for s in draw_many(2, 4000) if s.task in ("about", "table")}
    rng = Random(3)
    held = {letters(maker(rng, Split.HELD).question) for maker in (about, table) for _ in range(500)}
    assert trained
    assert not trained & held
    assert all(is_held(wording) for wording in held)


def test_shapes_of_the_unseen_test_are_not_in_training() -> None:
    seen = {text for shape in shapes(Split.TRAIN) for text in (*shape.say, *shape.ask)}
    unseen = {text for shape in shapes(Split.HELD) for text in shape.say}
    assert len(unseen) >= 15
    assert not seen & unseen


@pytest.mark.parametrize("split", Split)
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_an_answer_is_a_sentence_of_the_passage_it_cites(split: Split, turns: int) -> None:
    rng = Random(4)
    for _ in range(DRAWS):
        sample = grounded(rng, split, turns=turns, size=rng.choice(list(Size)))
        for message in sample.messages:
            if message.role == "assistant" and message.content != REFUSAL:
                number, _, sentence = message.content.removeprefix("[").partition("] ")
                assert sentence in sample.sources[int(number) - 1]


def test_what_is_located_stands_in_the_passage_that_is_named() -> None:
    rng = Random(7)
    for _ in range(DRAWS):
        sample = located(rng, Split.TRAIN)
        for answer in sample.messages:
            if answer.role == "assistant":
                number, _, sentence = answer.content.removeprefix("[").partition("]")
                assert sentence.strip() in sample.sources[int(number) - 1]


def test_a_refused_question_has_another_question_text_than_the_library_answers() -> None:
    rng = Random(5)
    for _ in range(DRAWS):
        sample = grounded(rng, Split.TRAIN, refuse=True)
        assert sample.answer == REFUSAL


def test_json_answers_parse_and_hold_the_asked_keys() -> None:
    rng = Random(6)
    for _ in range(DRAWS):
        sample = mix.MAKERS["json"](rng, Split.TRAIN)
        record = json.loads(sample.answer)
        assert 1 <= len(record) <= 5
        assert json.dumps(record, ensure_ascii=False) == sample.answer
        asked = " ".join(message.content for message in sample.messages[:-1])
        assert all(key in asked for key in record)


@pytest.mark.parametrize("task", ["echo", "list"])
def test_what_is_copied_stands_in_the_question(task: str) -> None:
    for sample in mix.held_out(task, DRAWS, 8):
        if task == "list" and ":" not in sample.question:
            continue  # a closed set, or bullet points "of" some words
        parts = sample.answer.removeprefix("- ").split("\n- ") if task == "list" else [sample.answer]
        assert all(part in sample.question for part in parts)


def test_counting_reaches_its_end() -> None:
    rng = Random(7)
    for _ in range(DRAWS):
        numbers = [int(n) for n in mix.MAKERS["count"](rng, Split.TRAIN).answer.split(", ")]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert len(numbers) >= 2
        assert numbers[0] >= 0
        assert numbers[-1] <= 300


def test_prompt_ends_where_the_assistant_begins() -> None:
    sample = mix.held_out("chat", 1, 1)[0]
    text = prompt_text(sample.messages[:-1])
    assert text.startswith("<s><|")
    assert text.endswith("</s><|assistant|>")
