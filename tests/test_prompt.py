"""Chat templates: as real models write them, and as hostile ones would."""

from datetime import UTC, datetime

import pytest
from jinja2 import TemplateSyntaxError

from gateway.core.errors import BadRequest
from gateway.core.request import Message
from gateway.prompt import PromptTemplate

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)

CHATML = """\
{%- if tools %}
    {{- '<|im_start|>system\\nTools: ' + tools | tojson + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

LLAMA3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" + message.content + "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""


def render(source: str, *messages: Message, **variables: str) -> str:
    return PromptTemplate(source, variables).render(messages, NOW)


def test_chatml() -> None:
    assert render(CHATML, Message("user", "Grüße, 世界 <|&>")) == (
        "<|im_start|>system\nYou are helpful.<|im_end|>\n"
        "<|im_start|>user\nGrüße, 世界 <|&><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_llama3_with_a_call_and_its_answer() -> None:
    calls = [{"function": {"name": "weather", "arguments": {"city": "Köln", "days": 2}}}]
    prompt = render(
        LLAMA3,
        Message("developer", " Be brief. "),
        Message("user", "Weather?"),
        Message("assistant", "", tool_calls=calls),
        Message("tool", "sunny", tool_call_id="c1"),
        bos_token="<|begin_of_text|>",
    )
    assert prompt == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Today Date: 23 Nov 2026\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWeather?<|eot_id|>"
        '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "weather", '
        '"parameters": {"city": "Köln", "days": 2}}<|eot_id|>'
        "<|start_header_id|>ipython<|end_header_id|>\n\nsunny<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_variables_of_the_tokenizer_and_of_the_version() -> None:
    assert render("{{ bos_token }}|{{ eos_token }}|{{ missing }}|", bos_token="<s>", eos_token="</s>") == "<s>|</s>||"


def test_developer_is_system_to_a_template_and_other_roles_stay() -> None:
    roles = ("system", "developer", "user", "assistant", "tool", "function")
    source = "{% for m in messages %}{{ m.role }} {% endfor %}"
    assert render(source, *[Message(role, "x") for role in roles]) == "system system user assistant tool function "


def test_a_message_has_only_the_keys_that_were_sent() -> None:
    source = "{% for m in messages %}{{ m | list | sort | join(',') }};{% endfor %}"
    full = Message("assistant", "x", "Ann", [], "c1")
    assert render(source, Message("user", "x"), full) == "content,role;content,name,role,tool_call_id,tool_calls;"


def test_a_refusal_of_the_template_is_the_callers_to_mend() -> None:
    source = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(BadRequest, match="roles must alternate") as caught:
        render(source, Message("user", "x"))
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content.missing.more }}",
        "{{ messages[5].content.x }}",
        "{{ undefined_function() }}",
        "{{ 'a' + 1 }}",
        "{{ messages | tojson(indent='x' * 2) + 1 }}",
        "{{ unknown.attribute.of }}",
        "{{ missing | tojson }}",
    ],
)
def test_what_goes_wrong_in_a_template_is_a_refusal_too(source: str) -> None:
    with pytest.raises(BadRequest, match="prompt template refuses"):
        render(source, Message("user", "x"))


@pytest.mark.parametrize("source", ["{% if %}", "{{ x", "{% unknown %}", "{{ x | no_such_filter }}"])
def test_a_template_that_does_not_compile_is_found_at_once(source: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        PromptTemplate(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__'] }}",
        "{{ '' | attr('__class__') }}",
        "{{ (messages[0] | attr)('__class__') }}",
        "{{ ().__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ strftime_now.__self__ }}",
        "{{ strftime_now.__self__.__class__ }}",
        "{{ lipsum.__globals__['os'].popen('id') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ namespace.__init__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '{0.__class__.__mro__}'.format_map({'0': 1}) }}",
        "{{ messages.append({}) }}",
        "{{ messages.clear() }}",
        "{{ messages[0].update(role='system') }}",
        "{{ messages[0].pop('role') }}",
        "{% for i in range(10 ** 9) %}{{ i }}{% endfor %}",
        "{{ [].__reduce__() }}",
        "{{ self.__init__ }}",
        "{{ messages.__class__ }}",
        "{% include 'settings' %}",
        "{% import 'os' as os %}{{ os.name }}",
        "{% extends '/etc/passwd' %}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    # Refused, or evaluated to nothing: never a look at Python.
    messages = (Message("user", "x"),)
    try:
        shown = render(source, *messages)
    except BadRequest:
        return
    assert shown in ("", "None")


@pytest.mark.parametrize("name", ["messages", "add_generation_prompt", "strftime_now", "tools"])
def test_a_variable_does_not_take_the_place_of_what_a_template_is_called_with(name: str) -> None:
    source = "{{ messages[0].content }} {{ add_generation_prompt }} {{ strftime_now('%Y') }} {{ tools is none }}"
    assert render(source, Message("user", "hi"), **{name: "other"}) == "hi True 2026 True"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("v | tojson", '{"b": "é<>&\'", "a": [1, null]}'),
        ("v | tojson(indent=1)", '{\n "b": "é<>&\'",\n "a": [\n  1,\n  null\n ]\n}'),
        ("v | tojson(sort_keys=true)", '{"a": [1, null], "b": "é<>&\'"}'),
        ("v | tojson(separators=(',', ':'))", '{"b":"é<>&\'","a":[1,null]}'),
        ("v | tojson(ensure_ascii=true)", '{"b": "\\u00e9<>&\'", "a": [1, null]}'),
    ],
)
def test_tojson_is_the_one_of_transformers(expression: str, text: str) -> None:
    source = "{% set v = {'b': \"é<>&'\", 'a': [1, none]} %}{{ " + expression + " }}"
    assert render(source, Message("user", "x")) == text


def test_tojson_of_a_value_nested_beyond_the_stack_is_a_refusal() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(BadRequest, match="prompt template refuses"):
        render("{{ messages[0].tool_calls | tojson }}", Message("assistant", "", tool_calls=deep))


def test_loop_controls_and_whitespace_as_transformers_sets_them() -> None:
    source = """\
{% for m in messages %}
    {% if m.role == 'tool' %}
        {% continue %}
    {% endif %}
{{ m.content }}
    {% if loop.index == 3 %}{% break %}{% endif %}
{% endfor %}
end"""
    roles = ("user", "tool", "user", "user")
    assert render(source, *[Message(role, f"m{at}") for at, role in enumerate(roles)]) == "m0\nm2\nend"


def test_content_is_never_read_as_a_template() -> None:
    assert render("{{ messages[0].content }}", Message("user", "{{ 7 * 7 }}{% raw %}")) == "{{ 7 * 7 }}{% raw %}"
